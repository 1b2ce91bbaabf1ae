"""Reports of a ranking: a text table, a CSV file and a plot."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_mi.estimator.group_scores import significance_factor
from lightning_mi.ranking.rank import RankedModel, Ranking
from lightning_mi.reporting.plot_style import (
    BLUE,
    VERMILLION,
    ellipsize,
    ellipsize_all,
    natural_order,
    new_figure,
    plain_style,
)
from lightning_mi.validation.estimates import Key

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_LABEL = 40  # characters
_AXES_WIDTH = 6.2  # inches, for both axes
_LETTER_WIDTH = 0.085


def format_ranking(ranking: Ranking) -> str:
    """The ranking as plain text.

    It has a table of the models, a table of the layers and gaps if there are several, and the models that were
    left out, with the reason. Paths are shown relative to the folder that they share.

    Args:
        ranking: The ranking; it may hold no model.

    Returns:
        Lines of text, bounds and differences in nats.

    Example:
        >>> from lightning_mi import MIEstimate
        >>> estimate = MIEstimate(bound=1.5, stderr=0.1, entropy=4.0, cross_entropy=2.5, ceiling=4.85,
        ...                       num_clusters=128, active_clusters=120, num_pairs=2000, num_groups=2000)
        >>> best = RankedModel("hubert", 1.5, 0.1, 0.0, 0.0, 2000, 0, {("output", "near"): estimate})
        >>> print(format_ranking(Ranking((best,), {"apc": "no such file"})))
        rank  model    bound ± stderr   delta to best ± stderr   pairs   skipped
           1  hubert    1.500 ± 0.100                          2000         0
        Bounds on mutual information in nats, at most 4.850 (log K) each.
        left out: apc: no such file
    """
    lines: list[str] = []
    if ranking.models:
        labels, folder = _labels([model.name for model in ranking.models])
        width = max(5, *(len(label) for label in labels))
        score = f"{ranking.by} ± stderr"
        score_width = max(14, len(score))
        lines.append(
            f"rank  {'model':<{width}}   {score:>{score_width}}   delta to best ± stderr   pairs   skipped"
        )
        for rank, (label, model) in enumerate(zip(labels, ranking.models, strict=True), start=1):
            below = f"{model.delta_to_best:.3f} ± {model.delta_to_best_stderr:.3f}" if rank > 1 else ""
            lines.append(
                f"{rank:>4}  {label:<{width}}   {'{:.3f} ± {:.3f}'.format(*model.score):>{score_width}}   "
                f"{below:>19}   {model.pairs:>5}   {model.skipped:>7}"
            )
        if folder:
            lines.append(f"Models are in {folder}.")
        if ranking.by == "content":
            lines.append("Content: the bound of views of one moment minus that of distant moments, in nats.")
        lines.append(f"Bounds on mutual information in nats, {_ceiling(ranking.models)}.")
        lines += _notes(ranking.models)
        lines += _table_of_parts(ranking.models)
    for reason in dict.fromkeys(ranking.left_out.values()):
        names = ", ".join(name for name, its_reason in ranking.left_out.items() if its_reason == reason)
        lines.append(f"left out: {names}: {reason}")
    return "\n".join(lines)


def write_ranking_csv(ranking: Ranking, path: str | Path) -> None:
    """Write the ranked models to a CSV file in full precision, one row a model, the best first.

    Columns: ``rank``, ``name``, ``bound``, ``stderr``, ``delta_to_best``, ``delta_to_best_stderr`` (nats),
    ``pairs``, ``skipped``, ``ceiling`` (nats); if models are ranked by content, also ``content`` and
    ``content_stderr`` (nats). If a model has several layers or gaps, also
    ``layers/<layer>/bound`` and ``gap_<gap>/bound`` with their ``stderr``, named as the callback logs them. A
    model that lacks a layer has empty cells there. Models that were left out have no row.

    Args:
        ranking: The ranking.
        path: Path of the file. An existing file is overwritten, and missing folders are created.

    Example:
        >>> import tempfile
        >>> from lightning_mi import MIEstimate
        >>> estimate = MIEstimate(bound=1.5, stderr=0.1, entropy=4.0, cross_entropy=2.5, ceiling=4.85,
        ...                       num_clusters=128, active_clusters=120, num_pairs=2000, num_groups=2000)
        >>> best = RankedModel("hubert", 1.5, 0.1, 0.0, 0.0, 2000, 0, {("output", "near"): estimate})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_ranking_csv(Ranking((best,), {}), f"{folder}/ranking.csv")
        ...     print(Path(folder, "ranking.csv").read_text().splitlines()[1])
        1,hubert,1.5,0.1,0.0,0.0,2000,0,4.85
    """
    parts = _parts(ranking.models)
    columns = [
        "rank",
        "name",
        "bound",
        "stderr",
        "delta_to_best",
        "delta_to_best_stderr",
        "pairs",
        "skipped",
        "ceiling",
    ]
    if ranking.by == "content":
        columns += ["content", "content_stderr"]
    columns += [f"{part}/{what}" for part in parts for what in ("bound", "stderr")]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for rank, model in enumerate(ranking.models, start=1):
            row: dict[str, Any] = {name: getattr(model, name) for name in columns[1:8]}
            row |= {"rank": rank, "ceiling": next(iter(model.estimates.values())).ceiling}
            if ranking.by == "content":
                row["content"], row["content_stderr"] = model.score
            for part, keys in parts.items():
                estimate = next((model.estimates[key] for key in keys if key in model.estimates), None)
                if estimate is not None:
                    row |= {f"{part}/bound": estimate.bound, f"{part}/stderr": estimate.stderr}
            writer.writerow(row)


def check_can_plot(path: str | Path | None = None) -> None:
    """Raise an error if :func:`plot_ranking` cannot draw to this path.

    Args:
        path: Path of the figure; ``None``: it is not written.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed; the message gives the command to install it.
        ValueError: If the path's ending names no format that matplotlib writes.

    Example:
        >>> check_can_plot("ranking.pdf")
    """
    try:
        import matplotlib.figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the plot of a ranking needs matplotlib, which cannot be imported ({error}); install it with: "
            "pip install 'lightning-mi[plot]'"
        ) from error
    ending = "" if path is None else Path(path).suffix.lower()
    known = [f".{name}" for name in matplotlib.figure.Figure().canvas.get_supported_filetypes()]
    if ending and ending not in known:
        raise ValueError(f"{ending!r} is no format of matplotlib; expected an ending out of {', '.join(known)}")


def plot_ranking(ranking: Ranking, path: str | Path | None = None) -> Figure:
    """Draw each model's bound and its delta to the best, with bars of two standard errors (more with few
    groups) to either side.

    Args:
        ranking: The ranking, with at least one model.
        path: Path of the figure, in the format of its ending (``.png``, ``.pdf``, ...); missing folders are
            created. ``None``: it is not written.

    Returns:
        The figure, in nats. It belongs to no window and needs no display.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        ValueError: If no model was ranked, or the path's ending names no format that matplotlib writes.

    Example:
        >>> from lightning_mi import MIEstimate
        >>> estimate = MIEstimate(bound=1.5, stderr=0.1, entropy=4.0, cross_entropy=2.5, ceiling=4.85,
        ...                       num_clusters=128, active_clusters=120, num_pairs=2000, num_groups=2000)
        >>> best = RankedModel("hubert", 1.5, 0.1, 0.0, 0.0, 2000, 0, {("output", "near"): estimate})
        >>> plot_ranking(Ranking((best,), {})).axes[1].get_xlabel().splitlines()
        ['delta to best (paired),', '± 2 standard errors (nats)']
    """
    check_can_plot(path)
    if not ranking.models:
        raise ValueError("`ranking` must hold at least one ranked model to draw, got none. See its `left_out`.")
    with plain_style():
        figure = _draw(ranking.models, ranking.by)
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path)
    return figure


def _draw(models: Sequence[RankedModel], by: str) -> Figure:
    from matplotlib.ticker import MaxNLocator

    labels, folder = _labels([model.name for model in models])
    labels = ellipsize_all(labels, _MAX_LABEL)
    rows = list(range(len(models)))
    width = _AXES_WIDTH + _LETTER_WIDTH * max(len(label) for label in labels)
    figure = new_figure(width, 1.7 + 0.28 * len(models))
    figure.set_layout_engine("constrained", wspace=0.06)  # ticks of the two axes stay apart
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    style: dict[str, Any] = {"linestyle": "", "markersize": 6, "capsize": 3, "elinewidth": 1.2}
    left.errorbar(
        [model.score[0] for model in models],
        rows,
        xerr=[_factor(model) * model.score[1] for model in models],
        marker="o",
        color=BLUE,
        **style,
    )
    right.errorbar(
        [model.delta_to_best for model in models],
        rows,
        xerr=[_factor(model) * model.delta_to_best_stderr for model in models],
        marker="s",
        color=VERMILLION,
        **style,
    )
    for axes in (left, right):
        axes.axvline(0, color="0.4", linestyle=":", linewidth=1)
    left.set_yticks(rows, labels)
    left.set_ylim(len(models) - 0.5, -0.5)
    if by == "bound":
        left.set_xlim(left=-0.03 * left.get_xlim()[1])  # the marker of a bound of 0 is not cut
    if not any(model.delta_to_best_stderr > 0 for model in models):  # the best alone, or only nan
        right.set_xlim(-0.1, 1)
    quantity = "mutual information of two segments,\nlower bound"
    if by == "content":
        quantity = "content (same minus far),\ndifference of bounds"
    left.set_xlabel(f"{quantity} ± 2 standard errors (nats)")
    right.set_xlabel("delta to best (paired),\n± 2 standard errors (nats)")
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
    left.xaxis.set_major_locator(MaxNLocator(5))
    right.xaxis.set_major_locator(MaxNLocator(4))
    if folder:
        figure.suptitle(f"models in {ellipsize(folder, int(10 * width), os.sep)}", fontsize="small")
    return figure


def _labels(names: Sequence[str]) -> tuple[list[str], str]:
    """Names, with paths relative to the folder that they share, and that folder.

    Names stay as they are if there is no such folder or two of them would become equal.
    """
    folders = [os.path.dirname(name) for name in names if os.path.dirname(name)]
    if not folders or any(os.path.isabs(folder) != os.path.isabs(folders[0]) for folder in folders):
        return list(names), ""
    common = os.path.commonpath(folders)
    if not common:
        return list(names), ""
    labels = [os.path.relpath(name, common) if os.path.dirname(name) else name for name in names]
    return (labels, common) if len(set(labels)) == len(set(names)) else (list(names), "")


def _ceiling(models: Sequence[RankedModel]) -> str:
    ceilings = sorted({round(next(iter(model.estimates.values())).ceiling, 3) for model in models})
    if len(ceilings) == 1:
        return f"at most {ceilings[0]:.3f} (log K) each"
    return f"at most log K each, which differs: {', '.join(f'{ceiling:.3f}' for ceiling in ceilings)}"


def _factor(model: RankedModel) -> float:
    """Standard errors of an interval: 2, more if the model has few groups."""
    return significance_factor(next(iter(model.estimates.values())).num_groups)


def _notes(models: Sequence[RankedModel]) -> list[str]:
    """Lines below the table that help to read the differences."""
    notes = []
    level = sum(model.delta_to_best <= _factor(model) * model.delta_to_best_stderr for model in models[1:])
    if level:
        notes.append(f"Models not significantly below the best (less than two standard errors): {level}.")
    if len({model.pairs for model in models}) > 1:
        notes.append("The numbers of pairs differ. A delta is taken over the pairs that both models have.")
    return notes


def _parts(models: Sequence[RankedModel]) -> dict[str, list[Key]]:
    """Keys of the estimates by the names of layers and gaps, as the callback logs them.

    Layers come first, numbers in their names by value. Empty if no model has several layers or gaps.
    """
    parts: dict[str, list[Key]] = {}
    for model in models:
        primary_layer, primary_gap = next(iter(model.estimates))
        layers = [key for key in model.estimates if key[1] == primary_gap]
        gaps = [key for key in model.estimates if key[0] == primary_layer]
        for layer, gap in layers if len(layers) > 1 else []:
            parts.setdefault(f"layers/{layer}", []).append((layer, gap))
        for layer, gap in gaps if len(gaps) > 1 else []:
            parts.setdefault(f"gap_{gap}", []).append((layer, gap))
    in_order = sorted((part for part in parts if part.startswith("layers/")), key=natural_order)
    return {part: parts[part] for part in [*in_order, *(part for part in parts if part not in in_order)]}


def _table_of_parts(models: Sequence[RankedModel]) -> list[str]:
    parts = _parts(models)
    if not parts:
        return []
    width = max(len(part) for part in parts)
    lines = [f"{'bound by rank':<{width}} " + "".join(f"{rank:>7}" for rank in range(1, len(models) + 1))]
    for part, keys in parts.items():
        cells = []
        for model in models:
            found = [model.estimates[key].bound for key in keys if key in model.estimates]
            cells.append(f"{found[0]:>7.3f}" if found else " " * 7)
        lines.append((f"{part:<{width}} " + "".join(cells)).rstrip())
    return lines
