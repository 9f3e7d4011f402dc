"""Arms: a loaded version in the role in which it answers (default, candidate, pinned or shadow), with what is cached for it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.contract.counts import ArmCounts
from gateway.serving.oip.decode import MAX_SIGNATURES, RequestSignature
from gateway.serving.oip.encode import raw_frame, response_head
from gateway.serving.run_plan import RunPlan, plan_run
from gateway.versions.loaded import LoadedVersion

MAX_TEMPLATES = 4096  # response templates per arm; at the bound all are forgotten, and made again when needed
Shapes = tuple[tuple[int, ...], ...]
CountsOf = Callable[[str, int, str], ArmCounts]  # (model, version, arm's name)


class RunPlans:
    """The run plans of one version, by request signature. Shared by its arms."""

    __slots__ = ("_plans", "_version", "find")

    def __init__(self, version: LoadedVersion) -> None:
        self._version = version
        self._plans: dict[RequestSignature, RunPlan] = {}
        self.find = self._plans.get  # the plan that is kept for a signature, or None

    def make(self, signature: RequestSignature) -> RunPlan:
        """Returns the plan of a signature, and keeps it. Raises InvalidRequest."""
        version = self._version
        plan = plan_run(
            signature,
            version.signature,
            version.prediction,
            is_batched=version.is_batched,
            max_rows=version.max_rows,
            batched_inputs=version.batched_inputs,
        )
        if len(self._plans) >= MAX_SIGNATURES:
            self._plans.clear()
        self._plans[signature] = plan
        return plan


class Arm:
    """
    A loaded version in one role. ``name`` is default, candidate, pinned or shadow. Each field of ``counts`` has one
    writing thread.
    """

    __slots__ = ("_templates", "counts", "name", "plans", "version")

    def __init__(self, version: LoadedVersion, name: str, counts: ArmCounts, plans: RunPlans) -> None:
        self.version = version
        self.name = name
        self.counts = counts
        self.plans = plans
        self._templates: dict[tuple[tuple[str, ...], Shapes, tuple[int, ...]], bytes] = {}

    def __repr__(self) -> str:
        return f"<{self.name} arm of {self.version!r}>"

    def plan(self, signature: RequestSignature) -> RunPlan:
        """Returns how requests of this signature are run. Raises InvalidRequest."""
        return self.plans.find(signature) or self.plans.make(signature)

    def template(self, outputs: tuple[str, ...], shapes: Shapes, sizes: tuple[int, ...]) -> bytes:
        """
        Returns a response with these outputs in these shapes, to be formatted (``%``) with: the head of the prediction id,
        its counter, the raw contents of each output, the encoded `id` field. ``sizes`` are the contents' bytes; where one
        is -1, the contents come with their own frame.
        """
        key = (outputs, shapes, sizes)
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= MAX_TEMPLATES:
                self._templates.clear()
            template = self._templates[key] = self._new_template(outputs, shapes, sizes)
        return template

    def _new_template(self, outputs: tuple[str, ...], shapes: Shapes, sizes: tuple[int, ...]) -> bytes:
        version = self.version
        described = tuple((name, version.datatypes[name], shape) for name, shape in zip(outputs, shapes, strict=True))
        head = response_head(version.model, version.number, self.name, described)
        frames = (b"" if size < 0 else raw_frame(size) for size in sizes)
        contents = (frame.replace(b"%", b"%%") + b"%b" for frame in frames)
        return b"".join((head.replace(b"%", b"%%"), b"%b%012x", *contents, b"%b"))

    def count(self, code: str, requests: int = 1) -> None:
        """Counts requests that ended with this code (a gRPC code's name)."""
        codes = self.counts.requests
        codes[code] = codes.get(code, 0) + requests


class VersionArms:
    """The arms of one loaded version, made when first asked for."""

    __slots__ = ("_arms", "_counts_of", "_plans", "version")

    def __init__(self, version: LoadedVersion, counts_of: CountsOf) -> None:
        self.version = version
        self._counts_of = counts_of
        self._plans = RunPlans(version)
        self._arms: dict[str, Arm] = {}

    def arm(self, name: str) -> Arm:
        """Returns the version in the role ``name``."""
        arm = self._arms.get(name)
        if arm is None:
            counts = self._counts_of(self.version.model, self.version.number, name)
            arm = self._arms[name] = Arm(self.version, name, counts, self._plans)
        return arm
