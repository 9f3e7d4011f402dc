"""
Changes of the versions that answer callers: deploy, promote, split, shadow, configure, rollback, undeploy.

Each makes the next deployment from the current one (`registry.deployment`), checks the rules, and brings it to the workers
in two phases (`two_phase`). Each needs all versions that answer callers READY, also those that it leaves in place: a change
succeeds only if it is served. All return at once with an `Operation`; errors are the operation's.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from gateway.control.changes.deployment_settings import DeploymentSettings, changed_settings
from gateway.control.changes.operations import Note, Operation, Operations, Request, Result
from gateway.control.changes.two_phase import Intent, TwoPhase
from gateway.errors import ForbiddenNow
from gateway.quality.class_match import Predictor, warning
from registry.deployment import (
    PARTS,
    Deployment,
    Shadow,
    deployed,
    promoted,
    rolled_back,
    shadowed,
    split,
    undeployed,
)
from registry.errors import InvalidValue, RevisionConflict
from registry.registry import Registry
from registry.signature import incompatibilities


@dataclass(frozen=True, slots=True)
class Change:
    """
    The facts that come with every write: the etag that the caller has seen ("" for any), the author, the reason, and the
    request's id.
    """

    etag: str = ""
    request_id: str = ""
    author: str = ""
    reason: str = ""


ANONYMOUS = Change()


_Plan = Callable[[Deployment | None], tuple[Deployment, frozenset[int]]]  # current -> next, and the versions it requires


class Traffic:
    """Begins changes of what is served. Thread-safe. Changes of one model run one after the other."""

    def __init__(
        self,
        registry: Registry,
        operations: Operations,
        two_phase: TwoPhase,
        *,
        new_salt: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._registry, self._operations, self._two_phase, self._new_salt = registry, operations, two_phase, new_salt

    def deploy(self, model: str, ref: str, *, force: bool = False, change: Change = ANONYMOUS) -> Operation:
        """
        Deploys one version for all callers with default settings: the first deployment, or a replacement of the current one.
        """

        def plan(current: Deployment | None) -> tuple[Deployment, frozenset[int]]:
            number = self._resolve(model, ref, current, is_forced=force)
            made = deployed(model, number, current=current, salt=self._new_salt())
            return made, made.routed_versions()

        return self._begin("deploy", model, {"version": ref, "force": force}, change, plan)

    def promote(self, model: str, ref: str, *, force: bool = False, change: Change = ANONYMOUS) -> Operation:
        """Sends all callers to a version. Candidates end, settings stay."""

        def plan(current: Deployment | None) -> tuple[Deployment, frozenset[int]]:
            present = _present(current, model, "promote")
            made = promoted(present, self._resolve(model, ref, current, is_forced=force))
            return made, made.routed_versions()

        return self._begin("promote", model, {"version": ref, "force": force}, change, plan)

    def split(self, model: str, percents: Mapping[str, float], *, force: bool = False, change: Change = ANONYMOUS) -> Operation:
        """Splits callers by weight: ``percents`` per version (number or alias), which sum to 100."""

        def plan(current: Deployment | None) -> tuple[Deployment, frozenset[int]]:
            parts: dict[int, int] = {}
            for ref, percent in percents.items():
                number = self._resolve(model, ref, current, is_forced=force)
                if number in parts:
                    raise InvalidValue(f"weights: {ref!r} names v{number}, which is there already", field="weights")
                parts[number] = _parts(ref, percent)
            made = split(_present(current, model, "split"), parts, salt=self._new_salt())
            return made, made.routed_versions()

        return self._begin("split", model, {"weights": dict(percents), "force": force}, change, plan)

    def shadow(
        self, model: str, ref: str, *, percent: float = 100.0, force: bool = False, change: Change = ANONYMOUS
    ) -> Operation:
        """Sends a version copies of ``percent`` of the requests. An empty ``ref`` ends shadowing."""

        def plan(current: Deployment | None) -> tuple[Deployment, frozenset[int]]:
            present = _present(current, model, "shadow")
            if not ref:
                return shadowed(present, None), present.routed_versions()
            number = self._resolve(model, ref, current, is_forced=force)
            return shadowed(present, Shadow(number, percent)), present.routed_versions() | {number}

        return self._begin("shadow", model, {"version": ref, "percent": percent, "force": force}, change, plan)

    def configure(self, model: str, settings: DeploymentSettings, *, change: Change = ANONYMOUS) -> Operation:
        """Changes settings for all versions that are served."""

        def plan(current: Deployment | None) -> tuple[Deployment, frozenset[int]]:
            made = settings.applied_to(_present(current, model, "configure"))
            return made, made.routed_versions()

        return self._begin("configure", model, msgspec.to_builtins(settings), change, plan)

    def rollback(self, model: str, *, change: Change = ANONYMOUS) -> Operation:
        """
        Restores the whole deployment that was served before. Within the rollback window it is still warm: then there is one
        commit and nothing to load.
        """

        def plan(current: Deployment | None) -> tuple[Deployment, frozenset[int]]:
            if current is None or current.predecessor is None:
                raise ForbiddenNow(f"{model} has no earlier deployment to go back to", rule="predecessor", model=model)
            made = rolled_back(current, self._registry.revision(model, current.predecessor))
            return made, made.routed_versions()

        return self._begin("rollback", model, {}, change, plan)

    def undeploy(self, model: str, *, change: Change = ANONYMOUS) -> Operation:
        """Stops answering callers. The versions stay registered, and `rollback` restores what was served."""

        def plan(current: Deployment | None) -> tuple[Deployment, frozenset[int]]:
            return undeployed(_present(current, model, "undeploy")), frozenset()

        return self._begin("undeploy", model, {}, change, plan)

    # ---- what they have in common ----------------------------------------------------------------------------------

    def _begin(self, verb: str, model: str, arguments: Mapping[str, object], change: Change, plan: _Plan) -> Operation:
        asked = (verb, model, arguments, change.etag, change.author, change.reason)
        content = msgspec.json.encode(asked, order="deterministic").decode()
        request = Request(verb, model, content, change.request_id)
        return self._operations.start(request, lambda note: self._run(model, content, change, plan, note))

    def _run(self, model: str, content: str, change: Change, plan: _Plan, note: Note) -> Result:
        if change.request_id:
            earlier = self._registry.replayed(change.request_id, content)
            if earlier is not None:
                return self._result(self._before(earlier), earlier)
        current = self._registry.deployment(model)
        _check_etag(model, current, change.etag)
        made, required = plan(current)
        if current is not None and _is_same(made, current):
            # No new revision: the next rollback would restore what is served already.
            note("unchanged", f"revision {current.revision} is that already")
            return self._result(current, current, self._two_phase.confirm(current, required, note))

        def write() -> Deployment:
            return self._registry.commit(
                made,
                expected_revision=current.revision if current else 0,
                author=change.author,
                reason=change.reason,
                request_id=change.request_id,
                request_content=content,
            )

        written, missing = self._two_phase.change(Intent(made, required, write), note)
        return self._result(current, written, missing)

    def _before(self, deployment: Deployment) -> Deployment | None:
        return self._registry.revision(deployment.model, deployment.revision - 1) if deployment.revision > 1 else None

    def _result(self, before: Deployment | None, made: Deployment, missing: tuple[str, ...] = ()) -> Result:
        changes = changed_settings(before, made) if before is not None and made.action == "configure" else ()
        return Result(deployment=made, missing=missing, warnings=self._warnings(made), changes=changes)

    def _warnings(self, deployment: Deployment) -> tuple[str, ...]:
        """Returns why answers of the shadow cannot be compared with those of each version that answers callers."""
        if deployment.shadow is None:
            return ()
        shadow = deployment.shadow.version
        theirs = self._predictor(deployment.model, shadow)
        texts = (
            warning(number, self._predictor(deployment.model, number), shadow, theirs)
            for number, parts in deployment.weights().items()
            if parts and number != shadow
        )
        return tuple(text for text in texts if text)

    def _predictor(self, model: str, number: int) -> Predictor:
        facts = self._registry.version(model, number).facts
        return Predictor(facts.signature, facts.prediction)

    def _resolve(self, model: str, ref: str, current: Deployment | None, *, is_forced: bool) -> int:
        """
        Returns the number that ``ref`` names. Raises VersionUnknown, and ForbiddenNow if callers of the default would break.
        """
        check_ref(ref)
        version = self._registry.version(model, ref)
        if is_forced or current is None or current.default is None or current.default == version.number:
            return version.number
        serving = self._registry.version(model, current.default)
        problems = "; ".join(incompatibilities(serving.facts.signature, version.facts.signature))
        if problems:
            raise ForbiddenNow(
                f"{version} would break callers of the serving v{serving.number}: {problems}; --force deploys it all the same",
                rule="compatible_signature",
                problems=problems,
                override="--force",
                model=model,
            )
        return version.number


def check_ref(ref: str) -> None:
    """Raises InvalidValue if no version is named."""
    if not ref:
        raise InvalidValue("version: expected a number, an alias or latest, got none", field="version")


def _present(current: Deployment | None, model: str, verb: str) -> Deployment:
    if current is None or current.default is None:
        raise ForbiddenNow(f"{model} is not deployed: deploy a version before you {verb}", rule="deployed", model=model)
    return current


def _is_same(made: Deployment, current: Deployment) -> bool:
    """Whether callers and settings would stay as they are."""
    salt = made.salt if made.segments else current.salt  # without segments the salt has no effect
    kept = {name: getattr(current, name) for name in ("revision", "predecessor", "action", "author", "reason", "created_at")}
    return replace(made, **kept, salt=salt) == current


def _check_etag(model: str, current: Deployment | None, etag: str) -> None:
    now = current.etag if current else '"0"'
    if etag and etag != now:
        raise RevisionConflict(
            f"etag: the deployment of {model} is at {now}, the request was made for {etag}: read it again",
            model=model,
            etag=now,
        )


def _parts(ref: str, percent: float) -> int:
    if not 0 <= percent <= 100:
        raise InvalidValue(f"weights: {ref} must be from 0 to 100 %, got {percent:g}", field="weights")
    return round(percent * PARTS / 100)
