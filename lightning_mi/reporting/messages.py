"""Messages to the user: each topic once, as a warning or as information, on rank zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from enum import Enum, auto
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lightning_mi.arguments import Arguments
from lightning_mi.controls.null_control import NullFinding
from lightning_mi.embedding.trial import Answer
from lightning_mi.estimator.group_scores import significance_factor
from lightning_mi.estimator.num_clusters import FIT_PAIRS_PER_CLUSTER
from lightning_mi.reporting.metric_names import metric_prefix
from lightning_mi.validation.estimates import DIFFERENCES, FEWEST_SPEAKERS, Findings, Outcome, difference

_FEW_FRAMES = 2
_NAMES_SHOWN = 3
_LONG_SECONDS = 60
_NO_BOUND = (
    "one segment tells nothing about the other. Of an untrained model that is usual; of a trained one check "
    "`embed` and `sample_rate`"
)
_COLLAPSE = {
    "clusters": ", and `mi_bound/active_clusters` (1 is a collapse).",
    "contrastive": ', and whether `bound="clusters"`, which needs fewer pairs, finds something.',
}
UNTRAINED = (
    "measures before the first training step. If these are random weights: they keep part of the input, so the "
    "bound is seldom 0 there. Compare a trained model with this value, not with 0."
)
_NO_DIFFERENCE = "what the first pair shares is also shared by distant segments, i.e. voice, language and room."


class Topic(Enum):
    """What a message is about."""

    DOUBT = auto()
    ENCODER = auto()
    FEW_FRAMES = auto()
    FEWER_CLUSTERS = auto()
    LEAK = auto()
    LOADERS = auto()
    MISSING_METRIC = auto()
    MIXED_PACKAGES = auto()
    MOVING_DATA = auto()
    NEAR_DUPLICATES = auto()
    NOTHING_SHARED = auto()
    NUM_CLUSTERS = auto()
    NO_VALIDATION = auto()
    NO_VALUE = auto()
    ONE_VECTOR = auto()
    OTHER_RATE = auto()
    OTHER_SETTINGS = auto()
    PAIRS_PER_UTTERANCE = auto()
    RANDOM_MODEL = auto()
    SKIPPED = auto()
    SLOW = auto()
    SPEAKERS = auto()
    STATED_RATE = auto()
    TRIAL = auto()
    UNTRAINED = auto()


class Message(NamedTuple):
    """One message.

    Attributes:
        topic: What it is about.
        text: What it says.
        is_warning: Whether it is a warning, else it is information.
        subject: Tells messages of one topic apart, such as the name of a metric.
    """

    topic: Topic
    text: str
    is_warning: bool = True
    subject: str = ""


class Messenger:
    """Says each topic (and subject) once.

    Args:
        sender: What every message begins with.

    Example:
        >>> messenger = Messenger("MIBoundCallback")
        >>> messenger.tell(Message(Topic.ENCODER, "embeds segments with `forward`.", is_warning=False))
    """

    def __init__(self, sender: str) -> None:
        self._sender = sender
        self._told: set[tuple[Topic, str]] = set()

    def tell(self, message: Message) -> None:
        """Say it, unless something of its topic and subject has been said."""
        key = message.topic, message.subject
        if key not in self._told:
            self._told.add(key)
            (rank_zero_warn if message.is_warning else rank_zero_info)(f"{self._sender} {message.text}")

    def tell_all(self, messages: Iterable[Message]) -> None:
        """:meth:`tell` each."""
        for message in messages:
            self.tell(message)


def other_rate(rate: float, arguments: Arguments) -> Message:
    """That batches say that they are sampled at another ``rate``, in Hz, than the argument."""
    wanted = arguments.sample_rate
    text = f"reads batches sampled at {rate:g} Hz, which are resampled to `sample_rate={wanted:g}`. If the model "
    text += f"takes {rate:g} Hz, pass `sample_rate={rate:g}`."
    if arguments.batch_to_waveforms is not None:
        text = f"reads {rate:g} Hz as the sampling rate in the batch, got `sample_rate={wanted:g}`, which what "
        text += "`batch_to_waveforms` returns must have. If it does not resample, pass "
        text += f"`sample_rate={rate:g}`."
    return Message(Topic.OTHER_RATE, text, subject=f"{rate:g}")


def stated_other_rate(rate: float | None, arguments: Arguments) -> Iterator[Message]:
    """That the module or the data module states another ``rate``, in Hz, than the argument, if it states any."""
    is_other = rate is not None and rate != arguments.sample_rate
    if is_other and arguments.time_dim is None and arguments.batch_to_waveforms is None:
        text = (
            f"takes the waveforms to be sampled at `sample_rate={arguments.sample_rate:g}` Hz, while the module "
            f"or the data module states {rate:g} Hz. If the batches are sampled so, pass `sample_rate={rate:g}`."
        )
        yield Message(Topic.STATED_RATE, text)


def slow(seconds: float, arguments: Arguments, findings: Findings) -> Iterator[Message]:
    """That a validation took long."""
    if seconds > _LONG_SECONDS:
        layers = len({layer for layer, _ in findings.estimates})
        text = (
            f"took {seconds:.0f} s of this validation, for {findings.num_pairs} pairs and {layers} layer(s). To "
            "shorten it name fewer `layers` or distances, lower `max_pairs` or `pairs_per_utterance`, or raise "
            "`every_n_epochs`."
        )
        yield Message(Topic.SLOW, text, is_warning=False)


def of_loaders(read: Set[int], left_out: Set[int]) -> Iterator[Message]:
    """Which of several dataloaders the bound is of."""
    if left_out:
        numbers = ", ".join(map(str, sorted(left_out)))
        text = (
            f"leaves out the dataloader(s) {numbers}, whose batches hold nothing like utterances; the bound is of "
        )
        yield Message(Topic.LOADERS, text + f"{', '.join(map(str, sorted(read)))}.", subject=numbers)
    elif len(read) > 1:
        text = f"takes the utterances of all {len(read)} dataloaders together."
        yield Message(Topic.LOADERS, text, is_warning=False)


def of_the_trial(answer: Answer, of_the_step: str | None, of_the_rows: str | None) -> Iterator[Message]:
    """What is embedded, and what of that should be checked.

    Args:
        answer: What the trial call has told.
        of_the_step: A doubt of what the validation step gives the model.
        of_the_rows: A doubt of what the segments of one call share.
    """
    yield Message(Topic.ENCODER, answer.line, is_warning=False)
    doubts: list[str | None] = list(answer.doubts)
    if not answer.through_forward:
        doubts.append(of_the_step)
    for doubt in (*doubts, of_the_rows):
        if doubt is not None:
            yield Message(Topic.DOUBT, doubt, subject=doubt)


def messages_of(findings: Findings, arguments: Arguments) -> Iterator[Message]:
    """What the user should know of the findings of a validation.

    Args:
        findings: Findings of the validation.
        arguments: Arguments of the callback.
    """
    if findings.skipped:
        yield Message(Topic.SKIPPED, f"leaves out {findings.skipped} utterances: {findings.reasons}.")
    if findings.is_random:
        where = ", ".join(f"`{name}`" for name in findings.draws_in[:_NAMES_SHOWN]) or "the model"
        yield Message(
            Topic.RANDOM_MODEL,
            f"finds that the embeddings depend on random numbers that {where} draws in eval mode (masks, "
            "augmentation, dropout, sampling), and measures such noisy embeddings. Each segment has numbers of "
            "its own, in a call of its own, which takes longer. Switch them off in evaluation, or point `embed=` "
            "at a part of the model that draws none.",
        )
    if findings.num_speakers is not None:
        yield _of_speakers(findings.num_speakers)
    if arguments.pairs_per_utterance is None and findings.pairs_per_utterance > 1:
        most = findings.pairs_per_utterance
        takes = f"takes up to {most} pairs from an utterance, {findings.num_pairs} in all."
        yield Message(Topic.PAIRS_PER_UTTERANCE, takes, is_warning=False, subject=str(most))
    wanted, used = arguments.num_clusters, findings.num_clusters
    if arguments.bound == "contrastive":
        others = findings.primary.num_clusters - 1
        uses = f"tells each partner from up to {others} others, of {findings.num_pairs} pairs."
        yield Message(Topic.NUM_CLUSTERS, uses, is_warning=False, subject="partners")
    elif wanted is None:
        uses = f"uses {used} clusters for {findings.num_pairs} pairs."
        yield Message(Topic.NUM_CLUSTERS, uses, is_warning=False, subject=str(used))
    elif used < wanted:
        yield Message(
            Topic.FEWER_CLUSTERS,
            f"lowers `num_clusters` from {wanted} to {used}: {findings.num_pairs} pairs leave "
            f"fewer than {FIT_PAIRS_PER_CLUSTER} to fit each cluster on. Leave it at None, raise "
            "`pairs_per_utterance`, or validate on more utterances.",
        )
    yield from _limits(findings, arguments)
    wanted_metrics = {"input": findings.input_baseline, "null": findings.null}
    wanted_metrics |= {f"{labels} of {layer}": found for (layer, labels), found in findings.labeled.items()}
    for name, found in wanted_metrics.items():
        if isinstance(found, Outcome) and found.reason is not None:
            yield Message(Topic.MISSING_METRIC, f"logs no {name}: {found.reason}", subject=name)
    if isinstance(findings.null, NullFinding):
        text = findings.null.message(arguments.log_name, f"{metric_prefix(arguments.log_name)}/null")
        if text is not None:
            leaks = findings.null.leaks
            yield Message(Topic.LEAK if leaks else Topic.NEAR_DUPLICATES, f"finds: {text}", is_warning=leaks)


def _of_speakers(number: int) -> Message:
    """What the groups are, and what the number then speaks of."""
    text = (
        f"finds {number} speakers named in the batches and keeps each on one side of the split: the bound and its "
        "error speak of new speakers. For new utterances of the same speakers return other groups from "
        "`batch_to_waveforms`."
    )
    if number < FEWEST_SPEAKERS:
        text = (
            f"finds {number} speaker(s) named in the batches, too few to be the groups, which utterances are: the "
            "bound and its error speak of new utterances of these speakers, not of others. Validate on "
            f"{FEWEST_SPEAKERS} speakers or more, or return groups from `batch_to_waveforms`."
        )
    return Message(Topic.SPEAKERS, text, is_warning=False)


def _limits(findings: Findings, arguments: Arguments) -> Iterator[Message]:
    """What the number cannot mean for this encoder."""
    layer, primary = findings.primary_layer, findings.primary
    num_frames = findings.num_frames.get(layer)
    if num_frames is None and arguments.pooling != "mean":
        yield Message(
            Topic.ONE_VECTOR,
            f"gets one vector a segment, so `pooling={arguments.pooling!r}` changes nothing and the bound speaks "
            "of whole segments, hence of voice and room more than of phones. For phones name a layer that has "
            'frames (`layers`, `embed`); for speakers take `preset="voice"`.',
            is_warning=False,
        )
    elif num_frames is not None and num_frames <= _FEW_FRAMES:
        yield Message(
            Topic.FEW_FRAMES,
            f"gets {num_frames} frame(s) from a segment of {arguments.segment_seconds:g} s: the encoder sees as "
            "much as the segment holds, or more, and the bound is that of an encoder without its usual context. "
            "Raise `segment_seconds`.",
            is_warning=False,
        )
    differences = {name: difference(findings.estimates, layer, name) for name in DIFFERENCES}
    zeros = {"bound": (primary.bound, primary.stderr), **differences}
    factor = significance_factor(primary.num_groups)
    for name, found in zeros.items():
        if found is not None and found[0] <= factor * found[1]:
            yield Message(
                Topic.NOTHING_SHARED,
                f"finds a {name} of {found[0]:.3f} ± {found[1]:.3f} nats, 0 within its error: "
                + (_NO_BOUND + _COLLAPSE[arguments.bound] if name == "bound" else _NO_DIFFERENCE),
                is_warning=False,
                subject=name,
            )
