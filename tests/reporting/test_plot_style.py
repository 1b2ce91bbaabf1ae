import pytest

from lightning_mi.reporting.plot_style import cell_edges, ellipsize, ellipsize_all, natural_order, short_names


@pytest.mark.parametrize(
    ("layers", "names", "common"),
    [
        (["a.b.0", "a.b.1"], ["0", "1"], "a.b.*"),
        (["net.0.out", "net.10.out"], ["0", "10"], "net.*.out"),
        (["conv", "encoder.out"], ["conv", "encoder.out"], ""),
        (["layers.1", "layers.1.out"], ["1", "1.out"], "layers.*"),
        (["x"], ["x"], ""),
    ],
)
def test_names_are_short_and_differ(layers, names, common):
    assert short_names(layers) == (names, common)


def test_long_names_are_cut_at_their_beginning():
    (name,), _ = short_names(["model.some.very.long.path.of.layers.3.attention"])
    assert name == "…of.layers.3.attention"
    names, common = short_names([f"model.some.very.long.path.of.layers.{i}" for i in range(2)])
    assert (names, common) == (["0", "1"], "…long.path.of.layers.*")


def test_numbers_in_names_are_in_the_order_of_their_values():
    names = [f"layers.{i}.norm" for i in (10, 9, 100)]
    assert sorted(names, key=natural_order) == [f"layers.{i}.norm" for i in (9, 10, 100)]
    assert sorted(["b2", "a10", "a9"], key=natural_order) == ["a9", "a10", "b2"]


@pytest.mark.parametrize("most", [5, 8, 13, 40])
def test_shortened_text_fits_and_keeps_its_end(most):
    for separator in ("", "."):
        short = ellipsize("model.encoder.layers.11", most, separator)
        assert len(short) <= most
        assert short.endswith("11")


LONG = "transformer.layers.3.attention.out_projection"


@pytest.mark.parametrize(
    "names",
    [
        [f"{run}/checkpoints/epoch=99-step=50000.ckpt" for run in ("2026-01-01", "2026-01-02", "last")],
        [f"front.{LONG}", f"back.{LONG}", "head.x"],
        [f"{LONG}.{middle}.{LONG}" for middle in "ab"],  # alike at both ends
        ["x", "x.y", f"x.{LONG}", LONG],
    ],
)
def test_shortened_names_are_distinct_if_the_names_are(names):
    for shortened in (ellipsize_all(names, 22), ellipsize_all(names, 22, "."), short_names(names)[0]):
        assert len(set(shortened)) == len(names)
    assert len(set(ellipsize_all([*names, names[0]], 22))) == len(names)


def test_cells_meet_halfway_between_their_positions():
    assert cell_edges([2.0]) == [1.5, 2.5]
    assert cell_edges([0.0, 2.0, 3.0]) == [-1.0, 1.0, 2.5, 3.5]
