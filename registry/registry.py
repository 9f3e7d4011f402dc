"""
The registry: models, immutable versions, aliases, deployments as revisions, and the record of every change.

Everything here is one transaction of the store; a version's files are durable before the transaction that makes it
visible. Which changes of a deployment make sense is in `registry.deployment`, how records and files are kept in
`registry.stores`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from registry.artifacts import ArtifactStore, select
from registry.deployment import Deployment, check_deployment
from registry.errors import InvalidModel, InvalidValue, ModelUnknown, RegistryUnavailable, RevisionConflict, VersionUnknown
from registry.names import LATEST, MAX_NUMBER, check_alias, check_model_name, check_tags, check_text, version_number
from registry.paging import page
from registry.prediction import check_prediction
from registry.records import AnsweredRequest, AuditRecord, Reader, Store, Writer
from registry.requests import KEPT_S, MAX_REQUEST_ID, fingerprint, first_answer
from registry.signature import Signature
from registry.stores.files import FileArtifacts
from registry.stores.sql import open_sqlite
from registry.versions import Facts, Lineage, Model, ModelVersion

Answer = TypeVar("Answer", Model, ModelVersion, Deployment)


class Clock(Protocol):
    """Where the time of a record comes from."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...


def open_registry(home: Path, clock: Clock) -> Registry:
    """
    Open the registry in the folder ``home`` (``registry.db`` and ``artifacts/``), creating what is missing and bringing
    an older database to the newest schema. Several processes may do so at once.

    Raises RegistryUnavailable when the folder cannot be used or was written by a newer release.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryUnavailable(f"home directory {home} cannot be created: {error.strerror or error}") from error
    artifacts = FileArtifacts(home / "artifacts")
    return Registry(open_sqlite(home / "registry.db"), artifacts, clock)


class Registry:
    """
    The facade; thread-safe. Every method may raise RegistryUnavailable, every write takes ``author`` and ``reason`` for the
    audit record and a ``request_id``: a repeat of the same content gets the first answer, of another RequestReplayed.
    """

    def __init__(self, store: Store, artifacts: ArtifactStore, clock: Clock) -> None:
        self._store = store
        self._artifacts = artifacts
        self._clock = clock

    def close(self) -> None:
        """Give back the database's connections."""
        self._store.close()

    # Models and versions

    def models(self, *, page_size: int = 0, page_token: str = "") -> tuple[tuple[Model, ...], str]:
        """Models by name, and the token of the next page. Raises InvalidValue for a bad size or token."""
        with self._store.read() as reader:
            return page(
                lambda key, limit: reader.models(after=key or "", limit=limit),
                lambda model: model.name,
                str,
                page_size=page_size,
                page_token=page_token,
                arguments=("models",),
            )

    def model(self, name: str) -> Model:
        """The model of that name. Raises ModelUnknown."""
        with self._store.read() as reader:
            return _known(reader, name)

    def versions(self, model: str, *, page_size: int = 0, page_token: str = "") -> tuple[tuple[ModelVersion, ...], str]:
        """Versions of a model, newest first, and the token of the next page. Raises ModelUnknown, InvalidValue."""
        with self._store.read() as reader:
            _known(reader, model)
            return page(
                lambda key, limit: reader.versions(model, before=key, limit=limit),
                lambda version: version.number,
                int,
                page_size=page_size,
                page_token=page_token,
                arguments=("versions", model),
            )

    def version(self, model: str, ref: str | int) -> ModelVersion:
        """The version that ``ref`` (a number, an alias or ``latest``) means now. Raises ModelUnknown, VersionUnknown."""
        with self._store.read() as reader:
            return _resolved(reader, _known(reader, model), ref)

    def artifact_path(self, version: ModelVersion) -> Path:
        """The version's ONNX file on disk. Raises ArtifactCorrupt when a file is missing or has another size."""
        return self._artifacts.path(version.artifact)

    def verify(self, version: ModelVersion) -> None:
        """Read every byte of the version's files. Raises ArtifactCorrupt naming the file that does not match its digest."""
        self._artifacts.verify(version.artifact)

    def register(
        self,
        model: str,
        source: Path,
        *,
        model_file: str | None = None,
        facts: Facts,
        tags: Mapping[str, str] | None = None,
        lineage: Lineage = Lineage(),  # noqa: B008 - a frozen value
        alias: str | None = None,
        author: str = "",
        reason: str = "",
        request_id: str = "",
    ) -> ModelVersion:
        """
        Copy ``source`` (an .onnx file, or a folder with one) in and make it the model's next version, with ``alias`` on it.

        The model begins to exist with its first version. Raises InvalidModel for files that cannot be admitted,
        InvalidValue for everything said about them.
        """
        tags = dict(tags or {})
        _check_version_words(model, tags, lineage, alias, facts)
        _check_write(author, reason, request_id)
        selection = select(source, model_file)
        _check_same_tensors(selection.model.signature, facts.signature)
        artifact = self._artifacts.ingest(selection)
        content = fingerprint("register", model, artifact, tags, lineage, alias or "", facts.prediction)
        with self._store.write() as writer:
            if earlier := _replayed(writer, request_id, content, ModelVersion):
                return earlier
            before = writer.lock_model(model, created_at=self._clock.now())
            _check_parent(writer, model, lineage)
            version = ModelVersion(
                model, before.latest + 1, artifact, facts, tags, lineage, created_at=self._clock.now(), created_by=author
            )
            writer.add_version(version)
            if alias:
                writer.set_alias(model, alias, version.number)
            writer.touch_model(model)
            was = _json(before) if before.latest else ""
            change = AuditRecord("register", model, before=was, after=_json(version), author=author, reason=reason)
            self._record(writer, change, request_id, content, version)
        return version

    # Aliases

    def set_alias(
        self,
        model: str,
        alias: str,
        number: int,
        *,
        etag: str = "",
        request_id: str = "",
        author: str = "",
        reason: str = "",
    ) -> Model:
        """
        Point ``alias`` at version ``number``; the model as it is then. ``etag`` is the model's, "" = whatever it is.

        Raises ModelUnknown, VersionUnknown, InvalidValue for the name, RevisionConflict for an etag that is not current.
        """
        check_alias(alias)
        change = AuditRecord("set_alias", model, author=author, reason=reason)
        return self._change_alias(change, alias, number, etag, request_id)

    def delete_alias(
        self, model: str, alias: str, *, etag: str = "", request_id: str = "", author: str = "", reason: str = ""
    ) -> Model:
        """Take ``alias`` away; the model as it is then. Raises as `set_alias`; VersionUnknown for no such alias."""
        change = AuditRecord("delete_alias", model, author=author, reason=reason)
        return self._change_alias(change, alias, None, etag, request_id)

    def _change_alias(self, change: AuditRecord, alias: str, number: int | None, etag: str, request_id: str) -> Model:
        _check_write(change.author, change.reason, request_id)
        name = change.model
        content = fingerprint(change.verb, name, alias, number, etag)
        with self._store.write() as writer:
            if earlier := _replayed(writer, request_id, content, Model):
                return earlier
            _known(writer, name)
            before = writer.lock_model(name, created_at=self._clock.now())
            _check_etag(before, etag)
            if number is not None:
                _resolved(writer, before, number)
            elif alias not in before.aliases:
                raise VersionUnknown(f"model {name!r} has no alias {alias!r}", model=name, version=alias)
            writer.set_alias(name, alias, number)
            writer.touch_model(name)
            after = _known(writer, name)
            texts = [_json({alias: m.aliases[alias]}) if alias in m.aliases else "" for m in (before, after)]
            self._record(writer, replace(change, before=texts[0], after=texts[1]), request_id, content, after)
        return after

    # Deployments

    def deployment(self, model: str) -> Deployment | None:
        """What should be served now, None when nothing ever was. Raises ModelUnknown."""
        with self._store.read() as reader:
            _known(reader, model)
            return reader.deployment(model)

    def deployments(self) -> tuple[Deployment, ...]:
        """The newest revision of every model that has one, by name; also of those that serve nothing now."""
        with self._store.read() as reader:
            return tuple(reader.current_deployments())

    def revision(self, model: str, revision: int) -> Deployment:
        """One revision of the model's deployment. Raises ModelUnknown, VersionUnknown when there is no such revision."""
        with self._store.read() as reader:
            _known(reader, model)
            found = reader.deployment(model, revision) if 1 <= revision <= MAX_NUMBER else None
            if found is None:
                raise VersionUnknown(f"the deployment of {model!r} has no revision {revision}", model=model, revision=revision)
            return found

    def revisions(self, model: str, *, page_size: int = 0, page_token: str = "") -> tuple[tuple[Deployment, ...], str]:
        """Revisions, newest first, and the token of the next page. Raises ModelUnknown, InvalidValue."""
        with self._store.read() as reader:
            _known(reader, model)
            return page(
                lambda key, limit: reader.revisions(model, before=key, limit=limit),
                lambda deployment: deployment.revision,
                int,
                page_size=page_size,
                page_token=page_token,
                arguments=("revisions", model),
            )

    def replayed(self, request_id: str, content: str) -> Deployment | None:
        """
        The answer of the `commit` that came with ``request_id`` and ``request_content=content``, None for a new request.

        For callers that compute a deployment from the current one: a repeat must be found before that. Raises
        RequestReplayed when the id was used for something else.
        """
        with self._store.read() as reader:
            return _replayed(reader, request_id, fingerprint("commit", content), Deployment)

    def commit(
        self,
        deployment: Deployment,
        *,
        expected_revision: int,
        author: str = "",
        reason: str = "",
        request_id: str = "",
        request_content: str | None = None,
    ) -> Deployment:
        """
        Make ``deployment`` the model's current one if its revision still is ``expected_revision`` (0 = there is none).

        Durable when this returns; gives it with author, reason and time filled in. ``request_content`` is what a repeat
        is compared by; None = the deployment without what differs from try to try (revision, predecessor, salt). Raises
        RevisionConflict, ModelUnknown, VersionUnknown for a version it names, InvalidValue for one that is not well formed.
        """
        _check_write(author, reason, request_id)
        check_deployment(deployment)
        if deployment.revision != expected_revision + 1:
            raise InvalidValue(
                f"revision: expected {expected_revision + 1}, the one after {expected_revision}; got {deployment.revision}",
                field="revision",
            )
        made = replace(deployment, author=author, reason=reason, created_at=self._clock.now())
        content = fingerprint("commit", _lasting(deployment) if request_content is None else request_content)
        with self._store.write() as writer:
            if earlier := _replayed(writer, request_id, content, Deployment):
                return earlier
            model = _known(writer, made.model)
            writer.lock_model(made.model, created_at=made.created_at)
            before = writer.deployment(made.model)
            _check_revision(made.model, before, expected_revision)
            for number in sorted(made.named_versions()):
                _resolved(writer, model, number)
            writer.add_deployment(made)
            change = AuditRecord(made.action, made.model, author=author, reason=reason, after=_json(made))
            self._record(writer, replace(change, before=_json(before) if before else ""), request_id, content, made)
        return made

    # The record

    def audit(
        self, model: str | None = None, *, page_size: int = 0, page_token: str = ""
    ) -> tuple[tuple[AuditRecord, ...], str]:
        """Changes of one model or of all, newest first, and the token of the next page. Raises InvalidValue."""
        with self._store.read() as reader:
            return page(
                lambda key, limit: reader.audit(model, before=key, limit=limit),
                lambda record: record.id,
                int,
                page_size=page_size,
                page_token=page_token,
                arguments=("audit", model or ""),
            )

    def _record(self, writer: Writer, change: AuditRecord, request_id: str, content: str, answer: object) -> None:
        now = self._clock.now()
        writer.add_audit(replace(change, created_at=now))
        if request_id:
            writer.add_request(AnsweredRequest(request_id, content, _json(answer), now), forget_before=now - KEPT_S)


