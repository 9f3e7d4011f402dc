"""
The registry: models, immutable versions, aliases, deployments as revisions, and the record of every change.

Every method is one transaction of the store. A version's files are durable before the transaction that makes it visible.
`registry.deployment` has the rules for changes of a deployment, `registry.stores` keeps records and files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from registry.artifacts import ArtifactStore, select
from registry.deployment import Deployment, check_deployment
from registry.errors import InvalidValue, RegistryUnavailable, VersionUnknown
from registry.examples import FILE_NAME, Example, check_bounds, check_examples, to_file
from registry.names import MAX_NUMBER, MAX_TEXT, check_alias
from registry.paging import MAX_PAGE_SIZE, every, page
from registry.records import AnsweredRequest, AuditRecord, Store, Writer
from registry.requests import KEPT_S, fingerprint
from registry.rules import (
    as_json,
    check_etag,
    check_parent,
    check_revision,
    check_same_tensors,
    check_version_words,
    check_write,
    known,
    lasting,
    replayed,
    resolved,
)
from registry.stores.files import FileArtifacts
from registry.stores.sql import open_sqlite
from registry.versions import Facts, KeptExamples, Lineage, Model, ModelVersion, RowProof


class Clock(Protocol):
    """Gives the time of a record."""

    def now(self) -> float:
        """Returns Unix time in seconds."""
        ...


def open_registry(home: Path, clock: Clock) -> Registry:
    """
    Opens the registry in the folder ``home`` (``registry.db`` and ``artifacts/``). Creates what is missing and migrates an
    older database to the newest schema. Several processes may do so at once. Raises RegistryUnavailable if the folder cannot
    be used or was written by a newer release.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryUnavailable(f"home directory {home} cannot be created: {error.strerror or error}") from error
    artifacts = FileArtifacts(home / "artifacts")
    return Registry(open_sqlite(home / "registry.db"), artifacts, clock)


