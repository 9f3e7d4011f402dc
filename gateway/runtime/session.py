"""The session protocol: what the request path needs of a loaded model, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from gateway.runtime.halt import Halt
from registry.signature import Signature

Array = NDArray[Any]


class RunFailed(Exception):
    """The runtime refused these inputs; the text is the runtime's own."""


class InputsRefused(RunFailed):
    """The runtime refused the inputs' rank, dimensions or types: the caller's mistake."""


class RunStopped(RunFailed):
    """The run was stopped because its deadline passed or nobody waits for it any more."""


class SessionCrashed(RunFailed):
    """The model has ended the process that ran it. Only sessions in a process of their own can tell."""


class LoadRefused(Exception):
    """The runtime cannot load the model; the text is the runtime's own."""


class Session(Protocol):
    """A loaded model. ``run`` blocks without the GIL, is thread-safe, and owns nothing of its arguments afterwards."""

    signature: Signature

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, Array], until: float | None = None, halt: Halt | None = None
    ) -> list[Array]:
        """
        Returns the named outputs for these inputs, in that order. Raises RunFailed, and RunStopped if ``until``
        (monotonic seconds; None: no deadline) passes meanwhile or ``halt`` is asked for.
        """
        ...

    def close(self) -> None:
        """Frees the model. Nothing may be running."""
        ...
