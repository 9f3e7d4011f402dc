"""`interlock.v1.AdminService`: maps requests to calls of control, and results to messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc

from gateway.api import admin_messages as messages
from gateway.api.feedback_messages import quality_message
from gateway.api.status_codes import abort, guarded, guarded_stream
from gateway.control.catalog.uploads import Chunk, Part
from gateway.control.changes.operations import Operation
from gateway.control.control import Control
from gateway.errors import InvalidRequest, ModelNotFound
from gateway.protocol.pb import admin_pb2 as pb
from gateway.protocol.services import ADMIN
from registry.paging import page


class AdminService:
    """The RPCs of the admin service. `gateway.api.admin_messages` maps their messages."""

    def __init__(self, control: Control) -> None:
        self._control, self._registry = control, control.registry
        self._traffic, self._operations = control.traffic, control.operations

    def behaviours(self) -> dict[str, Any]:
        """Returns every RPC of the service by name."""
        names = [method.name for method in ADMIN.methods]
        streams = {method.name for method in ADMIN.methods if method.server_streaming}
        return {name: (guarded_stream if name in streams else guarded)(getattr(self, _snake(name))) for name in names}

    # ---- models and versions ---------------------------------------------------------------------------------------

    def list_models(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:
        """Lists models by name."""
        models, token = self._registry.models(page_size=request.page_size, page_token=request.page_token)
        return pb.ListModelsResponse(models=map(messages.model_message, models), next_page_token=token)

    def get_model(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.Model:
        """Returns one model."""
        return messages.model_message(self._registry.model(request.model))

    def list_versions(self, request: pb.ListVersionsRequest, context: grpc.ServicerContext) -> pb.ListVersionsResponse:
        """Lists versions, newest first."""
        model = self._registry.model(request.model)
        found, token = self._registry.versions(request.model, page_size=request.page_size, page_token=request.page_token)
        versions = [messages.version_message(version, model) for version in found]
        return pb.ListVersionsResponse(versions=versions, next_page_token=token)

    def get_version(self, request: pb.GetVersionRequest, context: grpc.ServicerContext) -> pb.Version:
        """Returns one version by number, alias or latest."""
        version = self._registry.version(request.model, request.version)
        return messages.version_message(version, self._registry.model(request.model))

    def register_version(
        self, requests: Iterator[pb.RegisterVersionRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.Operation]:
        """Takes the header, then examples and files; streams the operation."""
        try:
            first = next(requests, None)
        except grpc.RpcError:
            return  # the client went away before it said anything
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidRequest("header: expected as the first message of the stream", field="header")
        submission = messages.submission_of(first.header)
        operation = self._control.registering.register(
            submission, _parts(requests), size_bytes=first.header.size_bytes, is_connected=context.is_active
        )
        yield from self._stream(operation, context)

    def set_alias(self, request: pb.SetAliasRequest, context: grpc.ServicerContext) -> pb.Model:
        """Points an alias at a version. Returns when the workers know it."""
        change = messages.change_of(request)
        return self._model_of(self._control.aliases.set(request.model, request.alias, request.version, change=change))

    def delete_alias(self, request: pb.DeleteAliasRequest, context: grpc.ServicerContext) -> pb.Model:
        """Deletes an alias."""
        change = messages.change_of(request)
        return self._model_of(self._control.aliases.delete(request.model, request.alias, change=change))

    def _model_of(self, operation: Operation) -> pb.Model:
        done = self._operations.wait(operation.name)
        if done.error is not None:
            raise done.error
        assert done.result.model is not None
        return messages.model_message(done.result.model)

    # ---- deployments -----------------------------------------------------------------------------------------------

    def list_deployments(self, request: pb.ListDeploymentsRequest, context: grpc.ServicerContext) -> pb.ListDeploymentsResponse:
        """Lists the current deployments by model."""
        all_of_them = self._registry.deployments()

        def behind(key: str | None, limit: int) -> list[Any]:
            return [one for one in all_of_them if one.model > (key or "")][:limit]

        found, token = page(
            behind,
            lambda one: str(one.model),
            str,
            page_size=request.page_size,
            page_token=request.page_token,
            arguments=("deployments",),
        )
        return pb.ListDeploymentsResponse(deployments=map(messages.deployment_message, found), next_page_token=token)

    def get_deployment(self, request: pb.GetDeploymentRequest, context: grpc.ServicerContext) -> pb.Deployment:
        """Returns the current deployment of a model."""
        deployment = self._registry.deployment(request.model)
        if deployment is None:
            raise ModelNotFound(f"{request.model} was never deployed", model=request.model)
        return messages.deployment_message(deployment)

    def deploy(self, request: pb.DeployRequest, context: grpc.ServicerContext) -> Iterator[pb.Operation]:
        """Deploys a version in place of the whole current deployment."""
        change = messages.change_of(request)
        return self._stream(self._traffic.deploy(request.model, request.version, force=request.force, change=change), context)

    def undeploy(self, request: pb.UndeployRequest, context: grpc.ServicerContext) -> Iterator[pb.Operation]:
        """Stops serving the model."""
        return self._stream(self._traffic.undeploy(request.model, change=messages.change_of(request)), context)

    def set_split(self, request: pb.SetSplitRequest, context: grpc.ServicerContext) -> Iterator[pb.Operation]:
        """Splits traffic by weight."""
        percents = {weight.version: weight.percent for weight in request.weights}
        if len(percents) != len(request.weights):
            raise InvalidRequest("weights: a version is named twice", field="weights")
        change = messages.change_of(request)
        return self._stream(self._traffic.split(request.model, percents, force=request.force, change=change), context)

    def set_shadow(self, request: pb.SetShadowRequest, context: grpc.ServicerContext) -> Iterator[pb.Operation]:
        """Sets another shadow, or none."""
        operation = self._traffic.shadow(
            request.model,
            request.version,
            percent=request.percent,
            force=request.force,
            change=messages.change_of(request),
        )
        return self._stream(operation, context)

    def configure(self, request: pb.ConfigureRequest, context: grpc.ServicerContext) -> Iterator[pb.Operation]:
        """Changes settings."""
        change = messages.change_of(request)
        return self._stream(self._traffic.configure(request.model, messages.settings_of(request), change=change), context)

    def promote(self, request: pb.PromoteRequest, context: grpc.ServicerContext) -> Iterator[pb.Operation]:
        """Sends all callers to a version."""
        change = messages.change_of(request)
        return self._stream(self._traffic.promote(request.model, request.version, force=request.force, change=change), context)

    def rollback(self, request: pb.RollbackRequest, context: grpc.ServicerContext) -> Iterator[pb.Operation]:
        """Restores what was served before."""
        return self._stream(self._traffic.rollback(request.model, change=messages.change_of(request)), context)

    def list_revisions(self, request: pb.ListRevisionsRequest, context: grpc.ServicerContext) -> pb.ListRevisionsResponse:
        """Lists revisions, newest first."""
        found, token = self._registry.revisions(request.model, page_size=request.page_size, page_token=request.page_token)
        return pb.ListRevisionsResponse(revisions=map(messages.deployment_message, found), next_page_token=token)

    def list_audit_records(
        self, request: pb.ListAuditRecordsRequest, context: grpc.ServicerContext
    ) -> pb.ListAuditRecordsResponse:
        """Lists changes, newest first."""
        found, token = self._registry.audit(request.model or None, page_size=request.page_size, page_token=request.page_token)
        return pb.ListAuditRecordsResponse(records=map(messages.audit_message, found), next_page_token=token)

    # ---- operations ------------------------------------------------------------------------------------------------

    def list_operations(self, request: pb.ListOperationsRequest, context: grpc.ServicerContext) -> pb.ListOperationsResponse:
        """Lists remembered operations, newest first."""
        newest_first = self._operations.newest_first()

        def behind(key: str | None, limit: int) -> list[Operation]:
            return [one for one in newest_first if key is None or one.name < key][:limit]

        found, token = page(
            behind,
            lambda one: one.name,
            str,
            page_size=request.page_size,
            page_token=request.page_token,
            arguments=("operations",),
        )
        return pb.ListOperationsResponse(operations=map(messages.operation_message, found), next_page_token=token)

    def get_operation(self, request: pb.GetOperationRequest, context: grpc.ServicerContext) -> pb.Operation:
        """Returns an operation at this moment."""
        return messages.operation_message(self._operations.get(request.name))

    def watch_operation(self, request: pb.GetOperationRequest, context: grpc.ServicerContext) -> Iterator[pb.Operation]:
        """Streams an operation until it is done."""
        for operation in self._operations.watch(request.name, context.is_active):
            yield messages.operation_message(operation)

    def unfence(self, request: pb.UnfenceRequest, context: grpc.ServicerContext) -> pb.UnfenceResponse:
        """Ends fences."""
        ended = self._control.containment.unfence(request.model, request.version, messages.change_of(request))
        return pb.UnfenceResponse(versions=ended)

    def restart_workers(self, request: pb.RestartWorkersRequest, context: grpc.ServicerContext) -> Iterator[pb.Operation]:
        """Replaces every worker process."""
        return self._stream(self._control.restarts.restart(messages.change_of(request)), context)

    def _stream(self, operation: Operation, context: grpc.ServicerContext) -> Iterator[pb.Operation]:
        """
        Streams the operation after every step. One that failed ends the call with its error too, for clients that read the
        status only. A client that goes away stops nothing.
        """
        for current in self._operations.watch(operation.name, context.is_active):
            yield messages.operation_message(current)
            if current.error is not None:
                abort(context, current.error)

    # ---- what is going on ------------------------------------------------------------------------------------------

    def get_status(self, request: pb.GetStatusRequest, context: grpc.ServicerContext) -> pb.Status:
        """Returns workers, models and versions with their counts at this moment."""
        control, addresses = self._control, self._control.settings.addresses
        if request.model:
            self._registry.model(request.model)
        control.fleet.report(control.limits.report_timeout_s)
        message = pb.Status(
            gateway_version=control.version,
            start_time=messages.timestamp(control.started_at),
            data_address=str(addresses["data_address"]),
            http_address=str(addresses["http_address"]),
        )
        messages.add_status(message, control.status(), model=request.model)
        return message

    def get_quality(self, request: pb.GetQualityRequest, context: grpc.ServicerContext) -> pb.Quality:
        """Returns live quality, including all predictions of the workers so far."""
        self._registry.model(request.model)
        if not request.window_s >= 0:
            raise InvalidRequest(f"window_s: expected 0 or more, got {request.window_s}", field="window_s")
        self._control.fresh_predictions()
        log = self._control.prediction_log
        report = log.quality(request.model, request.window_s)
        dropped = self._control.counts.merged().predictions_dropped + self._control.predictions_dropped
        coverage = log.coverage(dropped)
        return quality_message(request.model, request.window_s, report, pending=log.pending(), log_coverage=coverage)


def _parts(requests: Iterator[pb.RegisterVersionRequest]) -> Iterator[Part]:
    """The examples and the files' pieces; an upload that is cut off raises InvalidRequest."""
    try:
        for request in requests:
            match request.WhichOneof("part"):
                case "chunk":
                    yield Chunk(request.chunk.path, request.chunk.data)
                case "example":
                    yield messages.example_of(request.example)
                case _:
                    raise InvalidRequest("part: expected a chunk or an example after the header", field="part")
    except grpc.RpcError as error:
        raise InvalidRequest("upload: cut off by the client before its end", field="chunk") from error


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
