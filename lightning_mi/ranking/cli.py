"""The command line: ``lightning-mi rank``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_mi.ranking.hydra_config import (
    ConfigError,
    compose_config,
    rank_checkpoints,
    start_folder,
    with_absolute_paths,
)

_RANKED, _NONE_RANKED, _MISUSED = 0, 1, 2

_DESCRIPTION = """\
Rank checkpoints by a lower bound on the mutual information of two segments of an
utterance, in nats. No labels are needed. All checkpoints are scored on the same pairs of
segments of the same held-out speech. The ranking is printed as a table, written as CSV
and drawn as a plot.

The speech, the model and the settings of the bound come from a Hydra config, the same as
in examples/train.py: `data`, `model`, `callbacks.mi_bound`, and `trainer` for the device
and the precision.
"""

_EPILOG = """\
arguments:
  A CHECKPOINT is a file, a folder (all *.ckpt in it and below) or a glob in quotes. If
  one cannot be read, it is listed with the reason, and the others are ranked.
  An OVERRIDE has Hydra's syntax: KEY=VALUE, +KEY=VALUE, GROUP=CHOICE, ~KEY.
  An argument that names an existing file or ends in .ckpt is a checkpoint even if it
  contains "=".

examples:
  The checkpoints of `make demo`, and the untrained model:
    lightning-mi rank runs/2026-01-31_12-00-00/checkpoints --untrained
  With the config of that run, which Hydra keeps in its folder:
    lightning-mi rank runs/2026-01-31_12-00-00 --config runs/2026-01-31_12-00-00
  Another model, your own recordings, more clusters:
    lightning-mi rank 'runs/*/checkpoints/*.ckpt' model=hubert \\
      data=audio_folder data.root=DIR callbacks.mi_bound.num_clusters=64
  Your own config, which may use groups of lightning_mi.configs:
    lightning-mi rank epoch=3-step=900.ckpt --config conf/train.yaml

exit status: 0; 1 if no model could be ranked; 2 if the arguments or the config are wrong, or a file
cannot be written.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments of the command line. ``None``: those of the process.

    Returns:
        The exit status: 0; 1 if no model could be ranked; 2 if the config is wrong, a package is missing or a
        file cannot be written.

    Raises:
        SystemExit: With 2 if the arguments are wrong, with 0 after ``--help``.

    Example:
        >>> main(["rank", "none-here.ckpt", "--config", "none-here.yaml"])  # the reason goes to stderr
        2
    """
    parser = argparse.ArgumentParser(
        prog="lightning-mi",
        description="A label-free lower bound on mutual information for speech models, in nats.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    rank = commands.add_parser(
        "rank",
        help="rank checkpoints by the bound on one set of held-out speech",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="lightning-mi rank CHECKPOINT... [--config NAME_OR_PATH] [option ...] [OVERRIDE ...]",
    )
    rank.add_argument("arguments", nargs="*", metavar="CHECKPOINT | OVERRIDE", help="in any order")
    rank.add_argument(
        "--config",
        default="train",
        metavar="NAME_OR_PATH",
        help="name of a config of lightning_mi.configs, a YAML file, or a folder with train.yaml or config.yaml "
        "in it or in its .hydra (default: train)",
    )
    rank.add_argument(
        "--untrained",
        action="store_true",
        help="also rank the untrained model, as a baseline",
    )
    rank.add_argument(
        "--csv",
        default="mi_ranking.csv",
        metavar="PATH",
        help="path of the table; '' to write none (default: %(default)s)",
    )
    rank.add_argument(
        "--plot",
        metavar="PATH",
        help="path of the plot, .png or .pdf; '' to draw none (default: mi_ranking.png, if there is matplotlib)",
    )
    rank.add_argument(
        "--trust",
        action="store_true",
        help="also read checkpoints that hold more than weights; this runs code from the files",
    )
    rank.add_argument("--no-progress", action="store_true", help="show no progress bar")
    options, rest = parser.parse_known_args(argv)
    if unknown := [argument for argument in rest if argument.startswith("-")]:
        rank.error(f"unknown options: {' '.join(unknown)}")
    options.arguments += rest  # argparse takes positional arguments of one place only
    paths, overrides = split_arguments(options.arguments)
    if not paths and not options.untrained:
        rank.error("got no checkpoint: name a file, a folder or a glob, or pass --untrained")
    try:
        return _rank(options, paths, overrides)
    except (ConfigError, ModuleNotFoundError) as error:
        print(f"lightning-mi rank: {error}", file=sys.stderr)
        return _MISUSED


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into checkpoints and Hydra's overrides.

    An argument is a checkpoint if it exists, ends in ``.ckpt`` (Lightning's file names contain ``=``) or contains
    no ``=``. ``~KEY`` is an override.

    Args:
        arguments: Arguments of the command line without options.

    Returns:
        Checkpoints and overrides, each in the order given.

    Example:
        >>> split_arguments(["last.ckpt", "runs", "model=apc", "epoch=3-step=90.ckpt", "~logger"])
        (['last.ckpt', 'runs', 'epoch=3-step=90.ckpt'], ['model=apc', '~logger'])
    """
    paths: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        is_deletion = re.match(r"~[^/]", argument) is not None
        is_assignment = "=" in argument and not argument.endswith(".ckpt")
        is_override = (is_deletion or is_assignment) and not os.path.exists(argument)
        (overrides if is_override else paths).append(argument)
    return paths, overrides


