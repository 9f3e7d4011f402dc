"""
What a worker asks control, and the answers. Pure values.

A worker asks what only control knows: statistics over all workers, the repository, shared memory regions, ground truth, and
a version that a caller names. Nothing of gRPC or protobuf is in here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.contract.counts import ArmCounts
from gateway.contract.desired import Region
from gateway.contract.feedback import Feedback, Verdict
from registry.errors import ExpectedError

# ---- questions ------------------------------------------------------------------------------------------------------


class Question(msgspec.Struct, frozen=True, tag=True):
    """Base of every question."""


class StatisticsQuestion(Question, frozen=True):
    """Counts of one version (number, alias or latest), of all versions of a model ("" as version), or of everything."""

    model: str = ""
    version: str = ""


class IndexQuestion(Question, frozen=True):
    """Every version that is loaded or could be; ``is_ready``: only those that are READY."""

    is_ready: bool = False


class LoadModelQuestion(Question, frozen=True):
    """Has the newest version of a model serve: deploys it if nothing is deployed, promotes it if it is new."""

    model: str


class UnloadModelQuestion(Question, frozen=True):
    """Undeploys a model."""

    model: str


class LoadVersionQuestion(Question, frozen=True):
    """Has a version (number or alias) loaded on demand. The desired state brings it."""

    model: str
    version: str


class RegionsQuestion(Question, frozen=True):
    """The registered shared memory region of this name; all for ""."""

    name: str = ""


class RegisterRegionQuestion(Question, frozen=True):
    """Registers a shared memory region with every worker. Control finds its ``identity``."""

    region: Region


class UnregisterRegionQuestion(Question, frozen=True):
    """Unregisters the region of this name; all for ""."""

    name: str = ""


class FeedbackQuestion(Question, frozen=True):
    """Records ground truth."""

    items: tuple[Feedback, ...]


AnyQuestion = (
    StatisticsQuestion
    | IndexQuestion
    | LoadModelQuestion
    | UnloadModelQuestion
    | LoadVersionQuestion
    | RegionsQuestion
    | RegisterRegionQuestion
    | UnregisterRegionQuestion
    | FeedbackQuestion
)

# ---- answers --------------------------------------------------------------------------------------------------------


class AnswerValue(msgspec.Struct, frozen=True, tag=True):
    """Base of every answer."""


class Done(AnswerValue, frozen=True):
    """It is done; ``model`` is the one concerned, "" if none."""

    model: str = ""


class VersionStatistics(msgspec.Struct, frozen=True):
    """Counts of one version over all workers, all arms summed."""

    model: str
    version: int
    counts: ArmCounts
    memory_bytes: int = 0


class Statistics(AnswerValue, frozen=True):
    """Answers a `StatisticsQuestion`."""

    versions: tuple[VersionStatistics, ...]


class IndexEntry(msgspec.Struct, frozen=True):
    """One version in the repository. ``state`` is Triton's word: READY, LOADING, UNLOADING or UNAVAILABLE."""

    model: str
    version: int
    state: str
    reason: str = ""


class Index(AnswerValue, frozen=True):
    """Answers an `IndexQuestion`."""

    entries: tuple[IndexEntry, ...]


class LoadingVersion(AnswerValue, frozen=True):
    """Answers a `LoadVersionQuestion`: the number that was meant; it is loaded or being loaded."""

    number: int


class RegionList(AnswerValue, frozen=True):
    """Answers a `RegionsQuestion`."""

    regions: tuple[Region, ...]


class Verdicts(AnswerValue, frozen=True):
    """Answers a `FeedbackQuestion`: one verdict per item, in order."""

    verdicts: tuple[Verdict, ...]


AnyAnswerValue = Done | Statistics | Index | LoadingVersion | RegionList | Verdicts


class AskError(msgspec.Struct, frozen=True):
    """
    An error of control. ``kind`` is the name of its class, from which `gateway.api.status_codes` chooses the code; "" for
    an unexpected error, of which nothing else is told.
    """

    kind: str
    reason: str
    message: str
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
    retry_after_s: float | None = None


def ask_error(error: ExpectedError) -> AskError:
    """Returns an expected error as a worker is told."""
    retry_after_s: float | None = getattr(error, "retry_after_s", None)
    return AskError(type(error).__name__, error.reason, str(error), error.metadata, retry_after_s)


# ---- messages -------------------------------------------------------------------------------------------------------


class Ask(msgspec.Struct, frozen=True):
    """A worker asks control. ``token`` is unique to the connection."""

    token: int
    question: AnyQuestion


class Answer(msgspec.Struct, frozen=True):
    """Control answers the `Ask` of this token: ``value``, or ``error``."""

    token: int
    value: AnyAnswerValue | None = None
    error: AskError | None = None
