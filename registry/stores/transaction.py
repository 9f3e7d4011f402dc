"""The queries of one transaction. Arguments and results are values; rows and SQL stay here."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from registry.deployment import Deployment
from registry.errors import RevisionConflict
from registry.records import AnsweredRequest, AuditRecord
from registry.stores.sql_tables import ALIASES, AUDIT, DEPLOYMENTS, MODELS, REQUESTS, VERSIONS
from registry.versions import Model, ModelVersion


class SqlTransaction:
    """`registry.records.Writer` (and so `Reader`) on one open connection; not for two threads at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def model(self, name: str) -> Model | None:
        found = self._models(select(MODELS).where(MODELS.c.name == name))
        return found[0] if found else None

    def models(self, *, after: str, limit: int) -> list[Model]:
        return self._models(select(MODELS).where(MODELS.c.name > after).order_by(MODELS.c.name).limit(limit))

    def _models(self, query: Select[Any]) -> list[Model]:
        rows = self._connection.execute(query).all()
        aliases: dict[str, dict[str, int]] = {row.name: {} for row in rows}
        wanted = select(ALIASES).where(ALIASES.c.model.in_(aliases)).order_by(ALIASES.c.model, ALIASES.c.name)
        for row in self._connection.execute(wanted):
            aliases[row.model][row.name] = row.number
        return [Model(row.name, row.latest, aliases[row.name], row.created_at, row.generation) for row in rows]

    def version(self, model: str, number: int) -> ModelVersion | None:
        query = select(VERSIONS.c.document).where(VERSIONS.c.model == model, VERSIONS.c.number == number)
        document = self._connection.scalar(query)
        return None if document is None else _version(document)

    def versions(self, model: str, *, before: int | None, limit: int) -> list[ModelVersion]:
        query = select(VERSIONS.c.document).where(VERSIONS.c.model == model).order_by(VERSIONS.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(VERSIONS.c.number < before)
        return [_version(document) for document in self._connection.scalars(query)]

    def deployment(self, model: str, revision: int | None = None) -> Deployment | None:
        query = select(DEPLOYMENTS.c.document).where(DEPLOYMENTS.c.model == model)
        if revision is None:
            query = query.order_by(DEPLOYMENTS.c.revision.desc()).limit(1)
        else:
            query = query.where(DEPLOYMENTS.c.revision == revision)
        document = self._connection.scalar(query)
        return None if document is None else _deployment(document)

    def current_deployments(self) -> list[Deployment]:
        newest = select(DEPLOYMENTS.c.model, func.max(DEPLOYMENTS.c.revision).label("revision"))
        last = newest.group_by(DEPLOYMENTS.c.model).subquery()
        is_last = (DEPLOYMENTS.c.model == last.c.model) & (DEPLOYMENTS.c.revision == last.c.revision)
        query = select(DEPLOYMENTS.c.document).join(last, is_last).order_by(DEPLOYMENTS.c.model)
        return [_deployment(document) for document in self._connection.scalars(query)]

    def revisions(self, model: str, *, before: int | None, limit: int) -> list[Deployment]:
        query = select(DEPLOYMENTS.c.document).where(DEPLOYMENTS.c.model == model)
        if before is not None:
            query = query.where(DEPLOYMENTS.c.revision < before)
        query = query.order_by(DEPLOYMENTS.c.revision.desc()).limit(limit)
        return [_deployment(document) for document in self._connection.scalars(query)]

    def audit(self, model: str | None, *, before: int | None, limit: int) -> list[AuditRecord]:
        query = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
        if model is not None:
            query = query.where(AUDIT.c.model == model)
        if before is not None:
            query = query.where(AUDIT.c.id < before)
        return [AuditRecord(**row._mapping) for row in self._connection.execute(query)]

    def request(self, request_id: str) -> AnsweredRequest | None:
        row: Row[Any] | None = self._connection.execute(select(REQUESTS).where(REQUESTS.c.request_id == request_id)).first()
        return None if row is None else AnsweredRequest(**row._mapping)

    def lock_model(self, name: str, *, created_at: float) -> Model:
        row = self._connection.execute(select(MODELS.c.name).where(MODELS.c.name == name).with_for_update()).first()
        if row is None:
            self._connection.execute(insert(MODELS).values(name=name, latest=0, generation=0, created_at=created_at))
        model = self.model(name)
        assert model is not None
        return model

    def add_version(self, version: ModelVersion) -> None:
        row = {"model": version.model, "number": version.number, "digest": version.artifact.digest}
        document = msgspec.json.encode(version).decode()
        self._connection.execute(insert(VERSIONS).values(**row, document=document, created_at=version.created_at))
        self._connection.execute(update(MODELS).where(MODELS.c.name == version.model).values(latest=version.number))

    def replace_version(self, version: ModelVersion) -> None:
        is_it = (VERSIONS.c.model == version.model) & (VERSIONS.c.number == version.number)
        document = msgspec.json.encode(version).decode()
        self._connection.execute(update(VERSIONS).where(is_it).values(document=document))

    def set_alias(self, model: str, alias: str, number: int | None) -> None:
        self._connection.execute(delete(ALIASES).where(ALIASES.c.model == model, ALIASES.c.name == alias))
        if number is not None:
            self._connection.execute(insert(ALIASES).values(model=model, name=alias, number=number))

    def touch_model(self, model: str) -> None:
        self._connection.execute(update(MODELS).where(MODELS.c.name == model).values(generation=MODELS.c.generation + 1))

    def add_deployment(self, deployment: Deployment) -> None:
        row = {"model": deployment.model, "revision": deployment.revision, "created_at": deployment.created_at}
        document = msgspec.json.encode(deployment).decode()
        try:
            self._connection.execute(insert(DEPLOYMENTS).values(**row, document=document))
        except IntegrityError as error:
            raise RevisionConflict(
                f"{deployment.model}: revision {deployment.revision} was committed by someone else at the same moment"
            ) from error

    def add_audit(self, record: AuditRecord) -> None:
        row = msgspec.to_builtins(record)
        del row["id"]  # the database counts
        self._connection.execute(insert(AUDIT).values(**row))

    def add_request(self, request: AnsweredRequest, *, forget_before: float) -> None:
        self._connection.execute(delete(REQUESTS).where(REQUESTS.c.created_at < forget_before))
        self._connection.execute(insert(REQUESTS).values(**msgspec.to_builtins(request)))


def _version(document: str) -> ModelVersion:
    return msgspec.json.decode(document, type=ModelVersion)


def _deployment(document: str) -> Deployment:
    return msgspec.json.decode(document, type=Deployment)
