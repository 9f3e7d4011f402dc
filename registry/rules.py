"""The rules for every change of the registry, checked against the state of one moment. They only read and raise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import msgspec

from registry.deployment import Deployment
from registry.errors import InvalidModel, InvalidValue, ModelUnknown, RevisionConflict, VersionUnknown
from registry.names import LATEST, MAX_NUMBER, check_alias, check_model_name, check_tags, check_text, version_number
from registry.prediction import check_prediction
from registry.records import Reader
from registry.requests import MAX_REQUEST_ID, first_answer
from registry.signature import Signature
from registry.versions import Facts, Lineage, Model, ModelVersion

Answer = TypeVar("Answer", Model, ModelVersion, Deployment)


def known(reader: Reader, name: str) -> Model:
    """Returns the model of that name. Raises ModelUnknown."""
    model = reader.model(name)
    if model is None:
        raise ModelUnknown(f"no model {name!r} is registered", model=name)
    return model


def resolved(reader: Reader, model: Model, ref: str | int) -> ModelVersion:
    """Returns the version that a number, an alias or ``latest`` names. Raises VersionUnknown that says what there is."""
    number = model.aliases.get(str(ref)) or (model.latest if ref == LATEST else version_number(ref))
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


def replayed(reader: Reader, request_id: str, content: str, kind: type[Answer]) -> Answer | None:
    """Returns the answer that this request got before, None for a new one. Raises RequestReplayed for other content."""
    if not request_id:
        return None
    answer = first_answer(reader.request(request_id), content)
    return None if answer is None else msgspec.json.decode(answer, type=kind)


def check_version_words(model: str, tags: Mapping[str, str], lineage: Lineage, alias: str | None, facts: Facts) -> None:
    """Raises InvalidValue for a text of a registration that its field forbids."""
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


def check_write(author: str, reason: str, request_id: str) -> None:
    """Raises InvalidValue for a text of a write that its field forbids."""
    check_text("author", author)
    check_text("reason", reason)
    check_text("request_id", request_id, most=MAX_REQUEST_ID)


def check_same_tensors(of_file: Signature, of_trial: Signature) -> None:
    """Raises InvalidModel if the trial saw other tensors than the file has; inputs with defaults need not be seen."""
    for role, read, tried in (
        ("inputs", of_file.inputs, of_trial.inputs),
        ("outputs", of_file.outputs, of_trial.outputs),
    ):
        possible = {(spec.name, spec.datatype) for spec in read}
        needed = {(spec.name, spec.datatype) for spec in read if not spec.is_optional}
        found = {(spec.name, spec.datatype) for spec in tried}
        if not needed <= found <= possible:
            raise InvalidModel(f"the {role} of the file, {sorted(possible)}, are not those that were tried, {sorted(found)}")


def check_parent(reader: Reader, model: str, lineage: Lineage) -> None:
    """Raises InvalidValue if the parent is no version of the model."""
    parent = lineage.parent_version
    if parent is not None and (not 1 <= parent <= MAX_NUMBER or reader.version(model, parent) is None):
        raise InvalidValue(f"lineage.parent_version: model {model!r} has no version {parent}", field="lineage.parent_version")


def check_etag(model: Model, etag: str) -> None:
    """Raises RevisionConflict when ``etag`` is given and not the model's."""
    if etag and etag != model.etag:
        raise RevisionConflict(
            f"etag: model {model.name!r} is at {model.etag}, the request was made for {etag}: read it again",
            model=model.name,
            etag=model.etag,
        )


def check_revision(model: str, current: Deployment | None, expected: int) -> None:
    """Raises RevisionConflict if the current revision (0 = none) is not the expected one."""
    revision = current.revision if current else 0
    if revision != expected:
        raise RevisionConflict(
            f"the deployment of {model!r} is at revision {revision}, the change was made for {expected}: read it again",
            model=model,
            revision=revision,
        )


def lasting(deployment: Deployment) -> Deployment:
    """Returns the deployment without what differs when the same change is computed again."""
    return replace(deployment, revision=0, predecessor=None, salt="", author="", reason="", created_at=0.0)


def as_json(value: object) -> str:
    """Returns the value as compact JSON."""
    return msgspec.json.encode(value).decode()
