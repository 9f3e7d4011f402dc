"""The admin service over a real connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from control_fakes import FakeLog
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from keepalive import PINGS, pings_answered
from world import World, model_bytes

from gateway.api.admin_server import AdminServer
from gateway.control.catalog.registration import Submission
from gateway.control.catalog.uploads import Chunk
from gateway.control.changes.traffic import Change
from gateway.protocol.pb import admin_pb2 as pb
from gateway.protocol.pb import inference_pb2
from gateway.protocol.services import ADMIN, INFERENCE, INFERENCE_NAME, Stub
from gateway.settings.address import Address
from registry.deployment import Batching
from registry.examples import Example, ExampleTensor, from_file

Header = pb.RegisterVersionRequest.Header


@pytest.fixture
def channel(world: World) -> Iterator[grpc.Channel]:
    server = AdminServer(world.control, "127.0.0.1:0")
    with grpc.insecure_channel(server.start()) as channel:
        yield channel
    server.stop(1)


@pytest.fixture
def admin(channel: grpc.Channel) -> Stub:
    return Stub(channel, ADMIN)


def upload(header: Header, files: dict[str, bytes], piece: int = 100) -> Iterator[pb.RegisterVersionRequest]:
    yield pb.RegisterVersionRequest(header=header)
    for path, data in files.items():
        for start in range(0, max(1, len(data)), piece):
            chunk = pb.RegisterVersionRequest.Chunk(path=path, data=data[start : start + piece])
            yield pb.RegisterVersionRequest(chunk=chunk)


def register(admin: Stub, model: str = "digits", seed: int = 1, **header: object) -> pb.Version:
    *_, last = admin.RegisterVersion(upload(Header(model=model, **header), {"m.onnx": model_bytes(seed)}))
    return last.version


def refusal(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def reason(error: grpc.RpcError) -> str:
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(packed).details[0].Unpack(info)
    return info.reason


# ---- registering ------------------------------------------------------------------------------------------------------


def test_registration_is_told_step_by_step_and_ends_with_the_version(admin: Stub) -> None:
    header = Header(model="digits", tags={"by": "ann"}, alias="champion", author="ann")
    updates = list(admin.RegisterVersion(upload(header, {"m.onnx": model_bytes()})))
    last = updates[-1]
    assert [step.name for step in last.steps] == ["receiving", "checking", "trial run", "storing"]
    assert (last.done, last.version.version, dict(last.version.tags)) == (True, 1, {"by": "ann"})
    got = admin.GetVersion(pb.GetVersionRequest(model="digits", version="champion"))
    assert (got.version, list(got.aliases), got.prediction.kind, got.author) == (1, ["champion"], "scores", "ann")
    assert [(spec.name, list(spec.shape)) for spec in got.signature.inputs] == [("x", [-1, 4])]


def test_a_folder_arrives_whole(admin: Stub, world: World) -> None:
    files = {"deep/m.onnx": model_bytes(), "deep/notes.txt": b"", "labels.txt": b"a\nb\n"}
    *_, last = admin.RegisterVersion(upload(Header(model="digits", model_file="deep/m.onnx"), files))
    assert sorted(file.path for file in last.version.files) == sorted(files)
    assert not list(world.control.home.uploads.iterdir())


@pytest.mark.parametrize("path", ["/etc/passwd", "../m.onnx", "a/../../m.onnx", "a//b", "", ".", "a\\b", "a\0b"])
def test_a_path_that_leaves_the_upload_is_refused(admin: Stub, path: str) -> None:
    error = refusal(lambda: list(admin.RegisterVersion(upload(Header(model="digits"), {path: b"x"}))))
    assert (error.code(), reason(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert "expected a relative path inside the upload" in error.details()


def test_too_many_files_are_refused_with_the_way_out(admin: Stub) -> None:
    files = {"m.onnx": model_bytes()} | {f"w{number}": b"x" for number in range(1000)}
    error = refusal(lambda: list(admin.RegisterVersion(upload(Header(model="digits", model_file="m.onnx"), files))))
    for text in ("at most 1000 files", "cannot be set", "'w999' is number 1001", "save the weights into one file"):
        assert text in error.details()


@pytest.mark.parametrize("config", [{"upload_bytes": 50}])
def test_an_upload_that_is_too_large_is_refused(admin: Stub) -> None:
    error = refusal(lambda: register(admin))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "chunk.data: a version may have at most 50 bytes",
    )


@pytest.mark.parametrize("data", [model_bytes()[:-20], b"this is no model"])
def test_what_is_no_model_is_refused(admin: Stub, data: bytes, world: World) -> None:
    error = refusal(lambda: list(admin.RegisterVersion(upload(Header(model="digits"), {"m.onnx": data}))))
    assert (error.code(), reason(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_MODEL")
    assert world.registry.models() == ((), "")


def test_a_wrong_name_is_refused_before_the_files_are_here(admin: Stub) -> None:
    error = refusal(lambda: register(admin, model="../x"))
    assert "model: expected" in error.details()


def test_a_stream_without_header_is_refused(admin: Stub) -> None:
    chunk = pb.RegisterVersionRequest.Chunk(path="m.onnx", data=b"x")
    error = refusal(lambda: list(admin.RegisterVersion(iter([pb.RegisterVersionRequest(chunk=chunk)]))))
    assert "header" in error.details()


def test_a_client_that_goes_away_while_sending_registers_nothing(
    admin: Stub, world: World, wait_for: Callable[..., object]
) -> None:
    data = model_bytes()

    def cut() -> Iterator[pb.RegisterVersionRequest]:
        yield from upload(Header(model="digits", size_bytes=len(data) + 1), {"m.onnx": data})
        wait_for(lambda: [one.steps for one in world.control.operations.newest_first()])
        call.cancel()

    call = admin.RegisterVersion(cut())
    with pytest.raises(grpc.RpcError):
        list(call)
    wait_for(lambda: [one.is_done for one in world.control.operations.newest_first()] == [True])
    assert world.registry.models() == ((), "")
    assert not list(world.control.home.uploads.iterdir())


@pytest.mark.parametrize("off", [-1, 1])
def test_an_upload_of_another_size_than_announced_is_not_stored(admin: Stub, world: World, off: int) -> None:
    data = model_bytes()
    header = Header(model="digits", size_bytes=len(data) + off)
    error = refusal(lambda: list(admin.RegisterVersion(upload(header, {"m.onnx": data}))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"{len(data)} bytes came, {len(data) + off} were announced" in error.details()
    assert world.registry.models() == ((), "")


def test_an_upload_announced_as_too_large_is_refused_before_it_is_sent(admin: Stub, world: World) -> None:
    size_bytes = world.control.limits.upload_bytes + 1

    def endless() -> Iterator[pb.RegisterVersionRequest]:
        yield pb.RegisterVersionRequest(header=Header(model="digits", size_bytes=size_bytes))
        while True:
            yield pb.RegisterVersionRequest(chunk=pb.RegisterVersionRequest.Chunk(path="m.onnx", data=b"x"))

    error = refusal(lambda: list(admin.RegisterVersion(endless())))
    assert (error.code(), "size_bytes" in error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_a_client_that_goes_away_after_a_whole_upload_has_its_version(world: World) -> None:
    data = model_bytes()
    parts = iter([Chunk("m.onnx", data)])
    operation = world.control.registering.register(
        Submission("digits"), parts, size_bytes=len(data), is_connected=lambda: False
    )
    assert world.done(operation).result.version.number == 1


def test_an_upload_of_no_announced_size_that_only_looks_whole_is_not_stored(world: World) -> None:
    chunks = iter([Chunk("m.onnx", model_bytes())])
    operation = world.control.registering.register(Submission("digits"), chunks, is_connected=lambda: False)
    assert "the client disconnected" in str(world.control.operations.wait(operation.name).error)
    assert world.registry.models() == ((), "")


def test_a_repeated_registration_gives_the_first_version(admin: Stub) -> None:
    assert register(admin, request_id="r1") == register(admin, request_id="r1")
    assert len(admin.ListVersions(pb.ListVersionsRequest(model="digits")).versions) == 1


def test_a_registration_repeated_after_a_restart_gives_the_first_version(
    admin: Stub, world: World, make_world: Callable[..., World]
) -> None:
    first = register(admin, request_id="r1", alias="champion")
    register(admin, seed=2, alias="champion")
    world.control.stop()
    other = make_world()
    other.worker()
    other.done(other.control.traffic.deploy("digits", "champion"))
    submission = Submission("digits", alias="champion", change=Change(request_id="r1"))
    again = other.done(other.control.registering.register(submission, iter([Chunk("m.onnx", model_bytes(1))])))
    assert again.result.version.number == first.version == 1
    assert other.registry.model("digits").aliases == {"champion": 2}


def test_the_alias_of_a_deployed_model_moves_when_the_version_is_ready(admin: Stub, world: World) -> None:
    world.deployed(1)
    version = register(admin, seed=9, alias="champion")
    assert world.registry.model("digits").aliases == {"champion": version.version}
    assert ("digits", version.version) in world.workers[0].loaded


def test_the_alias_of_a_model_not_deployed_yet_is_in_its_first_route(admin: Stub, world: World) -> None:
    worker = world.worker()
    register(admin, alias="champion")
    world.done(world.control.traffic.deploy("digits", "champion"))
    assert worker.states[-1].models[0].route.aliases == {"champion": 1}


def test_a_registered_version_whose_alias_could_not_be_moved_says_both(admin: Stub, world: World) -> None:
    world.deployed(1)
    world.workers[0].failing[3] = "broken"
    error = refusal(lambda: register(admin, seed=9, alias="champion"))
    assert "digits v3 is registered, but the alias champion was not moved to it" in error.details()


@pytest.mark.parametrize(("said", "expected"), [({"kind": "scores"}, "scores"), ({"classes": ["a", "b", "c"]}, "scores")])
def test_what_is_not_said_of_the_prediction_is_found_out(admin: Stub, said: dict[str, object], expected: str) -> None:
    version = register(admin, prediction=pb.Prediction(**said))
    assert (version.prediction.output, version.prediction.kind) == ("scores", expected)


def test_a_prediction_that_does_not_exist_is_refused(admin: Stub) -> None:
    error = refusal(lambda: register(admin, prediction=pb.Prediction(output="nope")))
    assert error.details() == "prediction.output: the model has no output 'nope', it has scores"


# ---- changes ----------------------------------------------------------------------------------------------------------


def test_a_change_is_streamed_to_its_end(admin: Stub, world: World) -> None:
    world.worker()
    register(admin)
    updates = list(admin.Deploy(pb.DeployRequest(model="digits", version="latest", author="ann", reason="first")))
    assert [update.done for update in updates] == [False] * (len(updates) - 1) + [True]
    last = updates[-1]
    assert [step.name for step in last.steps] == ["preparing", "committed", "acknowledged"]
    assert (last.deployment.default_version, last.deployment.author) == (1, "ann")
    assert [(share.version, share.percent) for share in last.deployment.shares] == [(1, 100.0)]


def test_every_kind_of_change_arrives(admin: Stub, world: World) -> None:
    world.deployed(1)
    weights = [pb.SetSplitRequest.Weight(version=v, percent=p) for v, p in (("1", 70), ("2", 30))]
    changes = [
        lambda: admin.SetSplit(pb.SetSplitRequest(model="digits", weights=weights)),
        lambda: admin.SetShadow(pb.SetShadowRequest(model="digits", version="2", percent=20)),
        lambda: admin.Configure(pb.ConfigureRequest(model="digits", batching=pb.Batching(max_rows=8), rollback_window_s=5)),
        lambda: admin.Promote(pb.PromoteRequest(model="digits", version="2")),
        lambda: admin.Rollback(pb.RollbackRequest(model="digits")),
        lambda: admin.SetShadow(pb.SetShadowRequest(model="digits")),
        lambda: admin.Undeploy(pb.UndeployRequest(model="digits")),
    ]
    made = [list(change())[-1].deployment for change in changes]
    assert [one.action for one in made][:4] == ["split", "shadow", "configure", "promote"]
    assert [(s.version, s.percent) for s in made[4].shares] == [(1, 70.0), (2, 30.0)]
    assert (made[2].batching.max_rows, made[2].rollback_window_s, made[1].shadow.percent) == (8, 5.0, 20.0)
    assert (made[5].HasField("shadow"), made[6].default_version) == (False, 0)


@pytest.mark.parametrize("is_before", [True, False])
def test_examples_are_registered_before_or_after_the_files(admin: Stub, world: World, is_before: bool) -> None:
    (worker,) = [world.worker()]
    contents = bytes(16)
    tensor = pb.ExampleTensor(name="x", datatype="FP32", shape=[1, 4], contents=contents)
    example = pb.RegisterVersionRequest(example=pb.Example(inputs=[tensor], name="a.json"))
    header, *files = upload(Header(model="digits"), {"m.onnx": model_bytes()})
    parts = [header, example, *files] if is_before else [header, *files, example]
    made = list(admin.RegisterVersion(iter(parts)))[-1].version
    assert (made.example_count, admin.GetVersion(pb.GetVersionRequest(model="digits", version="1")).example_count) == (1, 1)
    list(admin.Deploy(pb.DeployRequest(model="digits", version="1")))
    desired = worker.states[-1].models[0].versions[0]
    assert from_file(Path(desired.examples).read_bytes()) == (
        Example((ExampleTensor("x", "FP32", (1, 4), contents),), "a.json"),
    )


def test_an_example_that_does_not_fit_is_refused_and_nothing_is_registered(admin: Stub) -> None:
    example = pb.RegisterVersionRequest(example=pb.Example(inputs=[pb.ExampleTensor(name="z", datatype="FP32")]))
    header, *files = upload(Header(model="digits"), {"m.onnx": model_bytes()})
    error = refusal(lambda: list(admin.RegisterVersion(iter([header, example, *files]))))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "examples[0]: input 'z': unknown, the model takes x",
    )
    assert not admin.ListModels(pb.ListModelsRequest()).models


def test_more_examples_than_a_version_may_have_are_refused_while_they_come(admin: Stub) -> None:
    header, *files = upload(Header(model="digits"), {"m.onnx": model_bytes()})
    examples = [pb.RegisterVersionRequest(example=pb.Example())] * 17
    error = refusal(lambda: list(admin.RegisterVersion(iter([header, *examples, *files]))))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "examples: expected at most 16, got more",
    )


def test_every_setting_arrives_and_is_told(admin: Stub, world: World) -> None:
    (worker,) = world.deployed(1)
    batching = pb.Batching(mode="on", max_rows=32, queue_delay_us=7, max_waiting=9, queue_target_us=0, adaptive_limit=True)
    batching.preferred_rows.rows.extend((8, 16))
    request = pb.ConfigureRequest(model="digits", batching=batching, rollback_window_s=5, swap_order="memory")
    made = list(admin.Configure(request))[-1].deployment
    assert (made.batching, made.swap_order) == (batching, "memory")
    assert worker.states[-1].models[0].versions[0].batching == Batching("on", 32, 7, (8, 16), 9, 0, True)


def test_a_client_that_does_not_know_a_setting_leaves_it_as_it_is(admin: Stub, world: World) -> None:
    world.deployed(1)
    batching = pb.Batching(preferred_rows=pb.PreferredRows(rows=(2,)), max_waiting=9, queue_target_us=3, adaptive_limit=True)
    list(admin.Configure(pb.ConfigureRequest(model="digits", batching=batching, swap_order="memory")))
    made = list(admin.Configure(pb.ConfigureRequest(model="digits", batching=pb.Batching(max_rows=4))))[-1].deployment
    assert made.batching == pb.Batching(
        mode="auto",
        max_rows=4,
        preferred_rows=pb.PreferredRows(rows=(2,)),
        max_waiting=9,
        queue_target_us=3,
        adaptive_limit=True,
    )
    assert made.swap_order == "memory"


def test_no_preferred_sizes_is_a_setting_too(admin: Stub, world: World) -> None:
    world.deployed(1)
    for rows in ((2, 4), ()):
        batching = pb.Batching(preferred_rows=pb.PreferredRows(rows=rows))
        made = list(admin.Configure(pb.ConfigureRequest(model="digits", batching=batching)))[-1].deployment
        assert tuple(made.batching.preferred_rows.rows) == rows


def test_a_setting_out_of_range_is_named_to_the_client(admin: Stub, world: World) -> None:
    world.deployed(1)
    request = pb.ConfigureRequest(model="digits", batching=pb.Batching(max_waiting=0))
    error = refusal(lambda: list(admin.Configure(request)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "batching.max_waiting: expected 1 to 1000000, got 0"


def test_a_failed_change_is_told_in_the_last_message_and_as_the_status(admin: Stub, world: World) -> None:
    world.deployed(1)
    world.workers[0].failing[2] = "no memory"
    updates: list[pb.Operation] = []
    error = refusal(lambda: updates.extend(admin.Promote(pb.PromoteRequest(model="digits", version="2"))))
    assert (error.code(), reason(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "FORBIDDEN_NOW")
    assert updates[-1].done
    assert (updates[-1].error.code, updates[-1].error.message) == (9, error.details())
    assert "no memory" in error.details()


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda admin: list(admin.Promote(pb.PromoteRequest(model="nope", version="1"))), grpc.StatusCode.NOT_FOUND),
        (lambda admin: list(admin.Promote(pb.PromoteRequest(model="digits", version="9"))), grpc.StatusCode.NOT_FOUND),
        (lambda admin: list(admin.Promote(pb.PromoteRequest(model="digits"))), grpc.StatusCode.INVALID_ARGUMENT),
        (
            lambda admin: admin.SetAlias(pb.SetAliasRequest(model="digits", alias="x")),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            lambda admin: list(admin.Promote(pb.PromoteRequest(model="digits", version="2", etag='"7"'))),
            grpc.StatusCode.ABORTED,
        ),
        (lambda admin: admin.GetDeployment(pb.GetDeploymentRequest(model="nope")), grpc.StatusCode.NOT_FOUND),
        (lambda admin: admin.GetOperation(pb.GetOperationRequest(name="operations/9")), grpc.StatusCode.NOT_FOUND),
        (lambda admin: list(admin.WatchOperation(pb.GetOperationRequest(name="x"))), grpc.StatusCode.NOT_FOUND),
        (lambda admin: admin.GetStatus(pb.GetStatusRequest(model="nope")), grpc.StatusCode.NOT_FOUND),
        (lambda admin: admin.ListModels(pb.ListModelsRequest(page_token="x")), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda admin: admin.ListOperations(pb.ListOperationsRequest(page_size=-1)), grpc.StatusCode.INVALID_ARGUMENT),
        (
            lambda admin: admin.GetQuality(pb.GetQualityRequest(model="digits", window_s=-1)),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            lambda admin: admin.SetAlias(pb.SetAliasRequest(model="digits", alias="7", version="1")),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
)
def test_errors_have_their_codes(admin: Stub, world: World, call: Callable[[Stub], object], code: grpc.StatusCode) -> None:
    world.deployed(1)
    assert refusal(lambda: call(admin)).code() is code


def test_a_client_that_goes_away_does_not_stop_a_change(admin: Stub, world: World, wait_for: Callable[..., object]) -> None:
    (worker,) = world.deployed(1)
    worker.gate.clear()
    call = admin.Promote(pb.PromoteRequest(model="digits", version="2"))
    next(call)
    call.cancel()
    worker.gate.set()
    wait_for(lambda: worker.route_default == {"digits": 2})


def test_aliases_are_set_and_deleted(admin: Stub, world: World) -> None:
    world.deployed(1)
    model = admin.SetAlias(pb.SetAliasRequest(model="digits", alias="champion", version="2"))
    assert dict(model.aliases) == {"champion": 2}
    deleted = admin.DeleteAlias(pb.DeleteAliasRequest(model="digits", alias="champion", etag=model.etag))
    assert dict(deleted.aliases) == {}


# ---- lists and operations ---------------------------------------------------------------------------------------------


def pages(rpc: Callable[[object], object], request: object, field: str) -> list[list[object]]:
    found = []
    while True:
        response = rpc(request)
        found.append(list(getattr(response, field)))
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token


def test_every_list_comes_in_pages(admin: Stub, world: World) -> None:
    world.worker()
    for model in ("a", "b", "c"):
        world.register(model)
        world.done(world.control.traffic.deploy(model, "1"))
    world.register("a"), world.register("a")
    world.done(world.control.traffic.promote("a", "2"))
    world.done(world.control.traffic.promote("a", "3"))
    lists = {
        "models": pages(admin.ListModels, pb.ListModelsRequest(page_size=2), "models"),
        "versions": pages(admin.ListVersions, pb.ListVersionsRequest(model="a", page_size=2), "versions"),
        "deployments": pages(admin.ListDeployments, pb.ListDeploymentsRequest(page_size=2), "deployments"),
        "revisions": pages(admin.ListRevisions, pb.ListRevisionsRequest(model="a", page_size=2), "revisions"),
        "records": pages(admin.ListAuditRecords, pb.ListAuditRecordsRequest(model="a", page_size=4), "records"),
        "operations": pages(admin.ListOperations, pb.ListOperationsRequest(page_size=3), "operations"),
    }
    assert {name: [len(one) for one in found] for name, found in lists.items()} == {
        "models": [2, 1],
        "versions": [2, 1],
        "deployments": [2, 1],
        "revisions": [2, 1],
        "records": [4, 2],
        "operations": [3, 2],
    }
    assert [one.revision for page in lists["revisions"] for one in page] == [3, 2, 1]
    assert [one.model for page in lists["operations"] for one in page] == ["a", "a", "c", "b", "a"]


def test_a_finished_operation_can_be_read_and_watched(admin: Stub, world: World) -> None:
    world.deployed(1)
    *_, last = admin.Promote(pb.PromoteRequest(model="digits", version="2"))
    assert admin.GetOperation(pb.GetOperationRequest(name=last.name)) == last
    assert list(admin.WatchOperation(pb.GetOperationRequest(name=last.name))) == [last]


def test_a_failed_operation_is_watched_without_failing_the_watch(admin: Stub, world: World) -> None:
    world.deployed(1)
    operation = world.control.traffic.promote("digits", "9")
    assert [one.error.code for one in admin.WatchOperation(pb.GetOperationRequest(name=operation.name))][-1] == 5


# ---- what is going on -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{"workers": 2, "version": "1.2.3", "data_address": Address("127.0.0.1", 1)}])
def test_status_tells_workers_versions_and_roles(admin: Stub, world: World) -> None:
    world.deployed(1)
    world.done(world.control.traffic.promote("digits", "2"))
    status = admin.GetStatus(pb.GetStatusRequest())
    assert [(worker.worker, worker.state) for worker in status.workers] == [(0, "serving"), (1, "away")]
    assert (status.gateway_version, status.data_address, status.ready) == ("1.2.3", "127.0.0.1:1", True)
    versions = status.models[0].versions
    assert [(v.version, list(v.roles), v.state, v.workers_ready, v.percent) for v in versions] == [
        (1, ["warm"], "READY", 1, 0.0),
        (2, ["default"], "READY", 1, 100.0),
    ]


@pytest.mark.parametrize("config", [{"log": FakeLog(share=0.5, waiting=3)}])
def test_quality_tells_how_complete_it_is(admin: Stub, world: World) -> None:
    world.deployed(1)
    quality = admin.GetQuality(pb.GetQualityRequest(model="digits", window_s=60))
    assert (quality.model, quality.pending, quality.log_coverage) == ("digits", 3, 0.5)


def test_the_port_tells_its_health_and_its_services(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    answers = [stub.Check(health_pb2.HealthCheckRequest(service=name)).status for name in ("", ADMIN.full_name)]
    assert answers == [health_pb2.HealthCheckResponse.SERVING] * 2
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (listed,) = reflection.ServerReflectionInfo(iter([request]))
    assert ADMIN.full_name in {service.name for service in listed.list_services_response.service}


def test_the_model_control_calls_are_answered_on_the_admin_port(channel: grpc.Channel, world: World) -> None:
    world.worker()
    world.register()
    stub = Stub(channel, INFERENCE, name=INFERENCE_NAME)
    stub.RepositoryModelLoad(inference_pb2.RepositoryModelLoadRequest(model_name="digits"))
    index = stub.RepositoryIndex(inference_pb2.RepositoryIndexRequest())
    assert [(one.name, one.version, one.state) for one in index.models] == [("digits", "1", "READY")]


def test_a_client_that_keeps_its_connection_alive_by_pings_is_not_sent_away(world: World) -> None:
    server = AdminServer(world.control, "127.0.0.1:0")
    assert pings_answered(server.start()) == PINGS
    server.stop(1)


def test_health_of_an_unknown_service_is_not_found_in_words(channel: grpc.Channel) -> None:
    error = refusal(lambda: health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="nobody")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "service 'nobody': not found" in error.details()


@pytest.mark.parametrize("letter", ["x", "я"])
def test_a_long_name_is_refused_by_its_own_code(admin: Stub, channel: grpc.Channel, letter: str) -> None:
    long = letter * 20_000
    oip = Stub(channel, INFERENCE, name=INFERENCE_NAME)
    for call in (
        lambda: admin.GetVersion(pb.GetVersionRequest(model=long, version="1")),
        lambda: oip.RepositoryModelLoad(inference_pb2.RepositoryModelLoadRequest(model_name=long)),
        lambda: list(admin.RegisterVersion(upload(Header(model=long), {"m.onnx": b""}))),
    ):
        error = refusal(call)
        assert error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT), error.details()
        assert "characters left out" in error.details()
