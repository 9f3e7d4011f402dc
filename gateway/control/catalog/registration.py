"""Registration of a version: receives its files, checks them, runs the model in a trial, stores the version."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from gateway.control.catalog.uploads import Part, UploadedFiles, check_relative, spooled, without_examples
from gateway.control.changes.aliases import Aliases
from gateway.control.changes.operations import Note, Operation, Operations, Request, Result
from gateway.control.changes.traffic import ANONYMOUS, Change
from gateway.control.limits import ControlLimits
from gateway.errors import ForbiddenNow, GatewayError, InvalidRequest
from gateway.settings.paths import Home
from registry.errors import InvalidValue, RegistryError
from registry.examples import Example, check_examples
from registry.names import check_alias, check_model_name, check_tags
from registry.onnx_file import read_model
from registry.prediction import guess_prediction
from registry.registry import Registry
from registry.serving_layout import WORTH_BYTES
from registry.signature import Signature
from registry.versions import Facts, Lineage, ModelVersion, Prediction, PredictionKind
from registry.zip_maps import served_as

# Runs a model once in a child process, on the examples too. Raises InvalidModel, InvalidValue.
Trial = Callable[[Path, Prediction | None, Sequence[Example]], Facts]


@dataclass(frozen=True, slots=True)
class Submission:
    """
    The description of a version that is to be registered. ``output``, ``kind`` and ``classes`` describe its prediction;
    empty ones are derived from the model's signature.
    """

    model: str
    model_file: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    lineage: Lineage = Lineage()  # noqa: RUF009 - a frozen value
    alias: str = ""
    output: str = ""
    kind: str = ""
    classes: tuple[str, ...] = ()
    change: Change = ANONYMOUS


class Registrations:
    """Starts registrations as operations. Thread-safe."""

    def __init__(
        self,
        home: Home,
        limits: ControlLimits,
        registry: Registry,
        operations: Operations,
        aliases: Aliases,
        *,
        trial: Trial,
        lay_out: Callable[[str, int], None] = lambda model, number: None,
    ) -> None:
        """``lay_out(model, number)`` makes a stored version's serving layout, so that its first load does not wait for it."""
        self._home, self._limits, self._registry, self._operations = home, limits, registry, operations
        self._aliases, self._trial, self._lay_out = aliases, trial, lay_out

    def register(
        self,
        submission: Submission,
        parts: Iterator[Part],
        *,
        size_bytes: int = 0,
        is_connected: Callable[[], bool] = lambda: True,
    ) -> Operation:
        """
        Starts the registration. ``parts`` are read in the operation's thread. ``size_bytes`` is the size of all files as
        announced, 0 if it was not. Without an announced size, an upload that was cut off looks complete until its client is
        known to be gone; therefore ``is_connected()`` is checked before the version is stored.
        """
        request = Request("register", submission.model, submission, submission.change.request_id, is_exclusive=False)
        return self._operations.start(request, lambda note: self._run(submission, parts, size_bytes, is_connected, note))

    def _run(
        self, submission: Submission, parts: Iterator[Part], size_bytes: int, is_connected: Callable[[], bool], note: Note
    ) -> Result:
        _check(submission)
        note("receiving")
        examples: list[Example] = []
        chunks = without_examples(parts, examples)
        with spooled(self._home.uploads, chunks, max_bytes=self._limits.upload_bytes, size_bytes=size_bytes) as received:
            note("checking", f"{len(received.files)} files, {received.size_bytes} bytes")
            path = received.folder / self._model_file(submission, received)
            model = read_model(path)
            signature = model.signature
            for one in model.score_maps:
                note("score maps", served_as(one))
            check_examples(examples, signature)
            note("trial run", f"with {len(examples)} examples" if examples else "")
            facts = self._trial(path, declared_prediction(submission, signature), examples)
            if not size_bytes and not is_connected():
                raise InvalidRequest("upload: the client disconnected before the version was stored", field="chunk")
            note("storing")
            version = self._store(submission, received, path, facts, examples)
        if version.artifact.size_bytes >= WORTH_BYTES:
            note("making the serving layout")
            self._lay_out(version.model, version.number)
        return Result(version=self._named(submission, version, note))

    def _model_file(self, submission: Submission, received: UploadedFiles) -> str:
        if not submission.model_file and len(received.files) == 1:
            return received.files[0]
        if submission.model_file not in received.files:
            came = ", ".join(received.files[:10]) or "none"
            raise InvalidValue(
                f"model_file: {submission.model_file!r} is not among the files sent ({came})", field="model_file"
            )
        return submission.model_file

    def _store(
        self, submission: Submission, received: UploadedFiles, path: Path, facts: Facts, examples: Sequence[Example]
    ) -> ModelVersion:
        change = submission.change
        is_single = len(received.files) == 1
        return self._registry.register(
            submission.model,
            path if is_single else received.folder,
            model_file=None if is_single else path.relative_to(received.folder).as_posix(),
            facts=facts,
            tags=submission.tags,
            lineage=submission.lineage,
            alias=submission.alias if submission.alias and not self._is_deployed(submission.model) else None,
            examples=examples,
            author=change.author,
            reason=change.reason,
            request_id=change.request_id,
            request_content=msgspec.json.encode(submission, order="deterministic").decode(),
        )

    def _is_deployed(self, model: str) -> bool:
        return any(one.model == model and one.default is not None for one in self._registry.deployments())

    def _named(self, submission: Submission, version: ModelVersion, note: Note) -> ModelVersion:
        """
        Moves the alias through `Aliases` if the model is deployed: callers may be using the alias, so it moves only once the
        new version is READY. An alias that already points at this version or a later one stays: then this registration is a
        repeat, and the alias was moved after the first one.
        """
        if not submission.alias:
            return version
        model = self._registry.model(version.model)
        if model.aliases.get(submission.alias, 0) >= version.number:
            self._aliases.registered(model)
            return version
        change = replace(submission.change, etag="", request_id="")
        begun = self._aliases.set(version.model, submission.alias, str(version.number), change=change)
        note("alias", f"{submission.alias}, in {begun.name}")
        operation = self._operations.wait(begun.name)
        if isinstance(operation.error, GatewayError | RegistryError):
            raise ForbiddenNow(
                f"{version} is registered, but the alias {submission.alias} was not moved to it: {operation.error}",
                rule="alias",
                version=version.number,
            ) from operation.error
        if operation.error is not None:
            raise operation.error
        return version


