"""
The child process of one isolated model (``python -m gateway.runtime.isolated.child_run ORDERS``): loads it, then runs it as
often as it is told to. It ends when its worker closes the line, hence also when the worker dies.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from gateway.runtime.halt import Halt
from gateway.runtime.isolated.orders_to_child import ChildMessage, ChildOrders, ChildRefused, ModelLoaded, RunDone, RunOrder
from gateway.runtime.isolated.tensor_area import TensorArea
from gateway.runtime.scheduling import behind_the_short
from gateway.runtime.session import LoadRefused, RunFailed, Session


class _Stops:
    """Stops the run whose number comes on the line of stops. A number may come before its run, or after it."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._stopped = self._running = 0
        self._halt = Halt()
        threading.Thread(target=self._listen, name="stops", daemon=True).start()

    def begin(self, number: int) -> Halt:
        with self._lock:
            self._running, self._halt = number, Halt()
            if self._stopped == number:
                self._halt.now()
            return self._halt

    def _listen(self) -> None:
        while True:
            try:
                number = int(self._line.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)  # the worker is gone or closes the model: nobody waits for the run
            with self._lock:
                self._stopped = number
                if self._running == number:
                    self._halt.now()


def serve(orders: ChildOrders) -> None:
    """Loads the model and runs it until the line ends."""
    line, stops = Connection(orders.line), _Stops(Connection(orders.stops))
    inputs, outputs = TensorArea(orders.inputs), TensorArea(orders.outputs)
    decoder = msgspec.msgpack.Decoder(RunOrder)
    session = _loaded(orders, line)
    behind_the_short()
    while session is not None:
        try:
            order = decoder.decode(line.recv_bytes())
        except (EOFError, OSError):
            return
        _send(line, _ran(session, order, stops.begin(order.number), inputs, outputs))


def _loaded(orders: ChildOrders, line: Connection) -> Session | None:
    from gateway.runtime.onnx import OnnxSession

    try:
        session = OnnxSession(Path(orders.path), threads=orders.threads, config=dict(orders.config))
    except LoadRefused as error:
        _send(line, ChildRefused("LoadRefused", str(error)))
        return None
    _send(line, ModelLoaded(session.signature))
    return session


def _ran(session: Session, order: RunOrder, halt: Halt, inputs: TensorArea, outputs: TensorArea) -> ChildMessage:
    try:
        arrays = session.run(order.outputs, {one.name: inputs.read(one) for one in order.inputs}, order.until, halt)
    except RunFailed as error:
        return ChildRefused(type(error).__name__, str(error))
    return RunDone(outputs.write(zip(order.outputs, arrays, strict=True)))


def _send(line: Connection, message: ChildMessage) -> None:
    try:
        line.send_bytes(msgspec.msgpack.encode(message))
    except OSError:
        pass  # the worker is gone


def main() -> None:
    """Runs the child."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with its worker, which may still need it
    serve(msgspec.json.decode(sys.argv[1], type=ChildOrders))


if __name__ == "__main__":
    main()
