"""
Maps values of the registry and control to messages of the admin service, and requests to values. No service and no state
here.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from gateway.api.status_codes import failure
from gateway.control.catalog.registration import Submission
from gateway.control.changes.deployment_settings import NO_CHANGE, BatchingChange, DeploymentSettings
from gateway.control.changes.operations import Operation, Result, Step
from gateway.control.changes.traffic import Change
from gateway.control.observe.gateway_status import GatewayStatus, ModelStatus, VersionStatus, WorkerStatus
from gateway.protocol.pb import admin_pb2 as pb
from registry.deployment import PARTS, Batching, Deployment
from registry.examples import Example, ExampleTensor
from registry.records import AuditRecord
from registry.signature import Signature, TensorSpec
from registry.versions import Lineage, Model, ModelVersion


def timestamp(seconds: float) -> Timestamp | None:
    """Converts Unix seconds to a Timestamp to the microsecond; 0 to None, which leaves a field unset."""
    if not seconds:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


# ---- registry values -----------------------------------------------------------------------------------------------


def model_message(model: Model) -> pb.Model:
    """Returns a model with its aliases."""
    return pb.Model(
        name=model.name,
        latest_version=model.latest,
        aliases=dict(model.aliases),
        create_time=timestamp(model.created_at),
        etag=model.etag,
    )


def version_message(version: ModelVersion, model: Model | None = None) -> pb.Version:
    """Returns a version; with ``model``, the aliases that point at it too."""
    facts = version.facts
    message = pb.Version(
        model=version.model,
        version=version.number,
        digest=version.artifact.digest,
        size_bytes=version.artifact.size_bytes,
        files=[pb.ArtifactFile(path=f.path, sha256=f.sha256, size_bytes=f.size_bytes) for f in version.artifact.files],
        signature=_signature(facts.signature),
        batchable=facts.is_batchable,
        batching_reason=facts.batching_reason,
        row_proof=facts.row_proof,
        batched_inputs=[pb.InputSet(names=names) for names in facts.batched_inputs],
        tags=dict(version.tags),
        lineage=_lineage(version.lineage),
        create_time=timestamp(version.created_at),
        author=version.created_by,
        example_count=version.examples.count if version.examples else 0,
        aliases=sorted(alias for alias, number in model.aliases.items() if number == version.number) if model else (),
    )
    if facts.prediction is not None:
        read = facts.prediction
        message.prediction.CopyFrom(pb.Prediction(output=read.output, kind=read.kind, classes=read.classes))
    return message


def _signature(signature: Signature) -> pb.Signature:
    return pb.Signature(inputs=map(_tensor, signature.inputs), outputs=map(_tensor, signature.outputs))


def _tensor(spec: TensorSpec) -> pb.TensorSpec:
    return pb.TensorSpec(name=spec.name, datatype=spec.datatype, shape=spec.shape, optional=spec.is_optional)


def _lineage(lineage: Lineage) -> pb.Lineage:
    return pb.Lineage(
        run_id=lineage.run_id,
        source_commit=lineage.source_commit,
        datasets=lineage.datasets,
        parent_version=lineage.parent_version or 0,
    )


def deployment_message(deployment: Deployment) -> pb.Deployment:
    """Returns a deployment; the shares begin with the default's."""
    weights = deployment.weights()
    order = sorted(weights, key=lambda number: (number != deployment.default, number))
    shadow = deployment.shadow
    return pb.Deployment(
        model=deployment.model,
        revision=deployment.revision,
        etag=deployment.etag,
        default_version=deployment.default or 0,
        shares=[pb.Share(version=number, percent=weights[number] * 100 / PARTS) for number in order],
        shadow=pb.Shadow(version=shadow.version, percent=shadow.percent) if shadow else None,
        batching=_batching(deployment.batching),
        rollback_window_s=deployment.rollback_window_s,
        predecessor=deployment.predecessor or 0,
        action=deployment.action,
        author=deployment.author,
        reason=deployment.reason,
        create_time=timestamp(deployment.created_at),
        swap_order=deployment.swap_order,
        isolation=deployment.isolation,
        on_crash=deployment.on_crash,
    )


def _batching(batching: Batching) -> pb.Batching:
    return pb.Batching(
        mode=batching.mode,
        max_rows=batching.max_rows,
        queue_delay_us=batching.queue_delay_us,
        preferred_rows=pb.PreferredRows(rows=batching.preferred_rows),
        max_waiting=batching.max_waiting,
        queue_target_us=batching.queue_target_us,
        adaptive_limit=batching.has_adaptive_limit,
    )


def audit_message(record: AuditRecord) -> pb.AuditRecord:
    """Returns one change."""
    return pb.AuditRecord(
        id=record.id,
        time=timestamp(record.created_at),
        author=record.author,
        verb=record.verb,
        model=record.model,
        before=record.before,
        after=record.after,
        reason=record.reason,
    )


# ---- operations ----------------------------------------------------------------------------------------------------


def operation_message(operation: Operation) -> pb.Operation:
    """Returns an operation at this moment. Its error has the code and text that a refused call would have."""
    message = pb.Operation(
        name=operation.name,
        verb=operation.verb,
        model=operation.model,
        done=operation.is_done,
        steps=[_step(step) for step in operation.steps],
        missing=operation.result.missing,
        workers=operation.result.workers,
        warnings=operation.result.warnings,
        changes=[pb.SettingChange(name=one.name, before=one.before, after=one.after) for one in operation.result.changes],
        create_time=timestamp(operation.created_at),
        end_time=timestamp(operation.ended_at),
    )
    if operation.error is not None:
        message.error.CopyFrom(_error(operation.error))
    _add_result(message, operation.result)
    return message


