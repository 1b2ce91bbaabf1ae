"""Hydra configs for a ranking: the model, the speech and the settings of the bound."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any


class ConfigError(ValueError):
    """The config cannot be composed or lacks a key."""


def compose_config(name_or_path: str, overrides: Sequence[str]) -> Any:
    """Compose a Hydra config, with the groups of ``lightning_mi.configs`` on the search path.

    Args:
        name_or_path: A config of ``lightning_mi.configs``; a YAML file; or a folder with ``train.yaml`` or
            ``config.yaml`` in it or in its ``.hydra``, where Hydra keeps the config of a run.
        overrides: Overrides in Hydra's syntax.

    Returns:
        The config, a ``DictConfig``.

    Raises:
        ConfigError: If there is no such config or it cannot be composed; the message is Hydra's.
        ModuleNotFoundError: If hydra-core is not installed; the message gives the command to install it.

    Example:
        >>> compose_config("train", ["data.batch_size=8"]).data.batch_size
        8
    """
    try:
        from hydra import compose, initialize_config_dir, initialize_config_module
        from hydra.core.global_hydra import GlobalHydra
        from hydra.errors import HydraException
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError  # type: ignore[import-untyped,unused-ignore]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"configs need Hydra, which cannot be imported ({error}); install it with: "
            "pip install 'lightning-mi[hydra]'"
        ) from error
    ours = "pkg://lightning_mi.configs"
    searched: list[str] = []
    initialize: Callable[[], AbstractContextManager[Any]]
    initialize = partial(initialize_config_module, "lightning_mi.configs", version_base="1.3")
    name = name_or_path
    outer = GlobalHydra.instance().hydra  # that of a Hydra program or a notebook, if any
    try:
        if file := _config_file(name_or_path):
            own = OmegaConf.select(OmegaConf.load(file), "hydra.searchpath") or []
            searched = [f"hydra.searchpath=[{','.join(dict.fromkeys([*own, ours]))}]"]
            initialize = partial(initialize_config_dir, str(file.parent.absolute()), version_base="1.3")
            name = file.stem
        GlobalHydra.instance().clear()
        with initialize():
            return compose(name, overrides=[*searched, *overrides])
    except (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"--config {name_or_path}: {error}") from error
    finally:
        GlobalHydra.instance().hydra = outer


def _config_file(name_or_path: str) -> Path | None:
    """The YAML file, or ``None`` for the name of a config in ``lightning_mi.configs``."""
    path = Path(name_or_path)
    if path.is_dir():
        places = [path / sub / f"{name}.yaml" for sub in ("", ".hydra") for name in ("train", "config")]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            looked_for = ", ".join(str(place.relative_to(path)) for place in places)
            raise ConfigError(f"--config {name_or_path}: the folder must hold one of {looked_for}")
        return found
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if not path.is_file():
            raise ConfigError(f"--config {name_or_path}: no such file")
        return path
    return None


def start_folder(name_or_path: str) -> Path:
    """The folder that relative paths of a config are meant from.

    Args:
        name_or_path: As in :func:`compose_config`.

    Returns:
        Where the run was started, if the config is the one that Hydra has kept of it and that folder still exists;
        else the working directory.

    Example:
        >>> start_folder("train") == Path.cwd()
        True
    """
    from omegaconf import OmegaConf

    file = _config_file(name_or_path)
    kept = None if file is None else file.with_name("hydra.yaml")
    if kept is None or kept.parent.name != ".hydra" or not kept.is_file():
        return Path.cwd()
    folder = Path(OmegaConf.select(OmegaConf.load(kept), "hydra.runtime.cwd") or "")
    return folder if folder.is_absolute() and folder.is_dir() else Path.cwd()


def with_absolute_paths(config: Any, overrides: Sequence[str]) -> Any:
    """The config, with those values of ``overrides`` that name something here as absolute paths.

    Args:
        config: Was composed with the overrides; it is changed.
        overrides: Overrides in Hydra's syntax. Those of groups (``data=espeak``) hold no paths.

    Example:
        >>> config = compose_config("train", ["data.root=."])
        >>> with_absolute_paths(config, ["data.root=."]).data.root == str(Path.cwd())
        True
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    def absolute(value: Any) -> Any:
        if isinstance(value, list):
            return [absolute(each) for each in value]
        return os.path.abspath(value) if isinstance(value, str) and value and os.path.exists(value) else value

    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key, value = override.key_or_group, override.value()
        if "." in key and absolute(value) != value:
            OmegaConf.update(config, key, absolute(value))
    return config


@contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def rank_checkpoints(
    paths: Sequence[str],
    config: Any,
    untrained: bool = False,
    trust: bool = False,
    progress_bar: bool = True,
    folder: str | Path = ".",
) -> Any:
    """Rank checkpoints of the config's model on the config's validation speech.

    Args:
        paths: Paths of the checkpoints.
        config: A config with the keys ``data`` (a LightningDataModule), ``model``, ``callbacks`` (with one
            :class:`~lightning_mi.MIBoundCallback`), and optionally ``trainer`` and ``seed``. Each but the last has
            a ``_target_``.
        untrained: Whether to rank also the untrained model, named ``"untrained"``.
        trust: See :class:`~lightning_mi.ranking.Checkpoint`.
        progress_bar: Whether to show a progress bar on a terminal.
        folder: Folder that relative paths in ``config`` are meant from (:func:`start_folder`).

    Returns:
        The :class:`~lightning_mi.ranking.Ranking`.

    Raises:
        ConfigError: If ``config`` lacks a key or a value, or a part of it cannot be built.
    """
    import lightning.pytorch as pl
    from hydra.errors import HydraException
    from hydra.utils import instantiate
    from lightning.pytorch import Trainer
    from omegaconf.errors import OmegaConfBaseException

    from lightning_mi.ranking.checkpoints import Checkpoint
    from lightning_mi.ranking.rank import rank_models

    for key in ("data", "model"):
        if not config.get(key):
            raise ConfigError(
                f"the config must have the key `{key}`, got {', '.join(config)}; see configs/train.yaml"
            )
    callbacks = [
        node
        for node in (config.get("callbacks") or {}).values()
        if str((node or {}).get("_target_")).endswith("MIBoundCallback")
    ]
    if not callbacks:
        raise ConfigError(
            "the config must have an MIBoundCallback in `callbacks`, got none; add callbacks=mi_bound"
        )

    seed = config.get("seed", 0)
    if not isinstance(seed, int | None):
        raise ConfigError(f"`seed` must be an integer, got {seed!r}")

    def build() -> Any:
        # Seeded anew, so that the untrained model has the weights that training began with.
        pl.seed_everything(seed, workers=True, verbose=False)
        return instantiate(config.model)

    models: dict[str, Any] = {path: Checkpoint(os.path.abspath(path), build, trust) for path in paths}
    trainer = partial(instantiate, config.trainer) if config.get("trainer") else Trainer
    try:
        with _in_folder(Path(folder)):
            if untrained:
                models["untrained"] = build()
            data, callback = instantiate(config.data), partial(instantiate, callbacks[0])
            return rank_models(models, data, callback, trainer, progress_bar)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"a part of the config cannot be built: {error}") from error
