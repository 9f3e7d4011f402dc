"""
`AdminClient`: models, versions, deployments and live state over the admin port.

Reads give the messages of `protos/interlock/v1/admin.proto` as they are. Writes that reach the workers give an
`Updates`: iterate it to see every step, or take `.result()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gateway.client.call_errors import CallError, error_of
from gateway.client.grpc_channel import Channel
from gateway.protocol.messages import admin

if TYPE_CHECKING:  # numpy is imported by the first registration
    from gateway.client.tensors import Array
    from gateway.client.upload import Lineage

DEFAULT_ADDRESS = "127.0.0.1:9001"
DEFAULT_TIMEOUT_S = 30.0
OPERATION_TIMEOUT_S = 900.0
PAGE_SIZE = 200
M = TypeVar("M")
_CODES = {
    1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND", 6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION", 10: "ABORTED", 11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE", 15: "DATA_LOSS", 16: "UNAUTHENTICATED",
}  # fmt: skip


class Updates:
    """A running long operation: yields the Operation after every step. Raises CallError if it fails."""

    def __init__(self, operations: Iterator[admin.Operation]) -> None:
        self._operations = operations
        self.last: admin.Operation | None = None

    def __iter__(self) -> Iterator[admin.Operation]:
        for operation in self._operations:
            self.last = operation
            yield operation
            if operation.done:
                break
        if self.last is None or not self.last.done:
            raise CallError(
                "the gateway ended the operation's updates before it was done; `operations` tells what became of it"
            )
        _raise_failed(self.last)

    def result(self) -> admin.Operation:
        """Waits for the end and returns the finished operation. Raises CallError if it failed."""
        for _ in self:
            pass
        if self.last is None:
            raise AssertionError("unreachable: the iteration raises")
        return self.last


class AdminClient:
    """A connection to a gateway's admin port (a context manager). Every method raises CallError; ``timeout_s`` bounds reads."""

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = DEFAULT_TIMEOUT_S, author: str = "") -> None:
        self.address = address
        self._channel = Channel(address)
        self._rpc = self._channel.admin
        self._timeout_s = timeout_s
        self._author = author

    # ---- models and versions

    def models(self) -> list[admin.Model]:
        """Returns all registered models."""
        return list(self._pages(self._rpc.ListModels, admin.ListModelsRequest(page_size=PAGE_SIZE), "models"))

    def model(self, name: str) -> admin.Model:
        """Returns one model with its aliases and etag."""
        return self._read(self._rpc.GetModel, admin.GetModelRequest(model=name), admin.Model)

    def versions(self, model: str) -> list[admin.Version]:
        """Returns all versions of a model."""
        return list(
            self._pages(self._rpc.ListVersions, admin.ListVersionsRequest(model=model, page_size=PAGE_SIZE), "versions")
        )

    def version(self, model: str, version: str | int) -> admin.Version:
        """Returns one version, by number, alias or "latest"."""
        return self._read(self._rpc.GetVersion, admin.GetVersionRequest(model=model, version=str(version)), admin.Version)

    def register(
        self,
        model: str,
        path: Path | str,
        *,
        model_file: str | None = None,
        tags: Mapping[str, str] | None = None,
        alias: str = "",
        prediction: tuple[str, str] | None = None,
        classes: Sequence[str] = (),
        lineage: Lineage | None = None,
        examples: Sequence[Mapping[str, Array] | admin.Example] = (),
        reason: str = "",
        request_id: str = "",
        progress: Callable[[int, int], None] | None = None,
    ) -> Updates:
        """
        Uploads and registers a version: an .onnx file with the external data it refers to, or a whole folder.
        ``prediction``: (output, kind), kind "" to be found out. ``examples``: requests that the version must answer, arrays
        by input name (at most 16, 16 MiB in all); it is tried and later warmed up with them. ``progress(sent_bytes,
        total_bytes)`` is called from another thread. Raises `UploadError` if the path has no model to upload.
        """
        from gateway.client.upload import Upload, example_message, parts

        upload = Upload.of(Path(path), model_file=model_file)
        header = admin.RegisterVersionRequest.Header(
            model=model,
            model_file=upload.model_file,
            tags=tags,
            alias=alias,
            request_id=request_id,
            size_bytes=upload.size_bytes(),
            **self._who(reason),
        )
        if lineage is not None:
            header.lineage.CopyFrom(lineage.message())
        if prediction is not None or classes:
            output, kind = prediction or ("", "")
            header.prediction.CopyFrom(admin.Prediction(output=output, kind=kind, classes=classes))
        told = [one if isinstance(one, admin.Example) else example_message(one) for one in examples]
        return self._operation(self._rpc.RegisterVersion, parts(header, told, upload, progress))

    def set_alias(
        self, model: str, alias: str, version: str | int, *, etag: str = "", request_id: str = "", reason: str = ""
    ) -> admin.Model:
        """Points an alias at a version."""
        request = admin.SetAliasRequest(
            model=model, alias=alias, version=str(version), etag=etag, request_id=request_id, **self._who(reason)
        )
        return self._read(self._rpc.SetAlias, request, admin.Model)

    def delete_alias(self, model: str, alias: str, *, etag: str = "", request_id: str = "", reason: str = "") -> admin.Model:
        """Removes an alias."""
        request = admin.DeleteAliasRequest(model=model, alias=alias, etag=etag, request_id=request_id, **self._who(reason))
        return self._read(self._rpc.DeleteAlias, request, admin.Model)

    # ---- deployments: every write gives Updates

    def deploy(
        self, model: str, version: str | int, *, force: bool = False, etag: str = "", request_id: str = "", reason: str = ""
    ) -> Updates:
        """Deploys a version, in place of the whole current deployment. ``force``: even if its signature is incompatible."""
        request = admin.DeployRequest(
            model=model, version=str(version), force=force, etag=etag, request_id=request_id, **self._who(reason)
        )
        return self._operation(self._rpc.Deploy, request)

    def undeploy(self, model: str, *, etag: str = "", request_id: str = "", reason: str = "") -> Updates:
        """Stops serving the model."""
        request = admin.UndeployRequest(model=model, etag=etag, request_id=request_id, **self._who(reason))
        return self._operation(self._rpc.Undeploy, request)

    def split(
        self,
        model: str,
        percents: Mapping[str, float],
        *,
        force: bool = False,
        etag: str = "",
        request_id: str = "",
        reason: str = "",
    ) -> Updates:
        """Splits the traffic: percent by version (number or alias), 100 in all."""
        weights = [admin.SetSplitRequest.Weight(version=version, percent=percent) for version, percent in percents.items()]
        request = admin.SetSplitRequest(
            model=model, weights=weights, force=force, etag=etag, request_id=request_id, **self._who(reason)
        )
        return self._operation(self._rpc.SetSplit, request)

    def shadow(
        self,
        model: str,
        version: str | int | None,
        *,
        percent: float = 100.0,
        force: bool = False,
        etag: str = "",
        request_id: str = "",
        reason: str = "",
    ) -> Updates:
        """Sends copies of ``percent`` of the requests to a version; None ends shadowing."""
        request = admin.SetShadowRequest(
            model=model,
            version="" if version is None else str(version),
            percent=percent,
            force=force,
            etag=etag,
            request_id=request_id,
            **self._who(reason),
        )
        return self._operation(self._rpc.SetShadow, request)

    def configure(
        self,
        model: str,
        *,
        batching: admin.Batching | None = None,
        rollback_window_s: float | None = None,
        swap_order: str = "",
        isolation: str = "",
        etag: str = "",
        request_id: str = "",
        reason: str = "",
    ) -> Updates:
        """
        Sets how a deployment batches and queues, how long the predecessor is kept warm, the swap order (``availability`` or
        ``memory``), and the isolation (``none``, or ``process`` for child processes of their own). Omitted settings stay.
        Within ``batching``, an empty mode, max_rows 0 and unset fields with presence stay too.
        """
        request = admin.ConfigureRequest(
            model=model,
            batching=batching,
            rollback_window_s=rollback_window_s,
            swap_order=swap_order,
            isolation=isolation,
            etag=etag,
            request_id=request_id,
            **self._who(reason),
        )
        return self._operation(self._rpc.Configure, request)

    def promote(
        self, model: str, version: str | int, *, force: bool = False, etag: str = "", request_id: str = "", reason: str = ""
    ) -> Updates:
        """Makes a version the default. Every worker prepares it first; then the switch is one step."""
        request = admin.PromoteRequest(
            model=model, version=str(version), force=force, etag=etag, request_id=request_id, **self._who(reason)
        )
        return self._operation(self._rpc.Promote, request)

    def rollback(self, model: str, *, etag: str = "", request_id: str = "", reason: str = "") -> Updates:
        """Restores the predecessor."""
        request = admin.RollbackRequest(model=model, etag=etag, request_id=request_id, **self._who(reason))
        return self._operation(self._rpc.Rollback, request)

    # ---- the workers

    def restart_workers(self, *, timeout_s: float = OPERATION_TIMEOUT_S, request_id: str = "", reason: str = "") -> Updates:
        """
        Replaces every worker process, one after the other, without a failed request. ``timeout_s`` bounds the watching; the
        restart goes on.
        """
        request = admin.RestartWorkersRequest(request_id=request_id, **self._who(reason))
        return self._operation(self._rpc.RestartWorkers, request, timeout_s)

    # ---- what is

    def deployments(self) -> list[admin.Deployment]:
        """Returns the current deployment of every model that has one."""
        request = admin.ListDeploymentsRequest(page_size=PAGE_SIZE)
        return list(self._pages(self._rpc.ListDeployments, request, "deployments"))

    def deployment(self, model: str) -> admin.Deployment:
        """Returns the current deployment of a model."""
        return self._read(self._rpc.GetDeployment, admin.GetDeploymentRequest(model=model), admin.Deployment)

    def revisions(self, model: str) -> Iterator[admin.Deployment]:
        """Yields the revisions of a deployment, newest first. Reads pages as they are needed."""
        return self._pages(self._rpc.ListRevisions, admin.ListRevisionsRequest(model=model, page_size=PAGE_SIZE), "revisions")

    def audit(self, model: str = "") -> Iterator[admin.AuditRecord]:
        """Yields changes with author and reason. Reads pages as they are needed."""
        return self._pages(
            self._rpc.ListAuditRecords, admin.ListAuditRecordsRequest(model=model, page_size=PAGE_SIZE), "records"
        )

    def operations(self) -> Iterator[admin.Operation]:
        """Yields long operations, running and finished."""
        return self._pages(self._rpc.ListOperations, admin.ListOperationsRequest(page_size=PAGE_SIZE), "operations")

    def operation(self, name: str) -> admin.Operation:
        """Returns one operation at this moment."""
        return self._read(self._rpc.GetOperation, admin.GetOperationRequest(name=name), admin.Operation)

    def watch(self, name: str) -> Updates:
        """Follows an operation after every step until it is done."""
        return self._operation(self._rpc.WatchOperation, admin.GetOperationRequest(name=name))

    def status(self, model: str = "") -> admin.Status:
        """Returns the workers, and the models and versions that are served, with their state and counts."""
        return self._read(self._rpc.GetStatus, admin.GetStatusRequest(model=model), admin.Status)

    def quality(self, model: str, window_s: float = 0.0) -> admin.Quality:
        """Returns live quality per version and arm for predictions of the last ``window_s`` seconds (0: all that are kept)."""
        return self._read(self._rpc.GetQuality, admin.GetQualityRequest(model=model, window_s=window_s), admin.Quality)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _who(self, reason: str) -> dict[str, Any]:
        return {"author": self._author, "reason": reason}

    def _read(self, rpc: Any, request: Any, kind: type[M]) -> M:
        response: M = self._channel.call(rpc, request, timeout_s=self._timeout_s)
        return response

    def _pages(self, rpc: Any, request: Any, field: str) -> Iterator[Any]:
        while True:
            response = self._channel.call(rpc, request, timeout_s=self._timeout_s)
            yield from getattr(response, field)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def _operation(self, rpc: Any, request: Any | Iterable[Any], timeout_s: float = OPERATION_TIMEOUT_S) -> Updates:
        return Updates(self._channel.stream(rpc, request, timeout_s=timeout_s))


def _raise_failed(operation: admin.Operation) -> None:
    """Raises the error of a failed operation, as the same refusal would be raised as a status."""
    if not operation.HasField("error"):
        return
    error = operation.error
    code = _CODES.get(error.code, "UNKNOWN")
    raise error_of(code)(error.message, code=code, reason=error.reason, metadata=error.metadata)
