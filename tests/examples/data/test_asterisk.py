"""Prompts and transcripts of packages."""

import gzip

import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("espeakng_loader")
pytest.importorskip("soundfile")

import soundfile

from lightning_mi.examples.data.asterisk import (
    PROMPT_SETS,
    find_prompts,
    is_direction,
    read_transcript,
    spoken_text,
)
from tests.helpers.asterisk_packages import RATE, WORDS, lay_out


def test_transcripts(tmp_path):
    path = tmp_path / "core.txt.gz"
    lines = [
        "\ufeff; a title: of it",
        "",
        "vm-goodbye: Goodbye!",
        "vm-goodbye: Bye",
        "is:",
        "two words: x",
        "beep: [1]",
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert read_transcript(path) == {"vm-goodbye": "Goodbye!", "beep": "[1]"}


@pytest.mark.parametrize(
    ("text", "direction", "words"),
    [
        ("Goodbye!", False, "Goodbye!"),
        ("[this is a simple beep tone]", True, ""),
        ("(1 second of silence)", True, ""),
        ("<beep ascending>", True, ""),
        ("slash [/]", False, "slash"),
        ("Sorry, [that] is not valid.", False, ""),
        ("conf-adminmenu: Press 1.", False, ""),
        ("La conferenza ? piena.", False, ""),
        ("Who is it? Say your name.", False, "Who is it? Say your name."),
    ],
)
def test_what_is_said(text, direction, words):
    assert is_direction(text) == direction
    if not direction:
        assert spoken_text(text) == words


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    texts = {f"p{i:02d}": text for i, text in enumerate(WORDS[:9])} | {"same": WORDS[0].upper() + "."}
    return lay_out(tmp_path_factory.mktemp("packages"), texts)


def test_prompts_are_found(packages):
    found = find_prompts([packages / "nothing", packages])
    assert {(each.language, each.voice) for each in found.prompts} == {(s.language, s.voice) for s in PROMPT_SETS}
    assert "beep" not in {each.name for each in found.prompts}
    raw = next(each for each in found.prompts if each.voice == "July" and each.name == "p00")
    clear = next(each for each in found.prompts if each.voice == "Paola" and each.name == "p00")
    assert raw.text == clear.text == ""
    assert raw.read(RATE).std() > 0.02
    assert abs(len(clear.read(RATE)) / RATE - soundfile.info(clear.path).duration) < 0.01
    assert next(each for each in found.prompts if each.id == "en-us/Allison/p00").text == WORDS[0]


def test_missing_packages_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="apt-get download asterisk-core-sounds-en-wav asterisk-core-sounds-en"
    ):
        find_prompts([tmp_path])
