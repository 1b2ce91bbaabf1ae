"""The Trainer's hooks: the order in which a validation epoch happens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from typing_extensions import override

from lightning_mi.controls.fingerprints import fingerprint
from lightning_mi.controls.input_baseline import log_mel
from lightning_mi.distributed import gather
from lightning_mi.embedding.encoder import Encoder, Pooling, find_encoder
from lightning_mi.embedding.strategy import StrategyForward
from lightning_mi.estimator import MIEstimate
from lightning_mi.estimator.checks import check_choice, check_int, check_positive_int, check_positive_number
from lightning_mi.estimator.num_clusters import FIT_PAIRS_PER_CLUSTER, capped_num_clusters, default_num_clusters
from lightning_mi.estimator.registry import PROBES
from lightning_mi.inputs.batches import Waveforms, check_waveforms, waveforms_in_batch
from lightning_mi.inputs.channels import Channels
from lightning_mi.inputs.labels import parse_labels
from lightning_mi.inputs.layout import parse_time_dim
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from lightning_mi.metrics.bounds import LabeledMIBound, MIBound, NullBound
from lightning_mi.reporting.loggers import Pictures, lay_out
from lightning_mi.reporting.metric_names import details, labeled_details
from lightning_mi.reporting.run_state import Memory
from lightning_mi.setting import choose_setting
from lightning_mi.validation.epoch import (
    BEST_LAYER,
    Key,
    NoEstimateError,
    NullControl,
    ValidationEpoch,
)

K = TypeVar("K", bound=str | Key)

_SIGNIFICANT = 3.0  # standard errors of the null above 0,
_NEGLIGIBLE = 1e-3  # nats, which do not matter whatever their error
_FEW_COPIES = 0.01  # of the utterances


class MIBoundCallback(Callback):
    r"""Log a lower bound on the mutual information of two segments of an utterance at every validation.

    At each validation batch it cuts two segments out of every utterance, encodes each on its own with the
    model being trained, and keeps one pooled embedding a segment. At the end of the epoch it logs

    .. math::
        I(Z_a; Z_b) \geq H(c) - \mathbb{E}[-\log q(c \mid z_a)], \qquad c = f(z_b)

    with a k-means quantiser :math:`f` and a linear probe :math:`q`, in nats, held out: see
    :func:`lightning_mi.mi_bound`. It needs validation batches that hold waveforms, and no labels. With
    ``time_dim`` these are sequences of anything else: log-mel frames, EEG, features of a video.

    Logged, in ``fit``, ``validate`` and ``test`` alike, on every process: ``val/mi_bound`` (``log_name``), and
    under ``mi_bound/`` (the last part of ``log_name``) ``stderr``, ``entropy``, ``cross_entropy``, ``ceiling``
    (log K), ``input`` (the same bound of the input's frames), ``null`` and ``null_stderr`` (of pairs that were
    shuffled: 0 within its error), ``active_clusters``, ``pairs``, ``skipped`` (utterances left out) and
    ``seconds`` (wall clock of this callback, the slowest process). In ``fit``, from the second value on, ``gain``
    and ``gain_stderr``: by how much the bound is above that of the best epoch before, utterance by utterance, and
    the standard error of that difference.
    With several gaps also ``gap_<name>/bound`` and ``gap_<name>/stderr``, with both
    "near" and "far" the difference ``local`` (see :func:`lightning_mi.reporting.metric_names.details`) and ``local_stderr``, with
    ``layers``
    ``layers/<name>/bound`` and ``layers/<name>/stderr``, with ``labels`` ``labels/<name>/bound``,
    ``labels/<name>/stderr`` and ``labels/<name>/entropy``, and with both ``labels/<name>/layers/<name>/bound``.

    Which segments, and which pairs where there are more than ``max_pairs``, depends on the utterance's
    samples and the seed alone: a resumed run goes on with the same curve.

    A guest: weights, buffers, modes, counters, gradients, the optimiser and all random generators are as they
    would be without it, and what ``torch.compile`` has compiled is left alone (see
    :func:`lightning_mi.embedding.isolation.isolated` for what cannot be seen). Models that a strategy shards are called through
    it, on every process once a batch.

    Memory, on the model's device: ``max_pairs * (1 + gaps) * layers * D * 4`` bytes of embeddings (25 MB for
    4096 pairs of one layer with D = 768; half as much again for a moment while their room grows), and the
    segments of one batch, which are encoded in calls no larger than the batch itself. All is given back at the
    end of the epoch.

    Args:
        num_clusters: K of the k-means. ``None``: one for each 32 pairs, a power of two from 4 to 128, where the
            bound of speech models is about highest. Lowered, with one warning, where there are fewer than 8 pairs
            for each.
        max_pairs: The most pairs that are used. Where there are more, first pairs of all utterances come first.
        segment_seconds: Length of a segment.
        gap_seconds: Distance between the segments: seconds, ``"near"`` (0), ``"far"`` (random, at least half a
            second), or a list of these. Of a list the first is the primary, and each has its own bound.
        sample_rate: Of the validation waveforms, in Hz; with ``time_dim`` the frames a second, such as 31.25.
            Segments and gaps are rounded to whole samples (frames).
        layers: Names or globs of submodules whose outputs are to be embedded, or ``"all"`` for the blocks of
            the encoder. Each has its own bound. ``None``: the encoder's output.
        pooling: How frames become one vector: ``"mean"``, or ``"boundary"`` (the last frame of the first
            segment and the first frame of the second). ``None``: ``"boundary"``, or ``"mean"`` with ``time_dim``.
            ``None`` here, in ``quantizer`` and in ``channels`` is the setting whose bound went with what speech
            models are good for, and the paper's where there is no such evidence (:mod:`lightning_mi.setting`).
        embed: What encodes waveforms: a dotted name of a submodule or method of the LightningModule, or a
            callable of the waveforms ``(B, T)`` (or of the module and the waveforms) that returns
            ``(B, T', D)`` or ``(B, D)``. ``None``: a torchaudio or transformers speech model anywhere inside the
            module, else its ``forward``.
        every_n_epochs: In ``fit``, log the bound at the first and then every n-th epoch only; in between, early
            stopping sees the last value again.
        seed: Of the segments, the choice of utterances, the split and the k-means.
        log_name: Name of the primary. Two callbacks in one Trainer need different ones.
        batch_to_waveforms: A function of the validation batch that returns waveforms ``(B, T)``, or a tuple of
            them, their lengths ``(B,)`` and their groups ``(B,)`` (see :class:`lightning_mi.inputs.batches.Waveforms`);
            with ``time_dim`` feature sequences in the place of waveforms. ``None``: they are looked for.
        pairs_per_utterance: The most pairs from one utterance, all on one side of the split. More than one
            tightens the bound where validation utterances are few and long.
        quantizer: As that of :func:`lightning_mi.mi_bound`. ``None``: ``"canonical"``, or ``"kmeans"`` with
            ``time_dim``.
        probe: As that of :func:`lightning_mi.mi_bound`.
        primary_layer: Which of the ``layers`` ``log_name`` is the bound of: a name as in ``layers/<name>``, or
            ``"best"``, the highest at each validation (which, being picked, is a little too high where many
            layers are about equal). ``None``: the last.
        labels: Labels in the batch, for the bound I(Z; Y) >= H(Y) - CE beside the one without them: a key, an
            index or a function of the batch that gives one class for each utterance, ``(B,)`` integers or
            strings, or a mapping of names to these. Labels of frames, ``(B, F)``, are a mapping with their
            ``source`` and their ``rate`` in labels a second; one frame of each segment is used. Labels of
            utterances are told from the mean of a segment's frames, whatever ``pooling`` says. -1 is no label.
        input_baseline: Whether to log, as ``input``, the same bound of the same segments' log-mel spectrograms, or
            with ``time_dim`` of the features themselves: what a model has to beat. Frames are pooled as the
            model's are, where ``"mean"`` is the mean and the standard deviation over time. Measured at the first
            validation of a run; of waveforms it needs torchaudio.
        null_control: Whether to log, as ``null`` and ``null_stderr``, what a probe that remembers finds in pairs
            that were shuffled among utterances, copies together (:func:`lightning_mi.estimator.shuffled_bound.null_bound`):
            0 within its error, unless utterances share sound across the split. It says something of the data, not
            of the model: the pairs are the log-mel statistics of the segments. Measured at the first validation of
            a run; more than 3 standard errors are warned of. It holds 520 bytes a pair on the host and needs
            torchaudio. With ``time_dim`` there is none: copies are known by their sound.
        plot_every_n_epochs: In ``fit``, draw the curve, the clusters and the map of the layers into the loggers
            (see :class:`lightning_mi.reporting.loggers.Pictures`) every so many epochs; 0 for never. It needs matplotlib.
        time_dim: For feature sequences, which dimension of the batch's tensor is time: 1 for ``(B, T, F)``, 2 or
            -1 for ``(B, F, T)``. The encoder gets segments in the same layout: a transformers model of
            ``input_features`` anywhere inside the module, else its ``forward``, or ``embed``. ``None``: waveforms.
        channels: ``"shared"``: segments as they are. ``"independent"``: each through a random gain, spectral tilt and
            noise of its own before it is encoded, so that the channel is nothing that two segments of an utterance
            share; the bound is then on the information between the embeddings of such segments. The input
            baseline is of the same segments. ``None``: ``"independent"``, or ``"shared"`` with ``time_dim``.

    Attributes:
        estimates: Of the last validation, by the names of layer and gap, the primary first; empty where it gave
            no value.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range; at ``setup``, if ``embed`` or ``layers`` names nothing or
            there is no way to embed waveforms; in the sanity check, if the batch or the model's output cannot
            be understood. Once training has begun, what goes wrong is warned of once and no value is logged.
        Exception: Of any type, in the sanity check; and at the end of the epoch, where only some processes met it.

    Source:
        Liu, Yeh, Glass, "Revisiting Self-supervised Learning of Speech Representation from a Mutual
        Information Perspective", ICASSP 2024, arXiv:2401.08833.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
        >>> trainer = Trainer(
        ...     logger=False,
        ...     enable_progress_bar=False,
        ...     callbacks=[
        ...         MIBoundCallback(num_clusters=64),
        ...         EarlyStopping("val/mi_bound", mode="max", patience=5),
        ...         ModelCheckpoint(monitor="val/mi_bound", mode="max"),
        ...     ],
        ... )
    """

    def __init__(
        self,
        num_clusters: int | None = None,
        max_pairs: int = 4096,
        segment_seconds: float = 0.5,
        gap_seconds: float | str | Sequence[float | str] = "near",
        sample_rate: float = 16_000,
        layers: str | Sequence[str] | None = None,
        pooling: Pooling | None = None,
        embed: str | Callable[..., Any] | None = None,
        every_n_epochs: int = 1,
        seed: int = 0,
        log_name: str = "val/mi_bound",
        batch_to_waveforms: Callable[[Any], Any] | None = None,
        pairs_per_utterance: int = 1,
        quantizer: str | None = None,
        probe: str = "linear",
        primary_layer: str | None = None,
        labels: Any = None,
        input_baseline: bool = True,
        null_control: bool = True,
        plot_every_n_epochs: int = 1,
        time_dim: int | None = None,
        channels: Channels | None = None,
    ) -> None:
        super().__init__()
        if num_clusters is not None:
            check_positive_int("num_clusters", num_clusters)
        check_positive_int("max_pairs", max_pairs)
        check_positive_int("pairs_per_utterance", pairs_per_utterance)
        check_positive_number("sample_rate", sample_rate, "samples (with `time_dim` frames) a second")
        check_positive_int("every_n_epochs", every_n_epochs)
        check_int("seed", seed)
        check_int("plot_every_n_epochs", plot_every_n_epochs)
        if plot_every_n_epochs < 0:
            raise ValueError(f"`plot_every_n_epochs` must not be negative, got {plot_every_n_epochs}.")
        check_choice("probe", probe, PROBES)
        if isinstance(segment_seconds, bool) or not isinstance(segment_seconds, (int, float)):
            raise TypeError(f"`segment_seconds` must be a number of seconds, got {segment_seconds!r}.")
        if not (math.isfinite(segment_seconds) and segment_seconds * sample_rate >= 1):
            raise ValueError(
                f"`segment_seconds` must be positive, at least one sample at `sample_rate={sample_rate:g}`, got "
                f"{segment_seconds!r}."
            )
        setting = choose_setting(time_dim is None, pooling, quantizer, channels)
        if primary_layer is not None and not isinstance(primary_layer, str):
            raise TypeError(
                f"`primary_layer` must be the name of a layer or {BEST_LAYER!r}, got {primary_layer!r}."
            )
        if batch_to_waveforms is not None and not callable(batch_to_waveforms):
            raise TypeError(f"`batch_to_waveforms` must be callable, got {batch_to_waveforms!r}.")
        if not isinstance(log_name, str) or not log_name.strip("/"):
            raise ValueError(f"`log_name` must be the name of a metric, got {log_name!r}.")
        self.num_clusters = num_clusters
        self.max_pairs = max_pairs
        self.layers = layers
        self.pooling = setting.pooling
        self.embed = embed
        self.batch_to_waveforms = batch_to_waveforms
        self.every_n_epochs = every_n_epochs
        self.seed = seed
        self.quantizer = setting.quantizer
        self.probe = probe
        self.primary_layer = primary_layer
        self.input_baseline = input_baseline
        self.null_control = null_control
        self.plot_every_n_epochs = plot_every_n_epochs
        self.log_name = log_name
        # What decides the number, beside the model and the data: kept in the checkpoint.
        self._settings: dict[str, Any] = {
            "num_clusters": num_clusters,
            "max_pairs": max_pairs,
            "segment_seconds": segment_seconds,
            "gap_seconds": gap_seconds if isinstance(gap_seconds, (str, int, float)) else list(gap_seconds),
            "sample_rate": sample_rate,
            "layers": layers if layers is None or isinstance(layers, str) else list(layers),
            **setting._asdict(),
            "embed": embed if embed is None or isinstance(embed, str) else "a callable",
            "seed": seed,
            "pairs_per_utterance": pairs_per_utterance,
            "probe": probe,
            "primary_layer": primary_layer,
            "time_dim": time_dim,
        }
        self._labels = parse_labels(labels)
        self._layout = parse_time_dim(time_dim)
        gaps = parse_gaps(gap_seconds)
        self._sampler = SegmentSampler(
            segment_seconds, gaps, sample_rate, seed, pairs_per_utterance, self._layout, setting.channels
        )
        self._epoch: ValidationEpoch | None = None
        self._said: set[str] = set()
        self._memory = Memory()
        self._pictures = Pictures(log_name)
        self._layer_names: tuple[str, ...] = ()
        # What a validation before the fit found, and the id of its module (which the Trainer holds until then):
        # pictures begin with it.
        self._before: tuple[int, dict[Key, MIEstimate]] | None = None
        self.estimates: dict[Key, MIEstimate] = {}

    @property
    def state_key(self) -> str:
        """Tells the callbacks of one Trainer apart."""
        return self._generate_state_key(log_name=self.log_name)

    @override
    def state_dict(self) -> dict[str, Any]:
        """The settings, so that a resumed run can tell whether its curve goes on, and what is remembered of its
        validations: less than 100 KiB."""
        return {"settings": dict(self._settings), "memory": self._memory.state()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Warn where the checkpoint's settings are others: its values cannot be compared with those to come."""
        if "memory" in state_dict:
            self._memory = Memory.from_state(state_dict["memory"])
        before = state_dict.get("settings", {})
        changed = [
            f"`{name}` was {before[name]!r} and is {value!r}"
            for name, value in self._settings.items()
            if name in before and before[name] != value
        ]
        if changed:
            self._say(
                "settings",
                f"{self._name} is resumed with other settings: {', '.join(changed)}. Values before and after "
                "cannot be compared.",
            )

    # ---- hooks

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "predict":
            return
        if stage == "fit":  # before a checkpoint's state is loaded
            self._memory = Memory()
        self._check_names(trainer)
        if not is_overridden("configure_model", pl_module):  # else there may be no layers yet
            encoder = self._find_encoder(pl_module)
            self._say("encoder", f"{self._name} embeds segments with {encoder.name}.", rank_zero_info)
        if stage == "fit" and not (trainer.limit_val_batches and is_overridden("validation_step", pl_module)):
            self._say("validation", f"{self._name} logs nothing: this run has no validation loop.")

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._find_encoder(pl_module)  # after configure_model, before the first batch
        ours = [each for each in trainer.callbacks if isinstance(each, MIBoundCallback)]  # type: ignore[attr-defined]
        if ours[0] is self:  # TensorBoard knows one layout
            lay_out(trainer, [each.log_name for each in ours])

    @override
    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(trainer, pl_module)

    @override
    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(trainer, pl_module)

    @override
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._add_batch(trainer, batch)

    @override
    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._add_batch(trainer, batch)

    @override
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end(trainer, pl_module)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = self.plot_every_n_epochs and trainer.current_epoch % self.plot_every_n_epochs == 0
        if due and self.estimates and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._pictures.publish(trainer, self._memory.history, self._layer_names)

    @override
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end(trainer, pl_module)

    # ---- the order of a validation epoch

    def _start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch = None
        self.estimates = {}
        in_fit = trainer.state.fn == "fit" and not trainer.sanity_checking
        if in_fit and trainer.current_epoch % self.every_n_epochs:
            return
        try:
            encoder = self._find_encoder(pl_module)
        except (TypeError, ValueError) as error:  # the module has changed since the fit began
            if not in_fit:
                raise
            self._no_value(trainer, str(error))
            return
        access = StrategyForward(trainer, pl_module)
        if trainer.state.fn != "fit":
            self._memory.input = self._memory.null = None  # other data, maybe
        self._layer_names = encoder.layer_names
        due_input = self.input_baseline and self._memory.input is None and not trainer.sanity_checking
        due_null = self._has_null and self._memory.null is None and not trainer.sanity_checking
        has_features = (due_input or due_null) and self._can_measure_features()
        self._measures_input, self._measures_null = due_input and has_features, due_null and has_features
        self._epoch = ValidationEpoch(
            encoder,
            access,
            self._sampler,
            self.pooling,
            self._labels,
            self._input_features if has_features else None,
            self._sketch if self._measures_null else None,
            self.max_pairs,
            self.seed,
        )

    def _add_batch(self, trainer: Trainer, batch: Any) -> None:
        epoch = self._epoch
        if epoch is None:
            return
        with epoch.clock():
            epoch.add(batch, self._waveforms)
        # Nothing is lost yet in the sanity check, and the message says what to configure.
        if trainer.sanity_checking and epoch.error is not None:
            raise epoch.error

    def _end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch, self._epoch = self._epoch, None
        if trainer.sanity_checking:
            return
        if epoch is None:
            if self._memory.last is not None and self.log_name not in trainer.callback_metrics:  # after a resume
                self._tell_monitors(trainer, self._memory.last)
            return
        with epoch.clock():
            try:
                epoch.share()
                clusters = self._clusters_for(epoch.num_pairs)
                metric = partial(MIBound, clusters, self.seed, self.quantizer, self.probe)
                estimates = epoch.estimates(metric, self.primary_layer)
                labeled_or_not = epoch.labeled(partial(LabeledMIBound, self.seed, self.probe))
                everywhere = zip(*gather((self._measures_input, self._measures_null)), strict=True)
                measures_input, measures_null = map(all, everywhere)
                input_or_not = epoch.of_features(metric) if measures_input else None
                null_or_not = epoch.null(partial(NullBound, clusters, self.seed)) if measures_null else None
            except NoEstimateError as reason:
                self._no_value(trainer, str(reason))
                return
        if epoch.skipped:
            self._say("skipped", f"{self._name} leaves out {epoch.skipped} utterances: {epoch.reasons}.")
        null = null_or_not.estimate if isinstance(null_or_not, NullControl) else null_or_not
        controls = self._without_failures({"input": input_or_not, "null": null})
        if "input" in controls:
            self._memory.input = controls["input"].bound
        if "null" in controls:
            self._memory.null = controls["null"].bound, controls["null"].stderr
        primary_layer, primary = next((layer, estimate) for (layer, _), estimate in estimates.items())
        values = dict(details(estimates, len(self._sampler.gaps) > 1, self.layers is not None))
        labeled = self._without_failures(labeled_or_not)
        values |= labeled_details(labeled, primary_layer, self.layers is not None)
        if self._memory.input is not None:
            values["input"] = self._memory.input
        if self._memory.null is not None:
            values["null"], values["null_stderr"] = self._memory.null
        if isinstance(null_or_not, NullControl):
            self._judge(null_or_not)
        if trainer.state.fn == "fit":
            gain = self._memory.gain_of(primary)
            values |= {} if gain is None else {"gain": gain[0], "gain_stderr": gain[1]}
            if self._before is not None and self._before[0] == id(pl_module) and not trainer.ckpt_path:
                self._memory.begin_with(self._before[1], primary)
            self._before = None
            self._memory.remember(trainer.current_epoch, trainer.global_step, estimates, controls)
        elif trainer.state.fn == "validate" and trainer.global_step == 0:
            self._before = id(pl_module), estimates
        values |= {"skipped": float(epoch.skipped), "seconds": max(gather(epoch.seconds))}
        self.estimates = estimates
        # All processes log the same values: their maximum is each of them, to the last bit.
        named = {f"{self._prefix}/{name}": value for name, value in values.items()}
        pl_module.log_dict(named, reduce_fx="max", sync_dist=True)
        pl_module.log(self.log_name, primary.bound, prog_bar=True, reduce_fx="max", sync_dist=True)

    # ---- its parts

    def _no_value(self, trainer: Trainer, reason: str) -> None:
        self._say("no value", f"{self._name} logs no value: {reason}")
        # Else they would take the last epoch's value for this one's. 0 is what is known of any model.
        self._tell_monitors(trainer, 0.0)

    def _tell_monitors(self, trainer: Trainer, value: float) -> None:
        """What early stopping, checkpointing and schedulers see where nothing is logged: a missing value would end
        the run."""
        monitors = [getattr(each, "monitor", None) for each in trainer.callbacks]  # type: ignore[attr-defined]
        monitors += [config.monitor for config in trainer.lr_scheduler_configs]
        if self.log_name in monitors:
            trainer.callback_metrics[self.log_name] = torch.tensor(value)

    def _check_names(self, trainer: Trainer) -> None:
        for other in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(other, MIBoundCallback) and other is not self and other._prefix == self._prefix:
                raise ValueError(
                    f"`log_name` must end differently in each MIBoundCallback of a Trainer, got {self.log_name!r} "
                    f"and {other.log_name!r}: both would log {self._prefix}/stderr."
                )

    def _find_encoder(self, pl_module: LightningModule) -> Encoder:
        encoder = find_encoder(pl_module, self.embed, self.layers, self._layout.time_dim is not None)
        if self.primary_layer not in (None, BEST_LAYER, *encoder.layer_names):
            raise ValueError(
                f"`primary_layer` must be one of the layers that `layers` names, or {BEST_LAYER!r}, got "
                f"{self.primary_layer!r}. The layers are {', '.join(encoder.layer_names)}."
            )
        return encoder

    def _waveforms(self, batch: Any) -> Waveforms:
        if self.batch_to_waveforms is None:
            return waveforms_in_batch(batch, self._layout)
        return check_waveforms(self.batch_to_waveforms(batch), batch, self._layout)

    def _clusters_for(self, num_pairs: int) -> int:
        wanted = default_num_clusters(num_pairs) if self.num_clusters is None else self.num_clusters
        affordable = capped_num_clusters(wanted, num_pairs)
        if self.num_clusters is not None and affordable < self.num_clusters:
            self._say(
                "clusters",
                f"{self._name} lowers `num_clusters` from {self.num_clusters} to {affordable}: {num_pairs} pairs "
                f"leave fewer than {FIT_PAIRS_PER_CLUSTER} to fit each cluster on. Leave it at None, raise "
                "`pairs_per_utterance`, or validate on more utterances.",
            )
        return affordable

    def _can_measure_features(self) -> bool:
        if self._layout.time_dim is not None:
            return True
        try:
            import torchaudio.functional  # noqa: F401
        except (ImportError, OSError, RuntimeError) as error:  # what it raises beside a torch that it does not fit
            wanted = {"input": self.input_baseline, "null": self._has_null}
            names = " and no ".join(f"{self._prefix}/{name}" for name, is_wanted in wanted.items() if is_wanted)
            self._say("features", f"{self._name} logs no {names}: {error}", rank_zero_info)
            return False
        return True

    def _input_features(self, segments: Tensor) -> Tensor:
        frames = self._layout.frames(segments)
        if self._layout.time_dim is not None:
            return frames
        return log_mel(frames[..., 0], self._sampler.sample_rate)

    @property
    def _has_null(self) -> bool:
        return self.null_control and self._layout.time_dim is None

    def _sketch(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        return fingerprint(waveforms, lengths, self._sampler.sample_rate)

    def _judge(self, null: NullControl) -> None:
        """Say what the null control found."""
        copies = f"{null.copies} of {null.utterances} utterances share sound with one of another group"
        value = f"{self._prefix}/null is {null.estimate.bound:.3f} ± {null.estimate.stderr:.3f} nats"
        if null.estimate.bound > max(_NEGLIGIBLE, _SIGNIFICANT * null.estimate.stderr):
            self._say(
                "null",
                f"{self._name}: {value} and should be 0. Pairs were shuffled among utterances, and still a probe "
                f"that remembers one half of the data knows something of the other: {self.log_name} may be too "
                f"high, and its error bar too small. {copies}. Likely causes: duplicated utterances (in another "
                "gain or codec, or cut elsewhere), leaked padding, a group key that is too fine. Leave the copies "
                "out, or let `batch_to_waveforms=` return the true lengths, and groups that keep copies together.",
            )
        elif null.copies > _FEW_COPIES * null.utterances:
            self._say(
                "copies",
                f"{self._name}: {copies}, and error bars take them for independent. {value}: no more harm is "
                "seen.",
                rank_zero_info,
            )

    def _without_failures(self, found: Mapping[K, MIEstimate | str | None]) -> dict[K, MIEstimate]:
        """The estimates among ``found``; of the others it is said why they are missing."""
        for key, reason in found.items():
            if isinstance(reason, str):
                what = key if isinstance(key, str) else " of ".join(reversed(key))
                self._say(what, f"{self._name} logs no {what}: {reason}")
        return {key: estimate for key, estimate in found.items() if isinstance(estimate, MIEstimate)}

    @property
    def _prefix(self) -> str:
        return self.log_name.rsplit("/", 1)[-1]

    @property
    def _name(self) -> str:
        return f"{type(self).__name__}({self.log_name!r})"

    def _say(self, topic: str, message: str, how: Callable[..., None] = rank_zero_warn) -> None:
        if topic not in self._said:
            self._said.add(topic)
            how(message)
