"""Shared memory as Triton's own client uses it, over real processes: both workers, killed ones, and objects that change."""

from __future__ import annotations

import os
import queue
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from running import Running, is_running, kill
from tiny import scaler, slow
from tritonclient.utils import InferenceServerException

from gateway.client import AdminClient

ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)
BYTES = ROWS.nbytes
OPTIONS = ("--shared-memory",)
CONNECTIONS = 12  # enough to reach both workers but once in two thousand times; the tests then still hold


@pytest.fixture(scope="module", autouse=True)
def models(gateway: Running, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("models")
    with AdminClient(gateway.admin) as admin:
        for name, path in (("doubler", scaler(folder / "d.onnx", 2.0)), ("slow", slow(folder / "s.onnx"))):
            admin.register(name, path).result()
            admin.deploy(name, 1).result()


def connect(gateway: Running) -> triton.InferenceServerClient:
    """A client with a connection of its own: connections are what is spread over workers."""
    return triton.InferenceServerClient(gateway.data, channel_args=[("grpc.use_local_subchannel_pool", 1)])


@pytest.fixture
def client(gateway: Running) -> Iterator[triton.InferenceServerClient]:
    made = connect(gateway)
    yield made
    made.unregister_system_shared_memory()
    made.close()


@pytest.fixture
def clients(gateway: Running) -> Iterator[list[triton.InferenceServerClient]]:
    made = [connect(gateway) for _ in range(CONNECTIONS)]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def region(client: triton.InferenceServerClient) -> Iterator[tuple[str, object]]:
    """A registered region for ROWS and their doubles after them: its name, and its handle in this process."""
    name = f"region-{uuid.uuid4().hex[:8]}"
    handle = shm.create_shared_memory_region(name, f"/interlock-{name}", 2 * BYTES)
    shm.set_shared_memory_region(handle, [ROWS])
    client.register_system_shared_memory(name, f"/interlock-{name}", 2 * BYTES)
    yield name, handle
    with suppress(FileNotFoundError):
        shm.destroy_shared_memory_region(handle)


def ask(name: str, offset: int = 0) -> list[triton.InferInput]:
    tensor = triton.InferInput("x", [4, 2], "FP32")
    tensor.set_shared_memory(name, BYTES, offset)
    return [tensor]


def want(name: str, size: int = BYTES, offset: int = BYTES) -> list[triton.InferRequestedOutput]:
    tensor = triton.InferRequestedOutput("y")
    tensor.set_shared_memory(name, size, offset)
    return [tensor]


def path_of(name: str) -> Path:
    return Path("/dev/shm") / f"interlock-{name}"


def pids(gateway: Running) -> list[int]:
    return [worker["pid"] for worker in gateway.note()["workers"]]


def open_objects(gateway: Running) -> list[str]:
    """What the gateway's processes have open of this module's objects."""
    found = []
    for pid in (gateway.note()["control_pid"], *pids(gateway)):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.append(os.readlink(entry))
    return [link for link in found if link.startswith("/dev/shm/interlock-")]


def test_tensors_go_through_shared_memory_in_every_worker(
    clients: list[triton.InferenceServerClient], region: tuple[str, object]
) -> None:
    name, handle = region
    for client in clients:
        shm.set_shared_memory_region(handle, [ROWS, np.zeros_like(ROWS)])
        answer = client.infer("doubler", ask(name), outputs=want(name))
        output = answer.get_output("y")
        assert (output.datatype, list(output.shape)) == ("FP32", [4, 2])
        assert shm.get_contents_as_numpy(handle, np.float32, [4, 2], BYTES).tolist() == (ROWS * 2).tolist()
        assert client.infer("doubler", ask(name)).as_numpy("y").tolist() == (ROWS * 2).tolist()


def test_it_works_on_a_stream(client: triton.InferenceServerClient, region: tuple[str, object]) -> None:
    name, handle = region
    answers: queue.Queue[tuple[triton.InferResult | None, InferenceServerException | None]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("doubler", ask(name), outputs=want(name))
    client.async_stream_infer("doubler", ask("nobody"))
    told = [answers.get(timeout=10) for _ in range(2)]
    client.stop_stream()
    (result,) = [result for result, error in told if error is None]
    assert result is not None
    assert result.get_output("y").parameters["shared_memory_region"].string_param == name
    assert shm.get_contents_as_numpy(handle, np.float32, [4, 2], BYTES).tolist() == (ROWS * 2).tolist()
    (error,) = [error for result, error in told if error is not None]
    assert "'nobody': not registered" in str(error)


def test_the_extension_is_announced_and_its_status_read(
    client: triton.InferenceServerClient, region: tuple[str, object]
) -> None:
    assert "system_shared_memory" in client.get_server_metadata().extensions
    status = client.get_system_shared_memory_status().regions[region[0]]
    assert (status.name, status.key, status.offset, status.byte_size) == (region[0], f"/interlock-{region[0]}", 0, 2 * BYTES)
    client.unregister_system_shared_memory(region[0])
    assert client.get_system_shared_memory_status(as_json=True) == {}
    with pytest.raises(InferenceServerException) as caught:
        client.infer("doubler", ask(region[0]))
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_an_output_that_does_not_fit_names_what_it_needs(
    client: triton.InferenceServerClient, region: tuple[str, object]
) -> None:
    with pytest.raises(InferenceServerException, match="output 'y': needs 32 bytes, 31 are given") as caught:
        client.infer("doubler", ask(region[0]), outputs=want(region[0], BYTES - 1))
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException, match="outside region"):
        client.infer("doubler", ask(region[0], offset=BYTES + 1))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_object_of_another_user_is_not_registered(client: triton.InferenceServerClient, region: tuple[str, object]) -> None:
    os.chown(path_of(region[0]), 65534, 65534)
    with pytest.raises(InferenceServerException, match="another user") as caught:
        client.register_system_shared_memory("other", f"/interlock-{region[0]}", 8)
    assert caught.value.status() == "StatusCode.PERMISSION_DENIED"


def test_a_killed_worker_and_a_killed_control_still_know_it(
    gateway: Running, clients: list[triton.InferenceServerClient], region: tuple[str, object], wait_for: Callable[..., object]
) -> None:
    before = pids(gateway)
    for pid in (gateway.note()["control_pid"], *before):
        kill(pid)
    wait_for(lambda: not set(pids(gateway)) & {*before, None}, 30)

    def answers(client: triton.InferenceServerClient) -> bool:
        try:
            return client.infer("doubler", ask(region[0])).as_numpy("y").tolist() == (ROWS * 2).tolist()
        except InferenceServerException as error:
            if error.status() != "StatusCode.UNAVAILABLE":
                raise
            return False

    for client in clients:
        wait_for(lambda client=client: answers(client), 30)

    def is_known() -> bool:
        try:
            return region[0] in clients[0].get_system_shared_memory_status().regions
        except InferenceServerException:
            return False  # control is not back yet

    wait_for(is_known, 30)
    for client in clients:
        assert answers(client)


def test_an_object_that_shrinks_under_load_costs_its_own_requests_alone(
    gateway: Running, client: triton.InferenceServerClient, clients: list[triton.InferenceServerClient]
) -> None:
    """The object is cut and made whole again all the while: requests succeed or are refused, and no worker dies."""
    before, path, size = pids(gateway), path_of(f"shrinks-{uuid.uuid4().hex[:8]}"), 1 << 20
    path.write_bytes(bytes(2 * size))
    client.register_system_shared_memory("shrinks", f"/{path.name}", 2 * size)
    tensor = triton.InferInput("x", [size // 8, 2], "FP32")
    tensor.set_shared_memory("shrinks", size)
    seen: Counter[str] = Counter()
    is_over = threading.Event()

    def call(caller: triton.InferenceServerClient) -> None:
        while not is_over.is_set():
            try:
                caller.infer("doubler", [tensor], outputs=want("shrinks", size, size))
                seen["OK"] += 1
            except InferenceServerException as error:
                seen[str(error.status())] += 1

    try:
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(call, caller) for caller in clients[:4]]
            while min(seen["OK"], seen["StatusCode.INVALID_ARGUMENT"]) < 50 and not any(one.done() for one in running):
                for length in (0, size // 2, size, 3 * size // 2, 2 * size, 2 * size, 2 * size):
                    os.truncate(path, length)
            is_over.set()
            for one in running:
                one.result()
        assert set(seen) == {"OK", "StatusCode.INVALID_ARGUMENT"}
        os.truncate(path, 0)
        for caller in clients:
            with pytest.raises(InferenceServerException, match="input 'x': 0 bytes are left"):
                caller.infer("doubler", [tensor])
        assert path.stat().st_size == 0
    finally:
        is_over.set()
        path.unlink()
    assert pids(gateway) == before
    assert [pid for pid in before if not is_running(pid)] == []


def test_a_region_unregistered_while_in_use_serves_the_request_under_way(
    gateway: Running, client: triton.InferenceServerClient, region: tuple[str, object], wait_for: Callable[..., object]
) -> None:
    name, handle = region
    rounds = np.full((4, 2), 3000, np.float32)  # some tenths of a second
    shm.set_shared_memory_region(handle, [rounds, np.zeros_like(rounds)])
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(client.infer, "slow", ask(name), outputs=want(name))
        asking = connect(gateway)
        wait_for(lambda: asking.get_inference_statistics("slow").model_stats)
        asking.unregister_system_shared_memory(name)
        asking.close()
        with suppress(InferenceServerException):  # it may have come after the unregistration
            under_way.result()
    wait_for(lambda: open_objects(gateway) == [])
    assert path_of(name).exists()  # it is the caller's


def test_a_hundred_registrations_leak_nothing(
    gateway: Running, client: triton.InferenceServerClient, wait_for: Callable[..., object]
) -> None:
    key = f"/interlock-{uuid.uuid4().hex[:8]}"
    handle = shm.create_shared_memory_region("cycle", key, 2 * BYTES)
    try:
        shm.set_shared_memory_region(handle, [ROWS])
        for _ in range(100):
            client.register_system_shared_memory("cycle", key, 2 * BYTES)
            client.infer("doubler", ask("cycle"), outputs=want("cycle"))
            client.unregister_system_shared_memory("cycle")
    finally:
        shm.destroy_shared_memory_region(handle)
    wait_for(lambda: open_objects(gateway) == [])