def _add_result(message: pb.Operation, result: Result) -> None:
    if result.deployment is not None:
        message.deployment.CopyFrom(deployment_message(result.deployment))
    if result.version is not None:
        message.version.CopyFrom(version_message(result.version))


def _step(step: Step) -> pb.OperationStep:
    return pb.OperationStep(name=step.name, detail=step.detail, time=timestamp(step.time))


def _error(error: Exception) -> pb.OperationError:
    found = failure(error)
    return pb.OperationError(
        code=found.code.value[0], reason=found.reason, message=found.message, metadata=dict(found.metadata)
    )


# ---- status --------------------------------------------------------------------------------------------------------


def add_status(message: pb.Status, status: GatewayStatus, *, model: str = "") -> None:
    """Adds workers, models (one, or all) and readiness."""
    message.workers.extend(_worker(worker) for worker in status.workers)
    message.models.extend(_model_status(one) for one in status.models if not model or one.model == model)
    message.ready = status.readiness.is_ready


def _worker(worker: WorkerStatus) -> pb.WorkerStatus:
    return pb.WorkerStatus(
        worker=worker.worker,
        pid=worker.pid,
        state=worker.state,
        restarts=worker.restarts,
        lane=worker.lane,
        rss_bytes=worker.rss_bytes,
        replacements=worker.replacements,
        start_time=timestamp(worker.started_at),
        requests=worker.requests,
        in_flight=worker.in_flight,
        connections=worker.connections if worker.connections >= 0 else None,
        last_death=worker.last_death,
    )


def _model_status(status: ModelStatus) -> pb.ModelStatus:
    return pb.ModelStatus(
        model=status.model,
        deployment=deployment_message(status.deployment) if status.deployment else None,
        versions=[_version_status(version) for version in status.versions],
    )


def _version_status(status: VersionStatus) -> pb.VersionStatus:
    return pb.VersionStatus(
        version=status.version,
        roles=status.roles,
        state=status.state,
        reason=status.reason,
        workers_ready=status.workers_ready,
        percent=status.percent,
        memory_bytes=status.memory_bytes,
        load_ms=status.load_ms,
        in_flight=status.in_flight,
        requests=status.requests,
        errors=status.errors,
        p50_ms=status.p50_s * 1e3,
        p99_ms=status.p99_s * 1e3,
        shadow_compared=status.shadow_compared,
        shadow_disagreed=status.shadow_disagreed,
        shadow_dropped=status.shadow_dropped,
        private_bytes=status.private_bytes,
        mapped_bytes=status.mapped_bytes,
        layout=status.layout,
        batching=status.batching,
        deaths=status.deaths,
        isolation=status.isolation,
        fenced_until=timestamp(status.fenced_until) if status.fenced_until else None,
    )


# ---- requests ------------------------------------------------------------------------------------------------------


def change_of(request: Any) -> Change:
    """Returns the facts that every write carries."""
    return Change(getattr(request, "etag", ""), getattr(request, "request_id", ""), request.author, request.reason)


def submission_of(header: pb.RegisterVersionRequest.Header) -> Submission:
    """Returns the facts of a version to be registered."""
    lineage = header.lineage
    return Submission(
        model=header.model,
        model_file=header.model_file,
        tags=dict(header.tags),
        lineage=Lineage(lineage.run_id, lineage.source_commit, tuple(lineage.datasets), lineage.parent_version or None),
        alias=header.alias,
        output=header.prediction.output,
        kind=header.prediction.kind,
        classes=tuple(header.prediction.classes),
        change=change_of(header),
    )


def example_of(message: pb.Example) -> Example:
    """Returns an example request. Whether it fits the model is checked later."""
    inputs = (ExampleTensor(one.name, one.datatype, tuple(one.shape), one.contents) for one in message.inputs)
    return Example(tuple(inputs), message.name)


def settings_of(request: pb.ConfigureRequest) -> DeploymentSettings:
    """Returns the settings to change."""
    return DeploymentSettings(
        batching=_batching_change(request.batching) if request.HasField("batching") else NO_CHANGE,
        rollback_window_s=_told(request, "rollback_window_s"),
        swap_order=request.swap_order or None,
        isolation=request.isolation or None,
        on_crash=request.on_crash or None,
    )


def _batching_change(batching: pb.Batching) -> BatchingChange:
    """Returns the change. Clients built before a field was added do not send it: that setting stays."""
    rows = _told(batching, "preferred_rows")
    return BatchingChange(
        mode=batching.mode or None,
        max_rows=batching.max_rows or None,
        queue_delay_us=batching.queue_delay_us,
        preferred_rows=None if rows is None else tuple(rows.rows),
        max_waiting=_told(batching, "max_waiting"),
        queue_target_us=_told(batching, "queue_target_us"),
        has_adaptive_limit=_told(batching, "adaptive_limit"),
    )


def _told(message: Any, field: str) -> Any:
    """Returns a field with presence, None if it was not sent."""
    return getattr(message, field) if message.HasField(field) else None
