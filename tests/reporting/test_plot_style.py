import pytest

from lightning_mi.reporting.plot_style import cell_edges, elide_dotted, ellipsize, natural_order, short_names


@pytest.mark.parametrize(
    ("layers", "names", "common"),
    [
        (["a.b.0", "a.b.1"], ["0", "1"], "a.b.…"),
        (["net.0.out", "net.10.out"], ["0", "10"], "net.….out"),
        (["conv", "encoder.out"], ["conv", "encoder.out"], ""),
        (["layers.1", "layers.1.out"], ["1", "1.out"], "layers.…"),
        (["x"], ["x"], ""),
    ],
)
def test_names_are_short_and_differ(layers, names, common):
    assert short_names(layers) == (names, common)


def test_long_names_are_cut_at_their_beginning():
    (name,), _ = short_names(["model.some.very.long.path.of.layers.3.attention"])
    assert name == "…of.layers.3.attention"
    names, common = short_names([f"model.some.very.long.path.of.layers.{i}" for i in range(2)])
    assert (names, common) == (["0", "1"], "…long.path.of.layers.…")


def test_numbers_in_names_are_in_the_order_of_their_values():
    names = [f"layers.{i}.norm" for i in (10, 9, 100)]
    assert sorted(names, key=natural_order) == [f"layers.{i}.norm" for i in (9, 10, 100)]
    assert sorted(["b2", "a10", "a9"], key=natural_order) == ["a9", "a10", "b2"]


@pytest.mark.parametrize("most", [5, 8, 13, 40])
def test_shortened_text_fits_and_keeps_its_end(most):
    for shorten in (ellipsize, elide_dotted):
        short = shorten("model.encoder.layers.11", most)
        assert len(short) <= most
        assert short.endswith("11")


def test_cells_meet_halfway_between_their_positions():
    assert cell_edges([2.0]) == [1.5, 2.5]
    assert cell_edges([0.0, 2.0, 3.0]) == [-1.0, 1.0, 2.5, 3.5]
