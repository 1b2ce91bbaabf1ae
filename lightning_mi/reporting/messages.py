"""Messages to the user: each topic once, as a warning or as information, on rank zero."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lightning_mi.arguments import Arguments
from lightning_mi.controls.null_control import NullFinding
from lightning_mi.estimator.num_clusters import FIT_PAIRS_PER_CLUSTER
from lightning_mi.reporting.metric_names import metric_prefix
from lightning_mi.validation.estimates import Findings, Outcome


class Topic(Enum):
    """What a message is about."""

    ENCODER = auto()
    FEWER_CLUSTERS = auto()
    LEAK = auto()
    MISSING_METRIC = auto()
    MIXED_PACKAGES = auto()
    NEAR_DUPLICATES = auto()
    NUM_CLUSTERS = auto()
    NO_VALIDATION = auto()
    NO_VALUE = auto()
    OTHER_SETTINGS = auto()
    SKIPPED = auto()


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


def messages_of(findings: Findings, arguments: Arguments) -> Iterator[Message]:
    """What the user should know of the findings of a validation.

    Args:
        findings: Findings of the validation.
        arguments: Arguments of the callback.
    """
    if findings.skipped:
        yield Message(Topic.SKIPPED, f"leaves out {findings.skipped} utterances: {findings.reasons}.")
    wanted, used = arguments.num_clusters, findings.num_clusters
    if wanted is None:
        uses = f"uses {used} clusters for {findings.num_pairs} pairs."
        yield Message(Topic.NUM_CLUSTERS, uses, is_warning=False, subject=str(used))
    elif used < wanted:
        yield Message(
            Topic.FEWER_CLUSTERS,
            f"lowers `num_clusters` from {wanted} to {used}: {findings.num_pairs} pairs leave "
            f"fewer than {FIT_PAIRS_PER_CLUSTER} to fit each cluster on. Leave it at None, raise "
            "`pairs_per_utterance`, or validate on more utterances.",
        )
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
