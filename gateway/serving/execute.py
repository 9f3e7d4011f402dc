"""
Running a batch and answering its requests: merge, run, split, encode, reply, release; then count, record, mirror, trace.

Everything after the reply is outside the callers' wait. Called by the lane thread for short models and by a version's own
thread for the others; several threads may be here at once, each with another version.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from gateway.api.status_codes import describe
from gateway.contract.counts import LATENCY_BOUNDS_S
from gateway.errors import CallerGone, DeadlinePassed, InferenceFailed, InvalidRequest
from gateway.quality.prediction_id import prefix
from gateway.runtime.halt import Halt
from gateway.runtime.session import Array, InputsRefused, RunFailed, RunStopped
from gateway.runtime.tensors import to_typed
from gateway.serving.encode import encoded
from gateway.serving.item import Item, merge_inputs
from gateway.serving.lane.opening import Call, Lane, Trailers
from gateway.serving.merge import split_rows
from gateway.serving.oip.codec import prediction_id_of, typed_response
from gateway.serving.overload.admission import EXPIRED
from gateway.serving.prediction_records import Executed, PredictionIds, Records, has_row_each
from gateway.serving.recent_inputs import RecentInputs
from gateway.serving.request_traces import refusal_trace, request_trace
from gateway.serving.served import Served
from gateway.serving.shared_memory.placing import place_outputs, placed_answers
from gateway.telemetry.tracing import Tracing

STOPPED_GONE = CallerGone("the caller was gone while the model ran; it was stopped")
STOPPED_LATE = DeadlinePassed("the deadline passed while the model ran; it was stopped")
FAR_AWAY = 32_503_680_000.0  # the year 3000: gRPC's "no deadline" lies beyond


class Timing:
    """
    When a batch was taken up, began to run, had run and was answered; nanoseconds of the performance counter.
    ``processor_ns``: what the run took of this thread's processor time, where that was measured.
    """

    __slots__ = ("answered_ns", "merged_ns", "processor_ns", "ran_ns", "taken_ns")

    def __init__(self, taken_ns: int) -> None:
        self.taken_ns = self.merged_ns = self.ran_ns = self.answered_ns = taken_ns
        self.processor_ns = 0


class Execution:
    """Runs batches of one worker."""

    def __init__(self, lane: Lane, ids: PredictionIds, records: Records, recent: RecentInputs, tracing: Tracing) -> None:
        self._lane = lane
        self._ids = ids
        self._records = records
        self._recent = recent
        self._tracing = tracing
        self._refusing = threading.Lock()

    def run(self, served: Served, items: list[Item], halt: Halt | None = None) -> dict[str, Array] | None:
        """
        Runs requests of one group as one batch and answers every one of them. All hold a lease, which ends here. ``halt``
        is asked for when every caller is gone.

        Returns the outputs over all rows, or None when not all of the batch was answered with one run.
        """
        timing = Timing(time.perf_counter_ns())
        live = self._unexpired(served, items)
        if not live:
            return None
        try:
            outputs = self._outputs(served, live, timing, halt)
            if outputs is None:
                return None
            rows = [item.binding.rows for item in live]
            is_alike = are_alike(live)
            now_ms = int(time.time() * 1000)
            counters = self._ids.draw(len(live))
            id_head = prefix(now_ms, self._ids.epoch)
            self._answer(live, outputs, rows, id_head, counters, is_alike=is_alike)
        except Exception as error:  # a mistake of ours: the callers get an answer and the lease ends
            for item in live:
                self.refuse(item, error)
            served.release(len(live))
            return None
        timing.answered_ns = time.perf_counter_ns()
        served.release(len(live))
        served.ran(rows, timing.ran_ns - timing.merged_ns, timing.processor_ns)
        named = dict(zip(live[0].binding.run_outputs, outputs, strict=True))
        self._count(live, rows, timing, now_ms, is_alike=is_alike)
        self._record(served, live, named, rows, now_ms, counters)
        if timing.answered_ns >= served.example_due_ns:
            self._recent.take(served, live[0], timing.answered_ns)
        if self._tracing.is_on:
            self._trace(live, sum(rows), timing, id_head, counters)
        return named if live is items else None

    def refuse(self, item: Item, error: BaseException) -> None:
        """Ends one request that holds no lease with an error."""
        code, message, trailers = describe(error)
        self._lane.fail(item.call, code, message, trailers)
        with self._refusing:  # the lane's thread and a version's own refuse requests of one version
            item.target.count(code.name)
        if item.trace is not None or self._tracing.may_take_error(time.time_ns()):
            self._tracing.emit(refusal_trace(item, code.name, message))

    def _unexpired(self, served: Served, items: list[Item]) -> list[Item]:
        """The requests whose deadline is still ahead; the others are ended, as nobody waits for them any more."""
        now = time.time()
        if min([item.expires_at for item in items]) > now:
            return items
        expired = [item for item in items if item.expires_at <= now]
        for item in expired:
            self.refuse(item, EXPIRED)
        served.release(len(expired))
        return [item for item in items if item.expires_at > now]

    def _outputs(self, served: Served, items: list[Item], timing: Timing, halt: Halt | None) -> list[Array] | None:
        """The outputs of one run over all rows, or None when the run failed and the requests were dealt with one by one."""
        binding = items[0].binding
        try:
            inputs = merge_inputs(items)
            processor_ns = time.thread_time_ns() if served.is_doubted else 0
            timing.merged_ns = time.perf_counter_ns()
            outputs = served.session.run(binding.run_outputs, inputs, _patience(items), halt)
            timing.ran_ns = time.perf_counter_ns()
            if served.is_doubted:
                timing.processor_ns = time.thread_time_ns() - processor_ns
            if len(items) > 1:
                _check_rows(outputs, sum(item.binding.rows for item in items))
            if binding.placements:
                place_outputs(items, outputs)
            return outputs
        except RunStopped:
            for item in items:
                self.refuse(item, STOPPED_GONE if item.call.is_gone else STOPPED_LATE)
            served.release(len(items))
            return None
        except (RunFailed, InvalidRequest) as error:
            if len(items) > 1:  # one caller's data must not fail the others': each alone
                for item in items:
                    self.run(served, [item])
                return None
            self.refuse(items[0], _caller_error(served, error))
            served.release(1)
            return None

    def _answer(
        self, items: list[Item], outputs: list[Array], rows: list[int], id_head: str, counters: Sequence[int], *, is_alike: bool
    ) -> None:
        """Encodes all answers, then sends them; nothing is sent when anything cannot be encoded."""
        if items[0].binding.placements:
            self._reply_each(items, placed_answers(items, outputs, id_head, counters))
            return
        arrays = outputs[: len(items[0].binding.outputs)]
        answers = encoded(items, arrays, rows, id_head.encode(), counters, is_alike=is_alike)
        special = [index for index, item in enumerate(items) if item.wants_trailers or not item.parameters.is_binary]
        for index in special:
            own = [split_rows(array, rows)[index] if len(items) > 1 else array for array in arrays]
            answers[index] = self._special(items[index], own, f"{id_head}{counters[index]:012x}", answers[index])
        if not special:
            self._lane.reply(answers)
        else:
            self._reply_each(items, answers)

    def _reply_each(self, items: list[Item], answers: list[tuple[Call, bytes]]) -> None:
        """Sends answers of which some have trailers."""
        for answer, item in zip(answers, items, strict=True):
            self._lane.reply([answer], _trailers(item, answer[1]) if item.wants_trailers else None)

    def _special(self, item: Item, outputs: list[Array], prediction_id: str, answer: tuple[Call, bytes]) -> tuple[Call, bytes]:
        """The answer with typed contents, where the request asked for them."""
        if item.parameters.is_binary:
            return answer
        served = item.target.served
        described = tuple(
            (name, served.datatypes[name], array.shape) for name, array in zip(item.binding.outputs, outputs, strict=True)
        )
        values = [to_typed(array) for array in outputs]
        return item.call, typed_response(
            served.model, served.number, item.target.arm, prediction_id, described, values, item.id_field
        )

    def _count(self, items: list[Item], rows: list[int], timing: Timing, now_ms: int, *, is_alike: bool) -> None:
        """Counts a batch: per arm its requests, once per batch the run, on the arm of the first request."""
        run_ns = timing.ran_ns - timing.merged_ns
        merge_ns, encode_ns = timing.merged_ns - timing.taken_ns, timing.answered_ns - timing.ran_ns
        size, first = sum(rows), items[0]
        if is_alike:
            by_target = {first.target: len(items)}
            _count_alike(first, len(items), size, timing)
        else:
            by_target = Counter(item.target for item in items)
            for index, item in enumerate(items):
                _count_alike(item, 1, rows[index], timing)
        for target, requests in by_target.items():
            target.count("OK", requests)
            counts = target.counts
            counts.run_ns += run_ns * requests
            counts.decode_ns += merge_ns * requests
            counts.encode_ns += encode_ns * requests
            counts.last_inference_ms = now_ms
        counts = first.target.counts
        counts.executions[size] = counts.executions.get(size, 0) + 1
        counts.run_ns_by_size[size] = counts.run_ns_by_size.get(size, 0) + run_ns

    def _record(
        self,
        served: Served,
        items: list[Item],
        outputs: dict[str, Array],
        rows: list[int],
        now_ms: int,
        counters: Sequence[int],
    ) -> None:
        prediction = served.prediction
        if prediction is None or not self._records.sample_rate:
            return
        output = outputs[prediction.output]
        if has_row_each(prediction, output, rows):
            self._records.offer(
                Executed(
                    now_ms,
                    served.model,
                    served.number,
                    prediction,
                    [item.target.arm for item in items],
                    counters,
                    [item.id_field for item in items],
                    rows,
                    output,
                )
            )

    def _trace(self, items: Sequence[Item], batch_rows: int, timing: Timing, id_head: str, counters: Sequence[int]) -> None:
        for item, counter in zip(items, counters, strict=True):
            if item.trace is not None:
                times = (timing.taken_ns, timing.merged_ns, timing.ran_ns, timing.answered_ns)
                self._tracing.emit(request_trace(item, *times, batch_rows, f"{id_head}{counter:012x}"))


def _trailers(item: Item, payload: bytes) -> Trailers:
    """The facts of an answer as trailing metadata, for callers that do not read parameters."""
    return (
        ("x-model-version", str(item.target.served.number)),
        ("x-arm", item.target.arm),
        ("x-prediction-id", prediction_id_of(payload)),
    )


def _count_alike(item: Item, requests: int, rows: int, timing: Timing) -> None:
    """Counts requests of one arm that were taken from the lane at the same time."""
    counts = item.target.counts
    latency_s = (timing.answered_ns - item.received_ns) * 1e-9
    counts.latency_buckets[bisect_left(LATENCY_BOUNDS_S, latency_s)] += requests
    counts.latency_sum_s += latency_s * requests
    counts.queue_ns += (timing.taken_ns - item.received_ns) * requests
    counts.rows += rows


def are_alike(items: list[Item]) -> bool:
    """Whether all requests go to one arm and were taken from the lane together: the usual case, encoded and counted at once."""
    target, received_ns = items[0].target, items[0].received_ns
    for item in items:  # noqa: SIM110  # a plain loop is the quickest
        if item.target is not target or item.received_ns != received_ns:
            return False
    return True


def _patience(items: list[Item]) -> float | None:
    """Until when somebody waits for these requests, in Unix seconds; None when one of them waits for ever."""
    until = max([item.expires_at for item in items])
    return until if until < FAR_AWAY else None


def _check_rows(outputs: list[Array], rows: int) -> None:
    for array in outputs:
        if not array.ndim or len(array) != rows:
            raise RunFailed(f"an output of shape {list(array.shape)} does not have the {rows} rows of the batch")


def _caller_error(served: Served, error: RunFailed | InvalidRequest) -> Exception:
    if isinstance(error, InvalidRequest):
        return error
    if isinstance(error, InputsRefused):
        return InvalidRequest(f"model {served.model} v{served.number} refuses these inputs: {error}", model=served.model)
    return InferenceFailed(
        f"model {served.model} v{served.number} failed on this request: {error}",
        model=served.model,
        version=served.number,
    )
