"""Selection of settings on some runs and their test on others: within a zoo, and from other zoos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_mi.examples.model_selection.analysis.statistics import Floats, choose, regret, spearman
from lightning_mi.examples.model_selection.analysis.table import CHECKPOINTS, Results, in_common, read

BOUNDS = ("mi_bound", "near_minus_far", "content", "later_minus_far", "content_with_later")
BASELINES = ("RankMe", "LiDAR", "alpha-ReQ", "clusters")
FAMILIES = (*BOUNDS, *BASELINES)
ANY_BASELINE = "any baseline"


def columns_of(results: Results, family: str) -> list[int]:
    """Columns of the scores of a family, which is the part of their names before the parenthesis."""
    families = BASELINES if family == ANY_BASELINE else (family,)
    return [number for number, name in enumerate(results.names) if name.split("(")[0] in families]


@dataclass(frozen=True)
class SplitSelection:
    """One half of the runs chooses a setting in each family, the other half is ranked by it; over many splits.

    Attributes:
        spearman: For each family ``(splits,)`` Spearman correlations on the other half.
        regrets: For each family ``(splits,)`` regrets on the other half.
        picks: For each family, how often each score was chosen.
    """

    spearman: dict[str, Floats]
    regrets: dict[str, Floats]
    picks: dict[str, Counter[str]]

    @staticmethod
    def of(results: Results, task: str, splits: int, seed: int) -> SplitSelection:
        """Split the runs in ``splits`` random ways."""
        rng = np.random.default_rng(seed)
        zoo = results.zoo(task)
        families = [name for name in (*FAMILIES, ANY_BASELINE) if columns_of(results, name)]
        values: dict[str, list[float]] = {name: [] for name in families}
        regrets: dict[str, list[float]] = {name: [] for name in families}
        picks: dict[str, Counter[str]] = {name: Counter() for name in families}
        for _ in range(splits):
            half, other = zoo.split_runs(rng)
            here, there, lost = half.value(spearman), other.value(spearman), other.value(regret)
            for name in families:
                setting = choose(here, columns_of(results, name))
                values[name].append(float(there[setting]))
                regrets[name].append(float(lost[setting]))
                picks[name][results.names[setting]] += 1
        return SplitSelection(
            {name: np.array(found) for name, found in values.items()},
            {name: np.array(found) for name, found in regrets.items()},
            picks,
        )


@dataclass(frozen=True)
class CrossZooSelection:
    """Other zoos choose the settings; this one is ranked by them.

    Attributes:
        seen: The zoos that choose.
        fresh: The zoo that is ranked, with the same scores.
        source: Where ``seen`` comes from, in words.
    """

    seen: Sequence[Results]
    fresh: Results
    source: str

    @staticmethod
    def of(results: Results, config: Any) -> CrossZooSelection | None:
        """The zoos that ``chosen_in`` of ``config``, the report's, names choose; ``None`` if it names none.

        Raises:
            FileNotFoundError: If there is no report on one of them.
        """
        folders = list(config.chosen_in)
        if not folders:
            return None
        fresh, *seen = in_common([results, *(read(Path(folder) / "report" / CHECKPOINTS) for folder in folders)])
        count = sum(len(each.checkpoints) for each in seen)
        return CrossZooSelection(
            seen, fresh, f"the {count} checkpoints of {', '.join(f'`{folder}`' for folder in folders)}"
        )

    def chosen(self, task: str, families: Sequence[str]) -> dict[str, int]:
        """Column of each family's setting with the highest mean over the zoos of its Spearman within each."""
        here = np.mean([each.zoo(task).value(spearman) for each in self.seen], axis=0)
        columns = {family: columns_of(self.fresh, family) for family in families}
        return {family: choose(here, found) for family, found in columns.items() if found}
