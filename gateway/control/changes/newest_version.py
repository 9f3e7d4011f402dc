"""
The rule for `RepositoryModelLoad` of a model that is deployed already. Pure.

As in Triton, a load brings the newest version. But Triton knows neither splits nor rollbacks: a caller's load must not end
an experiment, nor bring back what somebody has taken away from callers.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.errors import ForbiddenNow
from registry.deployment import Deployment


def check_may_follow(current: Deployment, newest: int, earlier: Iterable[Deployment]) -> None:
    """
    Raises ForbiddenNow unless a load may promote ``newest``, which is not the default: no split, no shadow, and none of the
    ``earlier`` revisions names it.
    """
    model, facts = current.model, {"model": current.model, "version": newest}
    advice = f"promote v{newest} to have it serve"
    if current.segments or current.shadow:
        kind = "a split" if current.segments else "a shadow"
        raise ForbiddenNow(
            f"{model} v{newest} is the newest version, but a load does not end {kind}: {advice}", rule="no_experiment", **facts
        )
    before = next((one for one in earlier if newest in one.named_versions()), None)
    if before is not None:
        raise ForbiddenNow(
            f"{model} v{newest} is the newest version, but revision {before.revision} had it, and revision "
            f"{current.revision} ({current.action}) serves v{current.default} instead: {advice}",
            rule="newest_is_new",
            **facts,
        )
