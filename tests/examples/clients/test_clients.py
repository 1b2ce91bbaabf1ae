"""Other people's models and batches: the callback's value is the one by hand, and training is unchanged."""

from dataclasses import replace

import pytest

from lightning_mi.examples.clients.client import Entry
from lightning_mi.examples.clients.run import Result, registered, run, table, write

ENTRIES = {f"{entry.library}: {entry.name}; {entry.batch}": entry for entry in registered()}
# One of each kind; the others are as slow tests.
QUICK = (
    "output: (B, D, T)",
    "output: a dataclass",
    "fairseq's net_input",
    "forward(source",
    "hubert_pretrain_model",
    "ConvTasNet; ",
    "HubertModel whose forward normalises",
    "MimiModel",
    "WhisperModel",
)
IN_THE_DEFAULT_ENVIRONMENT = ("torch", "torchaudio", "transformers")


def is_quick(name):
    return any(word in name for word in QUICK)


@pytest.mark.parametrize("name", [name for name in ENTRIES if is_quick(name)])
def test_one_of_each_kind(name):
    check(name)


@pytest.mark.slow
def test_all_that_are_installed():
    names = [name for name in ENTRIES if ENTRIES[name].library in IN_THE_DEFAULT_ENVIRONMENT]
    assert len(names) >= 60
    for name in names:
        check(name)


def check(name):
    result = run(ENTRIES[name])
    assert result.is_right, table([result])
    assert result.is_unchanged, table([result])


def test_a_wrong_value_would_be_seen():
    entry = next(entry for name, entry in ENTRIES.items() if "output: (B, D, T)" in name)

    def transposed():
        made = entry.make()
        made.by_hand = lambda x: made.module.model(x).mT
        return made

    result = run(replace(entry, make=transposed))
    assert not result.is_right
    assert "**wrong**" in table([result])


def test_rows_of_other_clients_stay_in_the_table(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("# A\n\n<!-- table -->\n<!-- end of the table -->\n\nEnd.\n")
    results = [Result(Entry("torch", name, "b", list), "", 1.0, 1.0, True, True) for name in ("x", "y", "x")]
    write(results[:2], page)
    write([replace(results[2], value=2.0)], page)
    rows = [line for line in page.read_text().splitlines() if line.startswith("| torch")]
    assert [row.split("|")[5].strip() for row in rows] == ["2.0000", "1.0000"]
    assert page.read_text().endswith("\n\nEnd.\n")