def _known(reader: Reader, name: str) -> Model:
    model = reader.model(name)
    if model is None:
        raise ModelUnknown(f"no model {name!r} is registered", model=name)
    return model


def _resolved(reader: Reader, model: Model, ref: str | int) -> ModelVersion:
    number = version_number(ref)
    if number is None:
        number = model.latest if ref == LATEST else model.aliases.get(str(ref), 0)
    version = reader.version(model.name, number) if number else None
    if version is None:
        what = "version" if version_number(ref) is not None else "alias"
        aliases = f", aliases {', '.join(model.aliases)}" if model.aliases else ""
        raise VersionUnknown(
            f"model {model.name!r} has no {what} {str(ref)!r}; it has versions up to {model.latest}{aliases}",
            model=model.name,
            version=ref,
        )
    return version


def _replayed(reader: Reader, request_id: str, content: str, kind: type[Answer]) -> Answer | None:
    if not request_id:
        return None
    answer = first_answer(reader.request(request_id), content)
    return None if answer is None else msgspec.json.decode(answer, type=kind)


def _check_version_words(model: str, tags: Mapping[str, str], lineage: Lineage, alias: str | None, facts: Facts) -> None:
    check_model_name(model)
    check_tags(tags)
    if alias:
        check_alias(alias)
    check_text("lineage.run_id", lineage.run_id)
    check_text("lineage.source_commit", lineage.source_commit)
    for dataset in lineage.datasets:
        check_text("lineage.datasets", dataset)
    if facts.prediction:
        check_prediction(facts.signature, facts.prediction)


