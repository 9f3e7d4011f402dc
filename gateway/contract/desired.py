"""
The desired state: what control tells workers to load and to route. Pure values.

Always whole: what a state leaves out is unloaded, and the last one wins. So no message can be lost or come too late.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from gateway.contract.version_state import VersionState
from registry.deployment import Batching, Segment, Shadow
from registry.signature import Signature
from registry.versions import Prediction


@dataclass(frozen=True, slots=True)
class DesiredVersion:
    """
    A version that a worker should have loaded. ``path`` is the ONNX file to load on this machine: the registered one, or
    that of its serving layout, for which the runtime needs ``session_config``. ``digest`` is the artifact's either way.
    ``examples`` is the file with example requests to warm it up with (`registry.examples`), empty if there is none.
    ``is_batchable``: the mode ``auto`` batches it; ``batched_inputs``: the sets of optional inputs with which requests may
    share a batch; ``can_split``: False if its outputs do not have one row per row of the inputs. ``isolation``: ``none`` loads
    it in the worker, ``process`` in a child process of its own. ``is_suspect``: it has ended a worker, so a load without
    isolation must not serve a moment longer. ``attempt`` grows when a load that failed is to be tried again; a version that
    did not fail is the same under every attempt. ``damage`` says why its files cannot be loaded any more; then ``path`` is
    empty. What is in memory already serves on.
    """

    number: int
    path: str
    digest: str
    signature: Signature
    prediction: Prediction | None
    is_batchable: bool
    batching: Batching
    examples: str = ""
    session_config: tuple[tuple[str, str], ...] = ()
    batched_inputs: tuple[tuple[str, ...], ...] = ()
    can_split: bool = True
    isolation: str = "none"
    is_suspect: bool = False
    attempt: int = 0
    damage: str = ""

    def is_met_by(self, other: DesiredVersion, state: VersionState) -> bool:
        """Returns whether a loaded version is the desired one. It was loaded as ``other`` and is in this state."""
        if self == other or state is VersionState.FAILED:
            return self == other
        same = replace(other, attempt=self.attempt)
        if self.damage:
            same = replace(same, path=self.path, damage=self.damage, examples=self.examples, session_config=self.session_config)
        return self == same


@dataclass(frozen=True, slots=True)
class DesiredRoute:
    """The route of a model's callers: the deployment ``revision`` in the form that routing needs."""

    revision: int
    default: int
    segments: tuple[Segment, ...]
    salt: str
    shadow: Shadow | None
    aliases: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DesiredModel:
    """
    The versions of one model that a worker should have loaded, and its route (None: loaded, but without callers).
    ``aliases`` are names of versions without a route. ``unavailable`` says why callers get no answer for a while although
    the model is deployed; empty if there is no such reason. ``fences`` are the times (Unix seconds) until which calls of
    versions that crash are refused.
    """

    name: str
    versions: tuple[DesiredVersion, ...]
    route: DesiredRoute | None
    aliases: Mapping[str, int] = field(default_factory=dict)
    unavailable: str = ""
    fences: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Region:
    """
    Bytes ``offset`` to ``offset + byte_size`` of the POSIX shared memory object ``key``, which callers may name as ``name``.
    ``identity`` tells the object from a later one of the same key.
    """

    name: str
    key: str
    offset: int
    byte_size: int
    identity: str


@dataclass(frozen=True, slots=True)
class DesiredState:
    """
    Everything that a worker should load and route. Always whole: what is left out is unloaded, and the last one wins.

    ``revision`` grows with every state that control sends, over restarts of control too.
    """

    revision: int
    models: tuple[DesiredModel, ...] = ()
    regions: tuple[Region, ...] = ()


def isolating(state: DesiredState, names: Collection[tuple[str, int]]) -> DesiredState:
    """Returns the state with these versions (model, number) isolated, because they have ended workers."""
    models = {model for model, _ in names}
    return replace(state, models=tuple(_isolating(one, names) if one.name in models else one for one in state.models))


def _isolating(model: DesiredModel, names: Collection[tuple[str, int]]) -> DesiredModel:
    versions = (
        replace(version, isolation="process", is_suspect=True) if (model.name, version.number) in names else version
        for version in model.versions
    )
    return replace(model, versions=tuple(versions))
