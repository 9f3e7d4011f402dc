"""Changes of a model's aliases. Callers may name an alias, so every worker has its new target ready before the alias moves."""

from __future__ import annotations

from gateway.control.changes.operations import Note, Operation, Operations, Request, Result
from gateway.control.changes.traffic import Change, check_ref
from gateway.control.changes.two_phase import TwoPhase
from gateway.control.desired.reconcile import Preparing
from gateway.control.fleet.workers import Fleet
from registry.names import check_alias
from registry.registry import Registry
from registry.versions import Model


class Aliases:
    """Sets and deletes aliases. Thread-safe. Both return at once with an `Operation` whose result is the model."""

    def __init__(self, registry: Registry, operations: Operations, two_phase: TwoPhase, fleet: Fleet) -> None:
        self._registry, self._operations, self._two_phase, self._fleet = registry, operations, two_phase, fleet

    def set(self, model: str, alias: str, ref: str, *, change: Change) -> Operation:
        """Points the alias at a version (a number, an alias or latest)."""
        content = ("set_alias", alias, ref, change.etag, change.author, change.reason)
        request = Request("alias", model, content, change.request_id)
        return self._operations.start(request, lambda note: Result(model=self.move(model, alias, ref, change, note)))

    def delete(self, model: str, alias: str, *, change: Change) -> Operation:
        """Removes the alias. Callers that name it get NOT_FOUND from then on."""

        def work(note: Note) -> Result:
            written = self._registry.delete_alias(
                model, alias, etag=change.etag, request_id=change.request_id, author=change.author, reason=change.reason
            )
            self._two_phase.bring_aliases(written)
            return Result(model=written)

        content = ("delete_alias", alias, change.etag, change.author, change.reason)
        return self._operations.start(Request("alias", model, content, change.request_id), work)

    def registered(self, model: Model) -> None:
        """Sends the workers an alias that was written together with a registration. Nobody could call it before."""
        self._two_phase.bring_aliases(model)

    def move(self, model: str, alias: str, ref: str, change: Change, note: Note) -> Model:
        """
        Points the alias at a version, within an operation on the model. Raises as the registry and `TwoPhase.change_alias`
        do.
        """
        check_alias(alias)
        check_ref(ref)
        number = self._registry.version(model, ref).number
        deployment = self._registry.deployment(model)

        def write() -> Model:
            return self._registry.set_alias(
                model,
                alias,
                number,
                etag=change.etag,
                request_id=change.request_id,
                request_content=f"{ref} {change.etag}",  # the words of the request: latest may be another version by then
                author=change.author,
                reason=change.reason,
            )

        is_served = deployment is not None and deployment.default is not None and bool(self._fleet.view().attached)
        if deployment is None or not is_served:  # no caller can use this name now
            written = write()
            self._two_phase.bring_aliases(written)
            return written
        return self._two_phase.change_alias(
            model, Preparing(frozenset({number}), deployment.batching, deployment.isolation), write, note
        )