def _check_write(author: str, reason: str, request_id: str) -> None:
    check_text("author", author)
    check_text("reason", reason)
    check_text("request_id", request_id, most=MAX_REQUEST_ID)


def _check_same_tensors(of_file: Signature, of_trial: Signature) -> None:
    for role, read, tried in (
        ("inputs", of_file.inputs, of_trial.inputs),
        ("outputs", of_file.outputs, of_trial.outputs),
    ):
        possible = {(spec.name, spec.datatype) for spec in read}
        needed = {(spec.name, spec.datatype) for spec in read if not spec.is_optional}
        found = {(spec.name, spec.datatype) for spec in tried}
        if not needed <= found <= possible:
            raise InvalidModel(f"the {role} of the file, {sorted(possible)}, are not those that were tried, {sorted(found)}")


def _check_parent(reader: Reader, model: str, lineage: Lineage) -> None:
    parent = lineage.parent_version
    if parent is not None and (not 1 <= parent <= MAX_NUMBER or reader.version(model, parent) is None):
        raise InvalidValue(f"lineage.parent_version: model {model!r} has no version {parent}", field="lineage.parent_version")


def _check_etag(model: Model, etag: str) -> None:
    if etag and etag != model.etag:
        raise RevisionConflict(
            f"etag: model {model.name!r} is at {model.etag}, the request was made for {etag}: read it again",
            model=model.name,
            etag=model.etag,
        )


def _check_revision(model: str, current: Deployment | None, expected: int) -> None:
    revision = current.revision if current else 0
    if revision != expected:
        raise RevisionConflict(
            f"the deployment of {model!r} is at revision {revision}, the change was made for {expected}: read it again",
            model=model,
            revision=revision,
        )


def _lasting(deployment: Deployment) -> Deployment:
    return replace(deployment, revision=0, predecessor=None, salt="", author="", reason="", created_at=0.0)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
