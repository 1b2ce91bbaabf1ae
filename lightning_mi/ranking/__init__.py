"""Models and checkpoints ranked by the bound on the same pairs of held-out speech."""

from lightning_mi.ranking.checkpoints import Checkpoint, UnreadableCheckpointError, find_checkpoints
from lightning_mi.ranking.rank import RankedModel, Ranking, rank_models
from lightning_mi.ranking.report import format_ranking, plot_ranking, write_ranking_csv

__all__ = [
    "Checkpoint",
    "RankedModel",
    "Ranking",
    "UnreadableCheckpointError",
    "find_checkpoints",
    "format_ranking",
    "plot_ranking",
    "rank_models",
    "write_ranking_csv",
]
