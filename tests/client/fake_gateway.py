"""
A gateway in memory behind a real port: the admin, inference and feedback services with just enough behind them.

Models answer with their inputs (output ``<name>`` is input ``<name>``), `digits` with a label and probabilities.
`fail_next` queues errors that the next calls of an RPC end with; every request is kept in `requests`.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from gateway.api.status_codes import code_of, guarded, guarded_stream
from gateway.errors import GatewayError, InvalidRequest, ModelNotFound
from gateway.protocol import services as service
from gateway.protocol.pb import admin_pb2, feedback_pb2, inference_pb2
from registry.errors import RegistryError, RevisionConflict, RuleForbids, VersionUnknown

TENSORS = {
    "echo": [("x", "FP32", (-1, 4))],
    "labels": [("text", "BYTES", (-1,)), ("flag", "BOOL", (-1,))],
    "digits": [("image", "FP32", (-1, 64))],
}


def _digits(request, response):
    """A label and ten probabilities a row, as a classifier of digits gives them."""
    rows = request.inputs[0].shape[0]
    outputs = {
        "label": ("INT64", np.full(rows, 7, np.int64)),
        "probabilities": ("FP32", np.full((rows, 10), 0.1, np.float32)),
    }
    for name in [output.name for output in request.outputs] or outputs:
        datatype, array = outputs[name]
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        response.raw_output_contents.append(array.tobytes())
    return response


class FakeGateway:
    def __init__(self):
        self.requests = defaultdict(list)
        self.peers = defaultdict(list)
        self.scripts = defaultdict(list)
        self.versions = {name: [] for name in TENSORS}
        self.aliases = defaultdict(dict)
        self.uploads = {}
        self.examples = defaultdict(list)
        self.revisions = defaultdict(list)
        self.is_ready = True
        self.channels = set()
        self.falls = []  # the worker that each connection meets, in the order of their first ServerReady, and how many workers
        self._workers = {}
        self._ids = itertools.count(1)
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers(
            (
                service.handlers(service.ADMIN, self._behaviours(service.ADMIN)),
                service.handlers(service.INFERENCE, self._behaviours(service.INFERENCE), name=service.INFERENCE_NAME),
                service.handlers(service.FEEDBACK, self._behaviours(service.FEEDBACK)),
            )
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def answers_by_worker(self, last):
        """How many of the last predictions each worker answered."""
        return Counter(self._workers.get(peer) for peer in self.peers["ModelInfer"][-last:])

    def stop(self):
        self._server.stop(0).wait()

    def fail_next(self, rpc, *failures):
        """Each failure: an error of the tree, or (code, trailing metadata)."""
        self.scripts[rpc] += failures

    def add_versions(self, model, count):
        for _ in range(count):
            self._new_version(model)

    def _behaviours(self, descriptor):
        made = {}
        for rpc in descriptor.methods:
            behaviour = getattr(self, rpc.name, None)
            if behaviour is not None:
                made[rpc.name] = self._scripted(rpc.name, behaviour, rpc.server_streaming)
        return made

    def _scripted(self, name, behaviour, is_stream):
        def before(request, context):
            self.requests[name].append(request)
            self.channels.add(context.peer())
            self.peers[name].append(context.peer())
            if not self.scripts[name]:
                return
            failure = self.scripts[name].pop(0)
            if isinstance(failure, Exception):
                raise failure
            code, trailers = failure
            context.set_trailing_metadata(trailers)
            context.abort(code, "scripted")

        def unary(request, context):
            before(request, context)
            return behaviour(request, context)

        def stream(request, context):
            before(request, context)
            yield from behaviour(request, context)

        return guarded_stream(stream) if is_stream else guarded(unary)

    # ---- data port

    def ServerReady(self, request, context):
        if self.falls:
            workers, of = self.falls
            number = self._workers.setdefault(context.peer(), workers[len(self._workers) % len(workers)])
            context.set_trailing_metadata(((service.WORKER_KEY, f"{number}/{of}"),))
        return inference_pb2.ServerReadyResponse(ready=self.is_ready)

    def ModelReady(self, request, context):
        return inference_pb2.ModelReadyResponse(ready=self.is_ready and request.name in TENSORS)

    def ModelMetadata(self, request, context):
        if request.name not in TENSORS:
            raise ModelNotFound(f"no model {request.name!r} is served", model=request.name)
        tensors = [
            inference_pb2.ModelMetadataResponse.TensorMetadata(name=name, datatype=datatype, shape=shape)
            for name, datatype, shape in TENSORS[request.name]
        ]
        return inference_pb2.ModelMetadataResponse(
            name=request.name, versions=["1"], platform="onnxruntime_onnx", inputs=tensors, outputs=tensors
        )

    def ModelInfer(self, request, context):
        if request.model_name not in TENSORS:
            raise ModelNotFound(f"no model {request.model_name!r} is served", model=request.model_name)
        if request.parameters["unit_id"].string_param == "slow":
            ended = threading.Event()
            if context.add_callback(ended.set):
                ended.wait(30)
        response = inference_pb2.ModelInferResponse(
            model_name=request.model_name, model_version=request.model_version or "1", id=request.id
        )
        response.parameters["prediction_id"].string_param = f"p{next(self._ids)}"
        response.parameters["arm"].string_param = "pinned" if request.model_version else "default"
        if request.model_name == "digits":
            return _digits(request, response)
        wanted = {output.name for output in request.outputs}
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            if not wanted or tensor.name in wanted:
                response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
                response.raw_output_contents.append(raw)
        return response

    def ModelStreamInfer(self, requests, context):
        try:
            for request in requests:
                yield self._streamed(request, context)
        except grpc.RpcError:
            pass  # the client left

    def _streamed(self, request, context):
        self.requests["ModelInfer"].append(request)
        try:
            return inference_pb2.ModelStreamInferResponse(infer_response=self.ModelInfer(request, context))
        except GatewayError as error:
            failed = inference_pb2.ModelInferResponse(id=request.id)
            failed.parameters["error_code"].string_param = code_of(error).name
            return inference_pb2.ModelStreamInferResponse(error_message=str(error), infer_response=failed)

    # ---- feedback

    def SendFeedback(self, request, context):
        return feedback_pb2.SendFeedbackResponse(results=[self._verdict(item) for item in request.items])

    def StreamFeedback(self, requests, context):
        results = [self._verdict(item) for request in requests for item in request.items]
        return feedback_pb2.StreamFeedbackResponse(results=results)

    def _verdict(self, item):
        if item.WhichOneof("prediction") is None or item.WhichOneof("truth") is None:
            return feedback_pb2.FeedbackResult(verdict=feedback_pb2.FEEDBACK_VERDICT_INVALID, detail="no id or truth")
        if item.prediction_id.startswith("bad"):
            return feedback_pb2.FeedbackResult(verdict=feedback_pb2.FEEDBACK_VERDICT_INVALID, detail="no such kind of id")
        known = item.prediction_id.startswith("p") or item.inference_id
        verdict = feedback_pb2.FEEDBACK_VERDICT_JOINED if known else feedback_pb2.FEEDBACK_VERDICT_UNKNOWN
        return feedback_pb2.FeedbackResult(verdict=verdict)

    # ---- models and versions

    def Unfence(self, request, context):
        return admin_pb2.UnfenceResponse(versions=[int(request.version)] if request.version else [])

    def ListModels(self, request, context):
        names = sorted(name for name, versions in self.versions.items() if versions)
        start = int(request.page_token or 0)
        page = names[start : start + 1]  # one a page, so that paging is used
        token = str(start + 1) if start + 1 < len(names) else ""
        return admin_pb2.ListModelsResponse(models=[self._model(name) for name in page], next_page_token=token)

    def ListVersions(self, request, context):
        return admin_pb2.ListVersionsResponse(versions=self._known(request.model))

    def GetVersion(self, request, context):
        return self._version(request.model, request.version)

    def RegisterVersion(self, requests, context):
        header = next(requests).header
        files = defaultdict(bytes)
        sizes = []
        for part in requests:
            if part.WhichOneof("part") == "example":
                self.examples[header.model].append(part.example)
                continue
            files[part.chunk.path] += part.chunk.data
            sizes.append(len(part.chunk.data))
        self.uploads[header.model] = (header, dict(files), sizes)
        if header.model == "refused":
            yield self._operation("register", header.model, error=InvalidRequest("model: that one is refused", field="model"))
            return
        yield self._operation("register", header.model, done=False, steps=["received"])
        version = self._new_version(header.model)
        version.tags.update(header.tags)
        version.example_count = len(self.examples[header.model])
        if header.alias:
            self.aliases[header.model][header.alias] = version.version
            version.aliases.append(header.alias)
        yield self._operation("register", header.model, steps=["received", "registered"], version=version)

    def SetAlias(self, request, context):
        if request.etag and request.etag != "e1":
            raise RevisionConflict(f"etag: {request.etag!r} is no longer current", etag="e1")
        self.aliases[request.model][request.alias] = self._version(request.model, request.version).version
        return self._model(request.model)

    def DeleteAlias(self, request, context):
        self.aliases[request.model].pop(request.alias, None)
        return self._model(request.model)

    # ---- deployments

    def Deploy(self, request, context):
        version = self._version(request.model, request.version)
        if version.version == 3 and not request.force:
            yield self._operation(
                "deploy",
                request.model,
                error=RuleForbids("output 'y' is gone: callers would break (use force to override)", rule="signature"),
            )
            return
        yield from self._deployed("deploy", request, default_version=version.version)

    def Promote(self, request, context):
        yield from self._deployed("promote", request, default_version=self._version(request.model, request.version).version)

    def Undeploy(self, request, context):
        yield from self._deployed("undeploy", request, default_version=0)

    def Rollback(self, request, context):
        if len(self.revisions[request.model]) < 2:
            raise RuleForbids(f"{request.model} has no predecessor to roll back to", rule="predecessor")
        earlier = self.revisions[request.model][-2]
        yield from self._deployed("rollback", request, default_version=earlier.default_version)

    def SetSplit(self, request, context):
        shares = [
            admin_pb2.Share(version=self._version(request.model, weight.version).version, percent=weight.percent)
            for weight in request.weights
        ]
        yield from self._deployed("split", request, default_version=shares[0].version, shares=shares)

    def SetShadow(self, request, context):
        shadow = None
        if request.version:
            version = self._version(request.model, request.version).version
            shadow = admin_pb2.Shadow(version=version, percent=request.percent)
        yield from self._deployed("shadow", request, default_version=1, shadow=shadow)

    def Configure(self, request, context):
        batching = request.batching if request.HasField("batching") else None
        yield from self._deployed("configure", request, default_version=1, batching=batching)

    def GetDeployment(self, request, context):
        if not self.revisions[request.model]:
            raise ModelNotFound(f"{request.model} was never deployed", model=request.model)
        return self.revisions[request.model][-1]

    def ListRevisions(self, request, context):
        return admin_pb2.ListRevisionsResponse(revisions=reversed(self.revisions[request.model]))

    def ListAuditRecords(self, request, context):
        record = admin_pb2.AuditRecord(id=1, author="ada", verb="deploy", model=request.model or "echo", after="version 1")
        return admin_pb2.ListAuditRecordsResponse(records=[record])

    def ListOperations(self, request, context):
        return admin_pb2.ListOperationsResponse(operations=[self._operation("deploy", "echo", steps=["applied"])])

    def GetStatus(self, request, context):
        status = admin_pb2.Status(gateway_version="0.1.0", data_address=self.address, ready=True)
        status.start_time.GetCurrentTime()
        for worker in range(2):
            status.workers.add(worker=worker, pid=100 + worker, state="serving", lane="fast", rss_bytes=1 << 27)
        for model, revisions in self.revisions.items():
            if revisions:
                shown = status.models.add(model=model, deployment=revisions[-1])
                shown.versions.add(
                    version=1, roles=["default"], state="READY", workers_ready=2, percent=100, requests=12, p50_ms=1.5, p99_ms=3
                )
        return status

    def GetQuality(self, request, context):
        quality = admin_pb2.Quality(model=request.model, window_s=request.window_s, log_coverage=1)
        version = quality.versions.add(version=1, arm="default", kind="class", predictions=4, labelled=3, coverage=0.75)
        version.accuracy = 0.5
        version.confusion.add(truth="3", predicted="8", count=2)
        return quality

    # ---- inside

    def _new_version(self, model):
        known = self.versions.setdefault(model, [])
        known.append(admin_pb2.Version(model=model, version=len(known) + 1, digest="ab" * 32, size_bytes=2048))
        known[-1].create_time.GetCurrentTime()
        return known[-1]

    def _known(self, model):
        if not self.versions.get(model):
            raise ModelNotFound(f"no model {model!r} is registered", model=model)
        return self.versions[model]

    def _version(self, model, ref):
        known = self._known(model)
        number = self.aliases[model].get(ref) or (len(known) if ref == "latest" else ref)
        if not str(number).isdecimal() or not 0 < int(number) <= len(known):
            raise VersionUnknown(f"{model} has no version or alias {ref!r}", model=model, version=ref)
        return known[int(number) - 1]

    def _model(self, name):
        return admin_pb2.Model(name=name, latest_version=len(self._known(name)), aliases=self.aliases[name], etag="e1")

    def _deployed(self, verb, request, **fields):
        self._known(request.model)
        revision = len(self.revisions[request.model]) + 1
        deployment = admin_pb2.Deployment(
            model=request.model, revision=revision, etag=f"r{revision}", action=verb, author=request.author, **fields
        )
        if not deployment.HasField("batching"):
            deployment.batching.CopyFrom(admin_pb2.Batching(mode="auto", max_rows=64, queue_delay_us=0))
        yield self._operation(verb, request.model, done=False, steps=["preparing"])
        self.revisions[request.model].append(deployment)
        missing = ["worker 1 is restarting and will catch up"] if request.reason == "half" else []
        yield self._operation(verb, request.model, steps=["preparing", "applied"], deployment=deployment, missing=missing)

    def _operation(self, verb, model, *, done=True, steps=(), error=None, missing=(), **result):
        operation = admin_pb2.Operation(name=f"operations/{verb}", verb=verb, model=model, done=done, missing=missing, **result)
        for step in steps:
            operation.steps.add(name=step)
        if error is not None:
            assert isinstance(error, GatewayError | RegistryError)
            operation.error.code = code_of(error).value[0]
            operation.error.reason, operation.error.message = error.reason, str(error)
            operation.error.metadata.update(error.metadata)
        operation.create_time.GetCurrentTime()
        if done:
            operation.end_time.GetCurrentTime()
        return operation