def _check(submission: Submission) -> None:
    """Checks all that can be checked before the files arrive, so that a large upload is refused at once."""
    check_model_name(submission.model)
    check_tags(submission.tags)
    if submission.alias:
        check_alias(submission.alias)
    if submission.model_file:
        check_relative(submission.model_file)
    if submission.kind and submission.kind not in tuple(PredictionKind):
        kinds = ", ".join(PredictionKind)
        raise InvalidValue(f"prediction.kind: expected one of {kinds}, got {submission.kind!r}", field="prediction.kind")


def declared_prediction(submission: Submission, signature: Signature) -> Prediction | None:
    """
    Returns the prediction as submitted, completed from the signature; None if the submission says nothing about it. Raises
    InvalidValue.
    """
    if not (submission.output or submission.kind or submission.classes):
        return None
    outputs = tuple(spec for spec in signature.outputs if not submission.output or spec.name == submission.output)
    if not outputs:
        names = ", ".join(spec.name for spec in signature.outputs)
        raise InvalidValue(
            f"prediction.output: the model has no output {submission.output!r}, it has {names}", field="prediction.output"
        )
    guess = guess_prediction(Signature(signature.inputs, outputs))
    output = submission.output or (outputs[0].name if len(outputs) == 1 else guess.output if guess else "")
    kind = submission.kind or (guess.kind if guess and guess.output == output else "")
    if not output or not kind:
        unknown = "prediction.kind" if output else "prediction.output"
        raise InvalidValue(f"{unknown}: cannot be derived from the model's signature; set it", field=unknown)
    return Prediction(output, PredictionKind(kind), submission.classes)
