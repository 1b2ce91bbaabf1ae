"""MIBoundCallback: the Trainer's hooks, in the order in which a validation epoch happens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from lightning_mi.arguments import BEST_LAYER, Arguments
from lightning_mi.distributed import gather
from lightning_mi.embedding.discovery import find_encoder
from lightning_mi.embedding.encoder import Encoder
from lightning_mi.embedding.lightning_packages import callbacks_of_the_other_package, overrides, package_of
from lightning_mi.embedding.pooling import Pooling
from lightning_mi.embedding.step_input import StepInput
from lightning_mi.embedding.strategy import StrategyForward
from lightning_mi.embedding.trial import Answer
from lightning_mi.estimator import MIEstimate
from lightning_mi.estimator.gaussian_critic import MOST_PARTNERS
from lightning_mi.estimator.num_clusters import MOST_CLUSTERS
from lightning_mi.estimator.registry import BoundName, ProbeName, QuantizerName
from lightning_mi.failures import NoEstimateError, explained
from lightning_mi.inputs.channels import Channels
from lightning_mi.inputs.pairs_per_utterance import MOST_PAIRS_PER_UTTERANCE
from lightning_mi.inputs.rates import stated_rate
from lightning_mi.inputs.segments import SegmentSampler
from lightning_mi.presets import PresetName
from lightning_mi.reporting.history import History
from lightning_mi.reporting.loggers import FigureLogger
from lightning_mi.reporting.messages import (
    UNTRAINED,
    Message,
    Messenger,
    Topic,
    messages_of,
    of_loaders,
    of_the_trial,
    other_rate,
    slow,
    stated_other_rate,
)
from lightning_mi.reporting.metric_names import metric_prefix, metrics_of, values_without_findings
from lightning_mi.reporting.progress import estimates_in_bar
from lightning_mi.reporting.recurrence import LastPairs
from lightning_mi.reporting.run_state import RunState
from lightning_mi.validation.epoch import ValidationEpoch
from lightning_mi.validation.estimates import Findings, Key
from lightning_mi.validation.termination import held_sigterm

_SAME_SETTINGS = (("own", "independent"),)  # values in checkpoints of development versions, and today's


class MIBoundCallback(Callback):
    r"""Log a lower bound on the mutual information of two segments of an utterance at every validation.

    At each validation batch it cuts two segments out of every utterance, encodes each on its own with the model
    being trained, and keeps one pooled embedding a segment. At the end of the epoch it logs

    .. math::
        I(Z_a; Z_b) \geq H(c) - \mathbb{E}[-\log q(c \mid z_a)], \qquad c = f(z_b)

    with a quantiser :math:`f` and a probe :math:`q`, in nats, held out (see
    :func:`lightning_mi.mi_bound`). It needs validation batches that hold waveforms, and no labels. With
    ``time_dim`` they hold sequences of anything else: log-mel frames, EEG, features of a video.

    It logs in ``fit``, ``validate`` and ``test`` alike, on every process. All names and their meanings are in
    :data:`lightning_mi.reporting.metric_names.METRICS` and in ``lightning_mi/README.md``.

    Which segments, and which pairs if there are more than ``max_pairs``, depends on the utterance's samples and
    the seed alone, so a resumed run continues the same curve. If a model draws random numbers in eval mode, its
    segments are encoded one at a time, each with numbers of its own, which are the same in any batch and on any
    number of processes.

    Training is the same to the last bit with and without the callback: weights, buffers, modes, counters,
    gradients, the optimiser and all random generators are restored (see
    :func:`lightning_mi.embedding.isolation.isolated` for the limits). Models that a strategy shards are called
    through it, on every process once a batch.

    Memory on the model's device: ``max_pairs * (1 + gaps) * layers * D * 4`` bytes of embeddings (25 MB for 4096
    pairs of one layer with D = 768; half as much again while the buffers grow), and the segments of one batch,
    which are encoded in calls no larger than the batch itself. All is freed at the end of the epoch.

    Args:
        preset: One word for what the number is to be about, i.e. for ``segment_seconds``, ``gap_seconds``,
            ``speed``, ``channels``, ``pooling`` and ``quantizer`` (:data:`lightning_mi.presets.PRESETS`), any of
            which may still be given: ``"adjacent"``, ``"content"`` (phones), ``"voice"`` (speakers) or
            ``"paper"``. ``None``: ``"adjacent"``, or ``"paper"`` with ``time_dim``.
        num_clusters: K of the k-means. ``None``: one for each 32 pairs, a power of two from 4 to 128, chosen at
            the first validation of a run. Lowered, with one warning, if there are fewer than 8 pairs for each. The
            K of the first validation is kept for the run, resumed or not, down to 4 pairs for each.
        max_pairs: Maximum number of pairs. If there are more, first pairs of all utterances come first.
        segment_seconds: Length of a segment, in seconds. ``None``: by the preset.
        gap_seconds: Where the second segment lies. A distance from the end of the first: seconds, ``"near"`` (0)
            or ``"far"`` (random, at least half a second). Or another view: ``"same"`` (of the same moment) or
            ``"later"`` (80 ms later). Or a list of these: each has its own bound, and the first is the primary
            one. ``None``: by the preset.
        sample_rate: Sampling rate of the validation waveforms in Hz; with ``time_dim`` the frames a second, such
            as 31.25. Segments and gaps are rounded to whole samples (frames).
        layers: Names or globs of submodules whose outputs are embedded, or ``"all"`` for the blocks of the
            encoder. Each has its own bound. ``None``: the encoder's output.
        pooling: How frames become one vector: ``"mean"``, ``"boundary"`` (the last frame of the first segment and
            the first frame of the second) or ``"center"`` (the frame at the centre of each). ``None``: by the
            preset.
        embed: What encodes waveforms: the dotted name of a submodule or method of the LightningModule, or a
            callable of the waveforms ``(B, T)`` (or of the module and the waveforms) that returns ``(B, T', D)``
            or ``(B, D)``. ``None``: a speech model of torchaudio, transformers or NeMo anywhere inside the module,
            else its ``forward``. Where time lies in the output is found by a trial call
            (:mod:`lightning_mi.embedding.trial`).
        every_n_epochs: In ``fit``, log the bound at the first and then every n-th validation only (the n-th epoch
            if each has one validation); in between, early stopping sees the last value again.
        seed: Seed of the segments, the choice of utterances, the split and the k-means.
        log_name: Name of the primary bound. Callbacks in one Trainer need names that end differently.
        batch_to_waveforms: A function of the validation batch that returns waveforms ``(B, T)``, or a tuple of
            them, their lengths ``(B,)`` and their groups ``(B,)`` (see :class:`lightning_mi.Waveforms`); with
            ``time_dim`` feature sequences in place of waveforms. ``None``: they are found by type, shape and name.
        pairs_per_utterance: Maximum number of pairs from one utterance, all on one side of the split: one, and one
            more for each further segment's length that it has room for. ``None``: as many as about fill 4096 pairs
            (``max_pairs`` if that is less), at most 4, chosen at the first validation of a run and kept for it,
            resumed or not. More pairs tighten the bound and its error, and as many more segments are encoded.
        quantizer: What is clustered: ``"kmeans"`` (the embeddings as they are), ``"whitened"`` or ``"canonical"``,
            see :func:`lightning_mi.mi_bound`. ``None``: by the preset.
        probe: What predicts the clusters: ``"linear"``, ``"quadratic"`` or ``"fourier"``, see
            :func:`lightning_mi.mi_bound`.
        primary_layer: Which of the ``layers`` is logged as ``log_name``: a name as in ``layers/<layer>``, or
            ``"best"``, the layer of the highest bound at each validation (a maximum, hence a little too high if
            many layers are about equal; a layer that is called ``best`` takes precedence). ``None``: the last.
        labels: Labels in the batch, for the bound I(Z; Y) >= H(Y) - CE beside the one without them: a key, an
            index or a function of the batch that gives one class for each utterance, ``(B,)`` integers or
            strings, or a mapping of names to these. Labels of frames, ``(B, F)``, are a mapping with their
            ``source`` and their ``rate`` in labels a second; one frame of each segment is used. Labels of
            utterances are predicted from the mean of a segment's frames, whatever ``pooling`` is. -1 is no label.
        input_baseline: Whether to log, as ``input``, the same bound of the same segments' log-mel spectrograms, or
            with ``time_dim`` of the features themselves. Frames are pooled as the model's are (``"mean"`` joins
            mean and standard deviation). Measured at the first validation of a run.
        null_control: Whether to log, as ``null`` and ``null_stderr``, what a nearest-neighbour probe finds in
            pairs that were shuffled among utterances, near-duplicates together
            (:func:`lightning_mi.estimator.shuffled_bound.null_bound`): 0 within its error, unless utterances share
            sound across the split. It depends on the data and not on the model, since the pairs are log-mel
            statistics. Measured at the first validation of a run; a value of more than 3 standard errors warns. It
            holds 520 bytes a pair on the host. With ``time_dim`` there is none.
        plot_every_n_epochs: In ``fit``, draw the curve, the use of the clusters and the map of the layers into the
            loggers at the first and then every n-th validation; 0 for never. It needs matplotlib.
        time_dim: For feature sequences, which dimension of the batch's tensor is time: 1 for ``(B, T, F)``, 2 or
            -1 for ``(B, F, T)``. The encoder gets segments in the same layout: a transformers model of
            ``input_features`` anywhere inside the module, else its ``forward``, or ``embed``. ``None``: waveforms.
        channels: ``"shared"``: segments as they are. ``"independent"``: each through a random gain, spectral tilt
            and noise of its own before it is encoded, so that two segments of an utterance do not share their
            acoustic channel; the bound is then on the information between the embeddings of such segments, and the
            input baseline is of the same segments. ``None``: by the preset.
        speed: 1: segments as they are. Above 1: each is played at a random speed of its own about its centre,
            log-uniform between ``1 / speed`` and ``speed``, so that its pitch, formants and tempo are its own; an
            utterance must then have room for ``speed`` times the segments. ``None``: by the preset.
        bound: ``"clusters"``, or ``"contrastive"``: without clusters, by telling each partner from all others, see
            :func:`lightning_mi.mi_bound`. It is tighter, given many pairs. ``num_clusters`` and ``quantizer`` are
            then of no use, and in the logged names the partners that a row is compared with (half of the pairs, at
            most 4096) stand for the clusters.

    Attributes:
        arguments: The checked arguments (:class:`lightning_mi.arguments.Arguments`), with ``None`` resolved.
        sampler: Which segments are cut (:class:`lightning_mi.inputs.segments.SegmentSampler`), after a validation
            those that were used.
        estimates: Estimates of the last validation by the names of layer and gap, the primary one first; empty if
            it logged no value.
        no_value_reason: Why the last validation logged no value; ``None`` if it did.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range; at ``setup``, if ``embed`` or ``layers`` names nothing or
            there is no way to embed waveforms; in the sanity check, if the batch or the model's output cannot
            be understood, or the model raises an exception. Once training has begun, what goes wrong is one
            warning, and no value is logged.
        Exception: Of any type, at the end of the epoch, if only some processes met it.

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
        preset: PresetName | None = None,
        num_clusters: int | None = None,
        max_pairs: int = 4096,
        segment_seconds: float | None = None,
        gap_seconds: float | str | Sequence[float | str] | None = None,
        sample_rate: float = 16_000,
        layers: str | Sequence[str] | None = None,
        pooling: Pooling | None = None,
        embed: str | Callable[..., Any] | None = None,
        every_n_epochs: int = 1,
        seed: int = 0,
        log_name: str = "val/mi_bound",
        batch_to_waveforms: Callable[[Any], Any] | None = None,
        pairs_per_utterance: int | None = None,
        quantizer: QuantizerName | None = None,
        probe: ProbeName = "linear",
        primary_layer: str | None = None,
        labels: Any = None,
        input_baseline: bool = True,
        null_control: bool = True,
        plot_every_n_epochs: int = 1,
        time_dim: int | None = None,
        channels: Channels | None = None,
        speed: float | None = None,
        bound: BoundName = "clusters",
    ) -> None:
        super().__init__()
        self.arguments = arguments = Arguments(
            preset=preset,  # type: ignore[arg-type]
            num_clusters=num_clusters,
            max_pairs=max_pairs,
            segment_seconds=segment_seconds,  # type: ignore[arg-type]
            gap_seconds=gap_seconds,  # type: ignore[arg-type]
            sample_rate=sample_rate,
            layers=layers,
            pooling=pooling,  # type: ignore[arg-type]
            embed=embed,
            every_n_epochs=every_n_epochs,
            seed=seed,
            log_name=log_name,
            batch_to_waveforms=batch_to_waveforms,
            pairs_per_utterance=pairs_per_utterance,
            quantizer=quantizer,  # type: ignore[arg-type]
            probe=probe,
            primary_layer=primary_layer,
            labels=labels,
            input_baseline=input_baseline,
            null_control=null_control,
            plot_every_n_epochs=plot_every_n_epochs,
            time_dim=time_dim,
            channels=channels,  # type: ignore[arg-type]
            speed=speed,  # type: ignore[arg-type]
            bound=bound,
        )
        self.sampler = SegmentSampler(
            arguments.segment_seconds,
            arguments.gaps,
            arguments.sample_rate,
            arguments.seed,
            arguments.pairs_per_utterance or MOST_PAIRS_PER_UTTERANCE,
            arguments.layout,
            arguments.channels,
            arguments.speed,
        )
        self.estimates: dict[Key, MIEstimate] = {}
        self.no_value_reason: str | None = None
        self._epoch: ValidationEpoch | None = None
        self._state = RunState()
        self._last_pairs = LastPairs()
        self._layer_names: tuple[str, ...] = ()
        self._answer: Answer | None = None
        self._step_input: StepInput | None = None
        self._stated_rate: float | None = None
        self._figures = FigureLogger(arguments.log_name, has_clusters=arguments.bound == "clusters")
        self._messenger = Messenger(f"{type(self).__name__}({arguments.log_name!r})")

    @property
    def history(self) -> History:
        """The validations of this run, from which figures are drawn."""
        return self._state.history

    @property
    def state_key(self) -> str:
        """Tells the callbacks of one Trainer apart."""
        return self._generate_state_key(log_name=self.arguments.log_name)

    @override
    def state_dict(self) -> dict[str, Any]:
        """The settings, so that a resumed run can tell whether its curve continues, and the run state: less than
        100 KiB of plain values and tensors."""
        return {"settings": self.arguments.settings(), "run": self._state.state()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the run state, and warn if the checkpoint's settings differ: values cannot be compared then."""
        run = state_dict.get("run", state_dict.get("memory"))  # as development versions called it
        if run is not None:
            self._state = RunState.from_state(run)
        before, now = dict(state_dict.get("settings", {})), self.arguments.settings()
        self._state.pairs_per_utterance = held = (
            before.get("pairs_per_utterance") or self._state.pairs_per_utterance
        )
        # ``None`` keeps what there was, given or chosen.
        before["pairs_per_utterance"] = held if now["pairs_per_utterance"] is not None else None
        changed = [
            f"`{name}` was {before[name]!r} and is {value!r}"
            for name, value in now.items()
            if name in before and before[name] != value and (before[name], value) not in _SAME_SETTINGS
        ]
        if changed:
            what = f"is resumed with other settings: {', '.join(changed)}"
            text = f"{what}. Values before and after cannot be compared; controls and `gain` start anew."
            self._state = self._state.with_other_settings()
            self._messenger.tell(Message(Topic.OTHER_SETTINGS, text))

    # ---- hooks

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "predict":
            return
        if stage == "fit":  # before a checkpoint's state is loaded
            self._state = RunState(untrained=self._state.untrained)
            self._last_pairs = LastPairs()
        self._answer = None
        self._check_names(trainer)
        if mixed := callbacks_of_the_other_package(trainer):
            package = package_of(trainer)
            text = (
                f"sees {', '.join(mixed)} in a Trainer of {package}, which does not know them for what they are: "
                f'ckpt_path="best" may restore another model. Import Trainer and callbacks from {package}.'
            )
            self._messenger.tell(Message(Topic.MIXED_PACKAGES, text))
        self._stated_rate = stated_rate(pl_module, getattr(trainer, "datamodule", None))
        if not overrides(pl_module, "configure_model"):  # else there may be no layers yet
            self._find_encoder(pl_module)
        if stage == "fit" and not (trainer.limit_val_batches and overrides(pl_module, "validation_step")):
            self._messenger.tell(Message(Topic.NO_VALIDATION, "logs nothing: this run has no validation loop."))

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._find_encoder(pl_module)  # after configure_model, before the first batch

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Without a sanity check nothing has been tried before training is paid for: try with noise."""
        if self._answer is None and self.arguments.time_dim is None and trainer.limit_val_batches:
            forward = StrategyForward(trainer, pl_module, self.arguments.seed, None)
            if (reason := forward.try_noise(self._find_encoder(pl_module), self.sampler)) is not None:
                self._messenger.tell(Message(Topic.TRIAL, reason))

    @override
    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin_epoch(trainer, pl_module)

    @override
    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin_epoch(trainer, pl_module)

    @override
    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._read_batch(pl_module, batch, dataloader_idx)

    @override
    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._read_batch(pl_module, batch, dataloader_idx)

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
        self._add_batch(trainer)

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
        self._add_batch(trainer)

    @override
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish_epoch(trainer, pl_module)

    @override
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish_epoch(trainer, pl_module)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop_listening()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        every = self.arguments.plot_every_n_epochs
        if every and (self._state.validations - 1) % every == 0 and self.estimates and _in_fit(trainer):
            self._figures.log_figures(trainer, self._state.history, self._layer_names)

    # ---- a validation epoch

    def _begin_epoch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch = None
        self.estimates = {}
        self.no_value_reason = None
        arguments = self.arguments
        if _in_fit(trainer):
            self._state.validations += 1
            if (self._state.validations - 1) % arguments.every_n_epochs:
                return
        try:
            encoder = self._find_encoder(pl_module)
        except (TypeError, ValueError) as error:  # the module has changed since the fit began
            if not _in_fit(trainer):
                raise
            self._log_no_value(trainer, str(error))
            return
        self._layer_names = encoder.layer_names
        if self._answer is not None and not self._answer.is_of(encoder):
            self._answer = None  # other layers than before
        if trainer.state.fn != TrainerFn.FITTING:
            self._state.input = self._state.null = None  # other data, maybe
        due = not trainer.sanity_checking
        due_input = due and arguments.input_baseline and self._state.input is None
        due_null = due and arguments.wants_null and self._state.null is None
        held = self._state.pairs_per_utterance if _in_fit(trainer) else None
        most = arguments.pairs_per_utterance or held or MOST_PAIRS_PER_UTTERANCE
        self.sampler = replace(self.sampler, pairs_per_utterance=most)
        length = self.sampler.segment_length
        shape = torch.Size([length]) if arguments.time_dim is None else None
        self._epoch = ValidationEpoch(
            arguments,
            self.sampler,
            encoder,
            StrategyForward(trainer, pl_module, arguments.seed, shape),
            # Held for the run: a few pairs more or less must not change K, and with it the bound.
            self._state.num_clusters if _in_fit(trainer) else None,
            measure_input=due_input,
            measure_null=due_null,
            answer=self._answer,
            choose_pairs=arguments.pairs_per_utterance is None and held is None,
        )

    def _read_batch(self, pl_module: LightningModule, batch: Any, loader: int) -> None:
        """Before the step, which may change the batch."""
        epoch = self._epoch
        if epoch is None:
            return
        if batch is None:  # and the last one from the second call on
            reason = NoEstimateError(
                "it is shown no batches, since the step takes `dataloader_iter`: take `batch`."
            )
            epoch.failures.error = epoch.failures.error or reason
            return
        with epoch.timed():
            epoch.read(batch, loader)
            if self._answer is None and epoch.waveforms is not None and not epoch.in_lockstep:
                self._step_input = StepInput(self._find_encoder(pl_module), pl_module, epoch.waveforms)
        for rate in sorted(epoch.rates):
            self._messenger.tell(other_rate(rate, self.arguments))
        if epoch.waveforms is not None and not epoch.has_rates:
            self._messenger.tell_all(stated_other_rate(self._stated_rate, self.arguments))

    def _add_batch(self, trainer: Trainer) -> None:
        epoch = self._epoch
        if epoch is None:
            return
        step_input, doubt = self._step_input, self._stop_listening()
        with epoch.timed():
            epoch.encode(None if step_input is None else step_input.ndim)
        if epoch.answer is not None and self._answer is None:
            self._answer = epoch.answer
            self._messenger.tell_all(of_the_trial(epoch.answer, doubt, epoch.doubt))
        # Nothing is lost yet in the sanity check, and the message says what to configure.
        error = epoch.failures.error
        if trainer.sanity_checking and error is not None and not isinstance(error, NoEstimateError):
            raise explained(error)

    def _stop_listening(self) -> str | None:
        """What the step gave the model, if that is to be doubted."""
        step_input, self._step_input = self._step_input, None
        return None if step_input is None else step_input.doubt()

    def _finish_epoch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch, self._epoch = self._epoch, None
        if epoch is not None:
            left_out = epoch.settle()
            self._messenger.tell_all(of_loaders(epoch.loaders, left_out))
        if trainer.sanity_checking:
            if epoch is not None:
                _raise_what_was_found(epoch)
            return
        if epoch is None:
            if self._state.last is not None and self.arguments.log_name not in trainer.callback_metrics:
                # after a resume
                self._show_monitors(trainer, {self.arguments.log_name: self._state.last, **self._state.monitored})
            return
        try:
            with epoch.timed(), held_sigterm(trainer), estimates_in_bar(trainer, self._prefix) as progress:
                findings = epoch.finish(progress)
        except NoEstimateError as reason:
            self._log_no_value(trainer, str(reason))
            return
        for message in messages_of(findings, self.arguments):
            self._messenger.tell(message)
        values = metrics_of(findings, len(self.sampler.gaps) > 1, self.arguments.layers is not None)
        values |= self._update_state(trainer, pl_module, findings)
        values["seconds"] = max(gather(epoch.seconds))
        self._messenger.tell_all(slow(values["seconds"], self.arguments, findings))
        self.estimates = findings.estimates
        self.sampler = replace(self.sampler, pairs_per_utterance=findings.pairs_per_utterance)
        # All processes log the same values: their maximum is each of them, to the last bit.
        named = {f"{self._prefix}/{name}": _number(value, pl_module) for name, value in values.items()}
        pl_module.log_dict(named, reduce_fx="max", sync_dist=True)
        primary = _number(findings.primary.bound, pl_module)
        pl_module.log(self.arguments.log_name, primary, prog_bar=True, reduce_fx="max", sync_dist=True)
        lowest = self._values_without_findings()
        self._show_monitors(trainer, {name: value for name, value in lowest.items() if name not in named})
        monitored = self._monitored(trainer)
        self._state.monitored = {name: float(value) for name, value in named.items() if name in monitored}

    def _update_state(self, trainer: Trainer, pl_module: LightningModule, findings: Findings) -> dict[str, float]:
        """Take the findings into the run state; what is logged of the controls and, in ``fit``, of the gain."""
        state, primary = self._state, findings.primary
        controls = findings.controls
        values = state.take_controls(controls)
        if trainer.state.fn == TrainerFn.FITTING:
            gain = state.gain_of(primary) if self._recurs_enough(findings) else None
            if gain is not None:
                values["gain"], values["gain_stderr"] = gain
            if trainer.ckpt_path:
                state.untrained = None
            state.pairs_per_utterance = findings.pairs_per_utterance
            state.start_from_untrained(id(pl_module), primary)
            state.update(trainer.current_epoch, trainer.global_step, findings.estimates, controls)
        elif trainer.state.fn == TrainerFn.VALIDATING and trainer.global_step == 0:
            state.untrained = id(pl_module), findings.estimates
            if not trainer.ckpt_path:
                self._messenger.tell(Message(Topic.UNTRAINED, UNTRAINED, is_warning=False))
        return values

    def _recurs_enough(self, findings: Findings) -> bool:
        """Whether enough pairs were in the validation before for a gain; said once if few were."""
        assert findings.keys is not None
        found = self._last_pairs.recurrence_of(findings.keys)
        if found is not None and found.is_small:
            self._messenger.tell(Message(Topic.MOVING_DATA, found.text()))
        return found is None or found.is_enough

    # ---- what the user and the Trainer are told

    def _log_no_value(self, trainer: Trainer, reason: str) -> None:
        self.no_value_reason = reason
        self._messenger.tell(Message(Topic.NO_VALUE, f"logs no value: {reason}"))
        # Else they would take the last epoch's value for this one's, or a missing value would end the run.
        self._show_monitors(trainer, {self.arguments.log_name: 0.0, **self._values_without_findings()})

    def _values_without_findings(self) -> dict[str, float]:
        arguments = self.arguments
        lowest = values_without_findings(
            [gap.name for gap in self.sampler.gaps],
            self._layer_names if arguments.layers is not None else (),
            [labels.name for labels in arguments.label_sources],
            self._highest_ceiling(),
        )
        return {f"{self._prefix}/{name}": value for name, value in lowest.items()}

    def _highest_ceiling(self) -> float:
        """No bound of this run can be higher, in nats."""
        arguments = self.arguments
        if arguments.bound == "contrastive":
            return math.log(min(arguments.max_pairs, MOST_PARTNERS))
        return math.log(arguments.num_clusters or self._state.num_clusters or MOST_CLUSTERS)

    def _show_monitors(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """Show the ``values`` that are monitored to early stopping, checkpointing and schedulers."""
        for name in self._monitored(trainer) & set(values):
            trainer.callback_metrics[name] = torch.tensor(values[name], dtype=torch.float32)

    @staticmethod
    def _monitored(trainer: Trainer) -> set[str]:
        monitors = [getattr(each, "monitor", None) for each in trainer.callbacks]  # type: ignore[attr-defined]
        monitors += [config.monitor for config in trainer.lr_scheduler_configs]
        return {name for name in monitors if isinstance(name, str)}

    # ---- parts

    def _check_names(self, trainer: Trainer) -> None:
        for other in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(other, MIBoundCallback) and other is not self and other._prefix == self._prefix:
                raise ValueError(
                    "`log_name` must end differently in each MIBoundCallback of a Trainer, got "
                    f"{self.arguments.log_name!r} and {other.arguments.log_name!r}: both would log "
                    f"{self._prefix}/stderr."
                )

    def _find_encoder(self, pl_module: LightningModule) -> Encoder:
        arguments = self.arguments
        encoder = find_encoder(pl_module, arguments.embed, arguments.layers, arguments.layout.time_dim)
        if arguments.primary_layer not in (None, BEST_LAYER, *encoder.layer_names):
            raise ValueError(
                f"`primary_layer` must be one of the layers that `layers` names, or {BEST_LAYER!r}, got "
                f"{arguments.primary_layer!r}. The layers are {', '.join(encoder.layer_names)}."
            )
        return encoder

    @property
    def _prefix(self) -> str:
        return metric_prefix(self.arguments.log_name)


def _raise_what_was_found(epoch: ValidationEpoch) -> None:
    """Raise, before training is paid for, what was found wrong at the end of the sanity check."""
    reason = epoch.why_too_short()
    if isinstance(epoch.failures.error, NoEstimateError):
        return  # a run that trains without a bound
    if epoch.failures.error is not None:
        raise epoch.failures.error
    if reason is not None:
        raise ValueError(reason)


def _in_fit(trainer: Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


def _number(value: float, module: LightningModule) -> torch.Tensor:
    """At least float32: under a default dtype of fewer bits Lightning would log two digits."""
    dtype = torch.promote_types(torch.float32, torch.get_default_dtype())
    return torch.tensor(value, dtype=dtype, device=module.device)
