"""Report how the scores rank the zoo's checkpoints: tables, CSV files and a figure.

    python examples/model_selection/report.py zoo=small
    python examples/model_selection/report.py zoo=small 'report.parts=[layers,clusters]'

Each part goes to `report/<part>.md` in the zoo's folder. `zoo` also writes `checkpoints.csv` (every value of
every checkpoint), `ranking.csv` (every score beside every task) and `model_selection.png`. `layers` needs
score_layers.py. Other zoos that have a report can choose the settings (`report.chosen_in=[FOLDER]`), or be
reported as one zoo with this one (`report.together_with=[FOLDER]`).
"""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from lightning_mi.examples.model_selection.analysis import clusters, layers, settings, zoo_report
from lightning_mi.examples.model_selection.zoo import prepare_process

PARTS = {
    "zoo": zoo_report.report,
    "settings": settings.report,
    "layers": layers.report,
    "clusters": clusters.report,
}


@hydra.main(version_base="1.3", config_path="configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Write the parts of the report that ``config`` names."""
    if unknown := set(config.report.parts) - set(PARTS):
        raise ValueError(f"report.parts: got {sorted(unknown)}, expected some of {', '.join(PARTS)}")
    prepare_process(config)
    folder = Path(config.folder) / config.report.name
    folder.mkdir(parents=True, exist_ok=True)
    for part in config.report.parts:
        text = "\n".join(PARTS[part](config, folder)) + "\n"
        (folder / f"{part}.md").write_text(text, encoding="utf-8")
        print(text)
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