class Registry:
    """
    The facade. Thread-safe. Every method may raise RegistryUnavailable. Every write takes ``author`` and ``reason`` for the
    audit record and a ``request_id``: a repeat with the same content gets the first answer, one with other content
    RequestReplayed.
    """

    def __init__(self, store: Store, artifacts: ArtifactStore, clock: Clock) -> None:
        self._store = store
        self._artifacts = artifacts
        self._clock = clock

    def close(self) -> None:
        """Closes the database's connections."""
        self._store.close()

    # Models and versions

    def models(self, *, page_size: int = 0, page_token: str = "") -> tuple[tuple[Model, ...], str]:
        """Returns models by name, and the token of the next page. Raises InvalidValue for a bad size or token."""
        with self._store.read() as reader:
            return page(
                lambda key, limit: reader.models(after=key or "", limit=limit),
                lambda model: model.name,
                str,
                page_size=page_size,
                page_token=page_token,
                arguments=("models",),
            )

    def all_models(self) -> list[Model]:
        """Returns every model by name, read in pages."""
        return list(every(lambda token: self.models(page_size=MAX_PAGE_SIZE, page_token=token)))

    def model(self, name: str) -> Model:
        """Returns the model of that name. Raises ModelUnknown."""
        with self._store.read() as reader:
            return known(reader, name)

    def versions(self, model: str, *, page_size: int = 0, page_token: str = "") -> tuple[tuple[ModelVersion, ...], str]:
        """Returns versions of a model, newest first, and the token of the next page. Raises ModelUnknown, InvalidValue."""
        with self._store.read() as reader:
            known(reader, model)
            return page(
                lambda key, limit: reader.versions(model, before=key, limit=limit),
                lambda version: version.number,
                int,
                page_size=page_size,
                page_token=page_token,
                arguments=("versions", model),
            )

    def every_version(self, model: str) -> Iterator[ModelVersion]:
        """Yields every version of a model, newest first, read in pages. Raises ModelUnknown."""
        return every(lambda token: self.versions(model, page_size=MAX_PAGE_SIZE, page_token=token))

    def version(self, model: str, ref: str | int) -> ModelVersion:
        """
        Returns the version that ``ref`` (a number, an alias or ``latest``) names now. Raises ModelUnknown, VersionUnknown.
        """
        with self._store.read() as reader:
            return resolved(reader, known(reader, model), ref)

    def artifact_path(self, version: ModelVersion) -> Path:
        """Returns the version's ONNX file on disk. Raises ArtifactCorrupt if a file is missing or has another size."""
        return self._artifacts.path(version.artifact)

    def examples_path(self, version: ModelVersion) -> Path | None:
        """Returns the file with the version's examples, None if it has none. Raises ArtifactCorrupt if it is damaged."""
        if version.examples is None:
            return None
        self._artifacts.verify(version.examples.artifact)
        return self._artifacts.path(version.examples.artifact)

    def verify(self, version: ModelVersion) -> None:
        """
        Reads every byte of the version's files, once in a process unless they are written again. Raises ArtifactCorrupt that
        names the file that does not match its digest.
        """
        self.sound_path(version)
        self.examples_path(version)

    def sound_path(self, version: ModelVersion) -> Path:
        """Returns the version's ONNX file after every byte of the model was verified, as `verify` does. Raises as it does."""
        self._artifacts.verify(version.artifact)
        return self._artifacts.path(version.artifact)

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
        examples: Sequence[Example] = (),
        author: str = "",
        reason: str = "",
        request_id: str = "",
        request_content: str | None = None,
    ) -> ModelVersion:
        """
        Copies ``source`` (an .onnx file, or a folder with one) in and makes it the model's next version, with ``alias`` on
        it. ``examples`` are requests that it has answered in the trial; they are kept beside it. The model is created with
        its first version. A repeat is compared by its files and by ``request_content``; None compares the other arguments.
        Raises InvalidModel for files that cannot be admitted, InvalidValue for every other argument.
        """
        tags = dict(tags or {})
        check_version_words(model, tags, lineage, alias, facts)
        check_write(author, reason, request_id)
        selection = select(source, model_file)
        check_same_tensors(selection.model.signature, facts.signature)
        check_bounds(examples)
        check_examples(examples, selection.model.signature)
        artifact = self._artifacts.ingest(selection)
        kept = KeptExamples(self._artifacts.keep(FILE_NAME, to_file(examples)), len(examples)) if examples else None
        told = (tags, lineage, alias or "", facts.prediction) if request_content is None else (request_content,)
        content = fingerprint("register", model, artifact, *told, *([kept] if kept else []))
        with self._store.write() as writer:
            if earlier := replayed(writer, request_id, content, ModelVersion):
                return earlier
            before = writer.lock_model(model, created_at=self._clock.now())
            check_parent(writer, model, lineage)
            now = self._clock.now()
            version = ModelVersion(model, before.latest + 1, artifact, facts, tags, lineage, now, author, kept)
            writer.add_version(version)
            if alias:
                writer.set_alias(model, alias, version.number)
            writer.touch_model(model)
            was = as_json(before) if before.latest else ""
            change = AuditRecord("register", model, before=was, after=as_json(version), author=author, reason=reason)
            self._record(writer, change, request_id, content, version)
        return version

    def set_row_proof(
        self, model: str, number: int, proof: RowProof, *, reason: str, batched_inputs: tuple[tuple[str, ...], ...] = ()
    ) -> ModelVersion:
        """
        Records what is known of the rows of a version's batches, and returns the version. Raises ModelUnknown,
        VersionUnknown.
        """
        with self._store.write() as writer:
            before = resolved(writer, known(writer, model), number)
            is_proved = proof is RowProof.PROVED
            facts = replace(
                before.facts,
                is_batchable=is_proved,
                batching_reason=reason,
                row_proof=proof,
                batched_inputs=batched_inputs if is_proved else (),
            )
            version = replace(before, facts=facts)
            writer.replace_version(version)
            was, now = (as_json({"version": number, "row_proof": one.facts.row_proof}) for one in (before, version))
            change = AuditRecord("prove_rows", model, before=was, after=now, reason=reason)
            self._record(writer, change, "", "", None)
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
        request_content: str | None = None,
        author: str = "",
        reason: str = "",
    ) -> Model:
        """
        Points ``alias`` at version ``number`` and returns the model. ``etag`` is the model's, "" for any.
        ``request_content`` is what a repeat is compared by (None: number and etag), for callers that were given a word like
        ``latest``, which may name another number when the request comes again. Raises ModelUnknown, VersionUnknown,
        InvalidValue for the name, RevisionConflict for an etag that is not current.
        """
        check_alias(alias)
        change = AuditRecord("set_alias", model, author=author, reason=reason)
        content = fingerprint("set_alias", model, alias, *((number, etag) if request_content is None else (request_content,)))
        return self._change_alias(change, alias, number, etag, request_id, content)

    def delete_alias(
        self, model: str, alias: str, *, etag: str = "", request_id: str = "", author: str = "", reason: str = ""
    ) -> Model:
        """Deletes ``alias`` and returns the model. Raises as `set_alias`, and VersionUnknown if there is no such alias."""
        change = AuditRecord("delete_alias", model, author=author, reason=reason)
        content = fingerprint("delete_alias", model, alias, etag)
        return self._change_alias(change, alias, None, etag, request_id, content)

    def _change_alias(
        self, change: AuditRecord, alias: str, number: int | None, etag: str, request_id: str, content: str
    ) -> Model:
        check_write(change.author, change.reason, request_id)
        name = change.model
        with self._store.write() as writer:
            if earlier := replayed(writer, request_id, content, Model):
                return earlier
            known(writer, name)
            before = writer.lock_model(name, created_at=self._clock.now())
            check_etag(before, etag)
            if number is not None:
                resolved(writer, before, number)
            elif alias not in before.aliases:
                raise VersionUnknown(f"model {name!r} has no alias {alias!r}", model=name, version=alias)
            writer.set_alias(name, alias, number)
            writer.touch_model(name)
            after = known(writer, name)
            texts = [as_json({alias: m.aliases[alias]}) if alias in m.aliases else "" for m in (before, after)]
            self._record(writer, replace(change, before=texts[0], after=texts[1]), request_id, content, after)
        return after

    # Deployments

    def deployment(self, model: str) -> Deployment | None:
        """Returns the current deployment, None if there never was one. Raises ModelUnknown."""
        with self._store.read() as reader:
            known(reader, model)
            return reader.deployment(model)

    def deployments(self) -> tuple[Deployment, ...]:
        """Returns the newest revision of every model that has one, by name; also of those that serve nothing now."""
        with self._store.read() as reader:
            return tuple(reader.current_deployments())

    def revision(self, model: str, revision: int) -> Deployment:
        """
        Returns one revision of the model's deployment. Raises ModelUnknown, and VersionUnknown if there is no such revision.
        """
        with self._store.read() as reader:
            known(reader, model)
            found = reader.deployment(model, revision) if 1 <= revision <= MAX_NUMBER else None
            if found is None:
                raise VersionUnknown(f"the deployment of {model!r} has no revision {revision}", model=model, revision=revision)
            return found

    def revisions(self, model: str, *, page_size: int = 0, page_token: str = "") -> tuple[tuple[Deployment, ...], str]:
        """Returns revisions, newest first, and the token of the next page. Raises ModelUnknown, InvalidValue."""
        with self._store.read() as reader:
            known(reader, model)
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
        Returns the answer of the `commit` that came with ``request_id`` and ``request_content=content``; None for a new
        request. For callers that compute a deployment from the current one: they have to find a repeat before that. Raises
        RequestReplayed if the id was used with other content.
        """
        with self._store.read() as reader:
            return replayed(reader, request_id, fingerprint("commit", content), Deployment)

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
        Makes ``deployment`` the model's current one if its revision still is ``expected_revision`` (0: there is none).
        Returns it with author, reason and time filled in; it is durable then. ``request_content`` is what a repeat is
        compared by; None compares the deployment without what differs from try to try (revision, predecessor, salt). Raises
        RevisionConflict, ModelUnknown, VersionUnknown for a version that it names, InvalidValue if it is not well formed.
        """
        check_write(author, reason, request_id)
        check_deployment(deployment)
        if deployment.revision != expected_revision + 1:
            raise InvalidValue(
                f"revision: expected {expected_revision + 1}, the one after {expected_revision}; got {deployment.revision}",
                field="revision",
            )
        made = replace(deployment, author=author, reason=reason, created_at=self._clock.now())
        content = fingerprint("commit", lasting(deployment) if request_content is None else request_content)
        with self._store.write() as writer:
            if earlier := replayed(writer, request_id, content, Deployment):
                return earlier
            model = known(writer, made.model)
            writer.lock_model(made.model, created_at=made.created_at)
            before = writer.deployment(made.model)
            check_revision(made.model, before, expected_revision)
            for number in sorted(made.named_versions()):
                resolved(writer, model, number)
            writer.add_deployment(made)
            change = AuditRecord(made.action, made.model, author=author, reason=reason, after=as_json(made))
            self._record(writer, replace(change, before=as_json(before) if before else ""), request_id, content, made)
        return made

    # The record

    def audit(
        self, model: str | None = None, *, page_size: int = 0, page_token: str = ""
    ) -> tuple[tuple[AuditRecord, ...], str]:
        """Returns changes of one model or of all, newest first, and the token of the next page. Raises InvalidValue."""
        with self._store.read() as reader:
            return page(
                lambda key, limit: reader.audit(model, before=key, limit=limit),
                lambda record: record.id,
                int,
                page_size=page_size,
                page_token=page_token,
                arguments=("audit", model or ""),
            )

    def note(self, verb: str, model: str, after: Mapping[str, object], *, author: str = "", reason: str = "") -> None:
        """Appends a record of something that changed nothing here, but concerns a model. Raises InvalidValue."""
        reason = reason[:MAX_TEXT]
        check_write(author, reason, "")
        with self._store.write() as writer:
            change = AuditRecord(verb, model, after=as_json(dict(after)), author=author, reason=reason)
            self._record(writer, change, "", "", None)

    def _record(self, writer: Writer, change: AuditRecord, request_id: str, content: str, answer: object) -> None:
        now = self._clock.now()
        writer.add_audit(replace(change, created_at=now))
        if request_id:
            writer.add_request(AnsweredRequest(request_id, content, as_json(answer), now), forget_before=now - KEPT_S)