def _rank(options: argparse.Namespace, paths: Sequence[str], overrides: Sequence[str]) -> int:
    from lightning_mi.ranking.checkpoints import find_checkpoints
    from lightning_mi.ranking.report import check_can_plot, format_ranking, plot_ranking, write_ranking_csv

    config = compose_config(options.config, overrides)
    if options.plot:
        try:
            check_can_plot(options.plot)
        except ValueError as error:
            raise ConfigError(f"--plot {options.plot}: {error}") from error
    plot = "mi_ranking.png" if options.plot is None else options.plot
    for option, path in {"--csv": options.csv, "--plot": plot}.items():
        check_can_write(option, path)
    folder = start_folder(options.config)
    if folder != Path.cwd():
        config = with_absolute_paths(config, overrides)
    ranking = rank_checkpoints(
        find_checkpoints(paths), config, options.untrained, options.trust, not options.no_progress, folder
    )
    print(format_ranking(ranking))
    if not ranking.models:
        print(
            "lightning-mi rank: no model could be ranked. Choose the model of the checkpoints (model=...) and "
            "speech to validate on (data=...), or pass the run's own config (--config).",
            file=sys.stderr,
        )
        return _NONE_RANKED
    try:
        if options.csv:
            write_ranking_csv(ranking, options.csv)
            print(f"table: {options.csv}")
        if plot:
            plot_ranking(ranking, plot)
            print(f"plot: {plot}")
    except ModuleNotFoundError as error:
        print(f"no plot: {error}", file=sys.stderr)
    except OSError as error:  # the disk is full, or the folder has gone since
        raise ConfigError(f"the ranking cannot be written: {error}") from error
    return _RANKED


def check_can_write(option: str, path: str) -> None:
    """Raise before the models are validated if a file cannot be written.

    Args:
        option: The option that names it.
        path: Its path; ``""`` is none.

    Raises:
        ConfigError: If it cannot be opened for writing.

    Example:
        >>> check_can_write("--csv", "")
    """
    if not path:
        return
    existed = os.path.exists(path)
    try:
        with open(path, "ab"):
            pass
        if not existed:
            os.remove(path)
    except OSError as error:
        raise ConfigError(
            f"{option}: {os.path.abspath(path)} cannot be written: {error.strerror}. "
            "Pass another path, or '' for none."
        ) from error
