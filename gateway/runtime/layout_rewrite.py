"""
Makes a serving layout of a model: rewritten with its weights outside, measured, checked against the original.

`build` is called in control; ``python -m gateway.runtime.layout_rewrite`` is the child: one JSON line in, one out.
The model is run there, under limits, as in the trial run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.runtime.layout_choice import MAPPED, NOISE, PREPACKED, SLOWDOWN, UNPACKED, Figures, choose, slowdown
from gateway.runtime.sandbox import Limits, SandboxFailed, answer, ask

if TYPE_CHECKING:
    from gateway.runtime.session import Array, Session

ORIGINAL = "original"  # no layout: the registered file is served
TIMEOUT_S = 600.0
BIG_BATCH = 32
CHECKED_ROWS = (1, 2, 5)
TIMED_ROUNDS, TIMED_S = 15, 2.0  # rounds of one number of rows, ended early when they take longer
TRIALS = 3  # of them until a form is given up for being slow: a busy machine makes runs longer, never shorter
PIECES, WHOLE = "pieces", "whole"  # folders of packed weights, by how they are packed
CONFIG = {UNPACKED: {"session.disable_prepacking": "1"}}


class LayoutFailed(Exception):
    """No layout could be made for a reason outside the model. Another attempt may succeed."""


@dataclass(frozen=True, slots=True)
class LayoutOrder:
    """
    The order to the child: ``path`` is the model, ``folder`` an empty folder to work in; rows of a batch may run together if
    ``is_batchable``.
    """

    path: str
    folder: str
    is_batchable: bool
    memory_bytes: int
    file_bytes: int
    cpu_s: int


@dataclass(frozen=True, slots=True)
class Built:
    """
    What came of it. ``mode`` is of `layout_choice`, or ``original`` when there is nothing to gain or the answers differ, as
    ``reason`` says. ``folder`` is the part of the work folder that holds the layout, ``blobs`` the names of its weights'
    files, ``config`` what ONNX Runtime has to be told. ``problem``: it failed, and may go well another time.
    """

    mode: str = ORIGINAL
    reason: str = ""
    folder: str = ""
    blobs: tuple[str, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    private_bytes: int = 0
    figures: Mapping[str, Figures] = field(default_factory=dict)
    problem: str = ""


def build(path: Path, folder: Path, *, is_batchable: bool, size_bytes: int, timeout_s: float = TIMEOUT_S) -> Built:
    """
    Makes the layout of the model at ``path``, which takes ``size_bytes`` with its weights, in the empty ``folder``, in a
    process of its own. Blocks for some seconds. Raises LayoutFailed.
    """
    order = LayoutOrder(
        str(path), str(folder), is_batchable, (16 << 30) + 8 * size_bytes, 4 * size_bytes + (1 << 20), max(1, int(timeout_s))
    )
    try:
        built = ask("gateway.runtime.layout_rewrite", order, Built, timeout_s=timeout_s)
    except SandboxFailed as failed:
        raise LayoutFailed(f"its process {failed}") from None
    except OSError as error:
        raise LayoutFailed(f"its process cannot be started: {error.strerror or error}") from error
    if built.problem:
        raise LayoutFailed(built.problem)
    return built


def main() -> None:
    """Runs the child."""
    answer(LayoutOrder, lambda order: Limits(order.memory_bytes, order.cpu_s, order.file_bytes), made)


def made(order: LayoutOrder) -> Built:
    """Makes a layout in this process."""
    from gateway.runtime.session import LoadRefused
    from registry.errors import InvalidModel
    from registry.serving_layout import WORTH_BYTES, rewrite

    work = Path(order.folder)
    try:
        (work / "plain").mkdir()
        blobs = rewrite(Path(order.path), work / "plain")
        if not blobs:
            return Built(reason=f"its large weights are less than {WORTH_BYTES >> 20} MiB")
        return _Comparison(order, work, blobs).outcome()
    except (LoadRefused, InvalidModel) as error:
        return Built(reason=f"the rewritten model cannot be loaded: {error}")
    except OSError as error:
        return Built(problem=f"it cannot be written: {error.strerror or error}")


class _Comparison:
    """The original against its layouts: the same answers, the memory they take, the time they need."""

    def __init__(self, order: LayoutOrder, work: Path, blobs: tuple[str, ...]) -> None:
        self._work, self._blobs = work, blobs
        self._weights_bytes = sum((work / "plain" / name).stat().st_size for name in blobs)
        self._timed_rows = (1, BIG_BATCH) if order.is_batchable else (1,)
        self._rows = tuple(dict.fromkeys((*(CHECKED_ROWS if order.is_batchable else (1, 1)), *self._timed_rows)))
        self._original = Path(order.path)
        self._inputs: dict[int, dict[str, Array]] = {}
        self._answers: dict[int, list[Array]] = {}
        self._private: dict[str, int] = {}
        self._times: dict[str, dict[int, float]] = {}
        self._sessions: dict[str, Session] = {}

    def outcome(self) -> Built:
        """What is to be served."""
        problem = self._ask_original() or self._open(MAPPED, "plain") or self._open(UNPACKED, "plain")
        if problem:
            return Built(reason=problem)
        for _ in range(TRIALS):
            figures = self._timed(MAPPED, UNPACKED)
            if not SLOWDOWN < slowdown(figures[UNPACKED], figures[MAPPED]) <= NOISE:
                break
        mode, reason = choose(self._weights_bytes, figures[MAPPED], figures[UNPACKED])
        folder, blobs = "plain", self._blobs
        may_pack = mode == MAPPED and slowdown(figures[UNPACKED], figures[MAPPED]) > SLOWDOWN
        for kind in (PIECES, WHOLE) if may_pack else ():
            packed = self._packed(kind)
            if packed:
                mode, reason = self._compared(figures)
            if mode == PREPACKED:
                folder, blobs = kind, packed
                break
        return Built(mode, reason, folder, blobs, CONFIG.get(mode, {}), figures[mode].private_bytes, figures)

    def _compared(self, figures: dict[str, Figures]) -> tuple[str, str]:
        """The choice with PREPACKED as a candidate; its figures, and MAPPED's beside it, are added."""
        mode = reason = ""
        for _ in range(TRIALS):
            figures |= self._timed(PREPACKED, MAPPED)
            mode, reason = choose(self._weights_bytes, *(figures[name] for name in (MAPPED, UNPACKED, PREPACKED)))
            if mode == PREPACKED:
                break
        return mode, reason

    def _ask_original(self) -> str:
        """Finds inputs and the original's answers to them; why that cannot be done, if so."""
        import numpy as np

        from gateway.runtime.onnx import OnnxSession
        from gateway.runtime.process_memory import give_back
        from gateway.runtime.synthetic import runnable_inputs

        session = OnnxSession(self._original)
        random = np.random.default_rng(0)
        for rows in self._rows:
            inputs = runnable_inputs(session, rows, random) or runnable_inputs(session, rows)
            if inputs is None:
                return f"no input of {rows} rows was found that the model runs on, so its answers cannot be compared"
            self._inputs[rows] = inputs
            self._answers[rows] = _answers(session, inputs)
        problem = self._difference(session)
        session.close()
        give_back()
        return f"its answers vary from run to run: {problem}" if problem else ""

    def _open(self, mode: str, folder: str) -> str:
        """Loads a layout and compares its answers; what is wrong with them, if anything."""
        from gateway.runtime.onnx import OnnxSession
        from gateway.runtime.process_memory import give_back, resident
        from registry.serving_layout import MODEL_FILE

        give_back()
        before = resident()
        session = OnnxSession(self._work / folder / MODEL_FILE, config=CONFIG.get(mode, {}))
        problem = self._difference(session)
        give_back()
        self._private[mode] = resident().since(before).private_bytes
        self._sessions[mode], self._times[mode] = session, {}
        return problem and f"the rewritten model ({mode}) answers otherwise than the original: {problem}"

    def _difference(self, session: Session) -> str:
        from gateway.runtime.synthetic import is_same

        for rows, expected in self._answers.items():
            got = _answers(session, self._inputs[rows])
            for spec, left, right in zip(session.signature.outputs, expected, got, strict=True):
                if not is_same(spec.datatype, left, right):
                    return f"output {spec.name!r} of {rows} rows"
        return ""

    def _packed(self, folder: str) -> tuple[str, ...]:
        """
        Has ONNX Runtime pack the weights, and their files made in the work folder's ``folder``; none when that does not give
        the same answers. In ``pieces``, large factors are cut first, so that loading never holds a whole one in private
        memory; after optimization, which would not know its patterns again.
        """
        from gateway.runtime.onnx import save_optimized
        from gateway.runtime.session import LoadRefused
        from registry.errors import InvalidModel
        from registry.serving_layout import MODEL_FILE, rewrite

        plain, optimized, cut, saved, target = (
            self._work / name for name in ("plain", f"{folder}-optimized", f"{folder}-cut", f"{folder}-saved", folder)
        )
        for made in (optimized, cut, saved, target):
            made.mkdir()
        try:
            source = plain
            if folder == PIECES:
                save_optimized(plain / MODEL_FILE, optimized / MODEL_FILE, is_packed=False)
                if not rewrite(optimized / MODEL_FILE, cut, is_cut=True):
                    return ()
                source = cut
            save_optimized(source / MODEL_FILE, saved / MODEL_FILE, is_packed=True)
            blobs = rewrite(saved / MODEL_FILE, target)
            return () if not blobs or self._open(PREPACKED, folder) else blobs
        except (LoadRefused, InvalidModel, OSError):
            return ()  # the plain layout is there and good
        finally:
            for done in (optimized, cut, saved):
                shutil.rmtree(done, ignore_errors=True)  # each is as large as the model

    def _timed(self, *modes: str) -> dict[str, Figures]:
        """Runs layouts in turn, so that what disturbs one disturbs the others too; of each the quickest run so far counts."""
        for rows in self._timed_rows:
            began = time.monotonic()
            for _ in range(TIMED_ROUNDS):
                for mode in modes:
                    spent = _processor_s(self._sessions[mode], self._inputs[rows])
                    self._times[mode][rows] = min(spent, self._times[mode].get(rows, spent))
                if time.monotonic() - began > TIMED_S:
                    break
        return {mode: Figures(self._private[mode], dict(self._times[mode])) for mode in modes}


def _answers(session: Session, inputs: Mapping[str, Array]) -> list[Array]:
    return session.run([spec.name for spec in session.signature.outputs], inputs)


def _processor_s(session: Session, inputs: Mapping[str, Array]) -> float:
    """Of one run in this thread, which is the only one that runs it; other processes do not count."""
    began = time.thread_time()
    _answers(session, inputs)
    return time.thread_time() - began


if __name__ == "__main__":
    main()
