"""Ground truth and its verdicts as the client's values, and their messages. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from gateway.client.call_errors import CannotSend
from gateway.protocol.messages import feedback

ITEMS_PER_MESSAGE = 1000


class Verdict(StrEnum):
    """The verdict on an item. protos/interlock/v1/feedback.proto explains each."""

    JOINED = "JOINED"
    PENDING = "PENDING"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"
    INVALID = "INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """
    The true outcome for one prediction, which is named by ``prediction_id`` or by the caller's own ``inference_id``. The
    outcome is a ``label`` (a class: text, a number or a bool) or a ``value`` (a number). ``row`` is the row in a request of
    several rows, ``source`` the origin of the truth. A repeat with the same ``idempotency_key`` is always a duplicate.
    Raises CannotSend that names the wrong field.
    """

    prediction_id: str | None = None
    inference_id: str | None = None
    label: str | float | None = None
    value: float | None = None
    row: int = 0
    source: str = ""
    observed_at: datetime | None = None
    idempotency_key: str = ""

    def __post_init__(self) -> None:
        if (self.prediction_id is None) == (self.inference_id is None):
            raise CannotSend("give prediction_id or inference_id, one of the two")
        if (self.label is None) == (self.value is None):
            raise CannotSend("give label or value, one of the two")
        if self.row < 0:
            raise CannotSend(f"row: expected 0 or more, got {self.row}")


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """The verdict on one item. ``detail`` explains it if there is something to explain."""

    verdict: Verdict
    detail: str = ""


def item_message(item: Feedback) -> feedback.FeedbackItem:
    """Returns the item's message. A time without a zone is local time."""
    message = feedback.FeedbackItem(row=item.row, source=item.source, idempotency_key=item.idempotency_key)
    if item.prediction_id is not None:
        message.prediction_id = item.prediction_id
    elif item.inference_id is not None:
        message.inference_id = item.inference_id
    if item.label is not None:
        message.label = str(item.label)
    elif item.value is not None:
        message.value = float(item.value)
    if item.observed_at is not None:
        message.observed_at.FromDatetime(item.observed_at.astimezone(UTC))
    return message


def stream_messages(items: Iterable[Feedback]) -> Iterator[feedback.StreamFeedbackRequest]:
    """Yields the items in messages of at most 1000."""
    request = feedback.StreamFeedbackRequest()
    for item in items:
        request.items.append(item_message(item))
        if len(request.items) == ITEMS_PER_MESSAGE:
            yield request
            request = feedback.StreamFeedbackRequest()
    if request.items:
        yield request


async def astream_messages(
    items: Iterable[Feedback] | AsyncIterable[Feedback],
) -> AsyncIterator[feedback.StreamFeedbackRequest]:
    """Yields the same from either kind of iterable, for asyncio."""
    if not isinstance(items, AsyncIterable):
        for request in stream_messages(items):
            yield request
        return
    waiting: list[Feedback] = []
    async for item in items:
        waiting.append(item)
        if len(waiting) == ITEMS_PER_MESSAGE:
            for request in stream_messages(waiting):
                yield request
            waiting.clear()
    for request in stream_messages(waiting):
        yield request


def results(messages: Sequence[feedback.FeedbackResult]) -> list[FeedbackResult]:
    """Returns the verdicts as values, in the order of the items."""
    names = {number: name.removeprefix("FEEDBACK_VERDICT_") for name, number in feedback.FeedbackVerdict.items()}
    return [FeedbackResult(Verdict(names[message.verdict]), message.detail) for message in messages]
