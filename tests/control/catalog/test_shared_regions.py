"""Shared memory regions: checked by control, part of the desired state, in force when the caller is answered."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from control_fakes import told
from world import World

from gateway.contract.desired import Region
from gateway.contract.questions import Answer, AnyQuestion, RegionsQuestion, RegisterRegionQuestion, UnregisterRegionQuestion
from gateway.control.control import Control

ON = {"shared_memory": True}


class Caller:
    """What a client of the data port says, passed on by a worker."""

    def __init__(self, world: World) -> None:
        self.worker = world.worker()
        self._token = 0

    def ask(self, question: AnyQuestion) -> Answer:
        self._token += 1
        return self.worker.ask(question, token=self._token)

    def register(self, name: str, key: str, size: int, offset: int = 0) -> Answer:
        return self.ask(RegisterRegionQuestion(Region(name, key, offset, size, identity="")))

    def unregister(self, name: str = "") -> Answer:
        return self.ask(UnregisterRegionQuestion(name))

    def status(self, name: str = "") -> Answer:
        return self.ask(RegionsQuestion(name))

    def names(self) -> list[str]:
        return sorted(region.name for region in self.status().value.regions)


@pytest.fixture
def config() -> dict[str, object]:
    return dict(ON)


@pytest.fixture
def caller(world: World) -> Caller:
    return Caller(world)


def test_a_registration_has_reached_every_worker_when_it_is_answered(
    world: World, caller: Caller, make_object: Callable[..., str]
) -> None:
    other = world.worker(1)
    assert told(caller.register("r", make_object(bytes(100)), 60, offset=40))[0] == "OK"
    for worker in (caller.worker, other):
        (region,) = worker.states[-1].regions
        assert (region.name, region.offset, region.byte_size) == ("r", 40, 60)
    assert told(caller.unregister("r"))[0] == "OK"
    assert [worker.states[-1].regions for worker in (caller.worker, other)] == [(), ()]


def test_a_worker_that_comes_later_gets_them(world: World, caller: Caller, make_object: Callable[..., str]) -> None:
    caller.register("r", make_object(bytes(8)), 8)
    assert [region.name for region in world.worker(1).states[-1].regions] == ["r"]


def test_a_worker_that_does_not_apply_a_registration_is_reported(
    make_world: Callable[..., World], make_object: Callable[..., str]
) -> None:
    world = make_world(acknowledge_timeout_s=0.2, **ON)
    caller = Caller(world)
    world.worker(1).is_silent = True
    answer = caller.register("r", make_object(bytes(8)), 8)
    assert (told(answer)[0], "not every worker has applied it" in told(answer)[2]) == ("UNAVAILABLE", True)


def test_the_status_tells_of_one_or_of_all(caller: Caller, make_object: Callable[..., str]) -> None:
    key = make_object(bytes(100))
    for name in ("a", "b"):
        caller.register(name, key, 60, offset=40)
    assert caller.names() == ["a", "b"]
    (region,) = caller.status("b").value.regions
    assert (region.name, region.key, region.offset, region.byte_size) == ("b", key, 40, 60)
    assert told(caller.status("c"))[0] == "NOT_FOUND"


def test_an_empty_name_unregisters_all(caller: Caller, make_object: Callable[..., str]) -> None:
    for name in ("a", "b"):
        caller.register(name, make_object(bytes(8)), 8)
    caller.unregister()
    assert caller.names() == []


def test_a_name_that_is_not_there_is_unregistered_without_error_as_in_triton(caller: Caller) -> None:
    assert told(caller.unregister("nobody"))[0] == "OK"


def test_a_name_is_not_taken_twice(caller: Caller, make_object: Callable[..., str]) -> None:
    key = make_object(bytes(8))
    caller.register("r", key, 8)
    answer = caller.register("r", key, 8)
    assert told(answer)[:2] == ("ALREADY_EXISTS", "ALREADY_THERE")


@pytest.mark.parametrize(
    ("name", "size", "offset", "words"),
    [
        ("", 8, 0, "name: expected 1 to 255 characters, got 0"),
        ("x" * 256, 8, 0, "got 256"),
        ("r", 0, 0, "byte_size: expected 1 or more, got 0"),
        ("r", 101, 0, "bytes 0 to 101 are outside the object"),
        ("r", 100, 1, "bytes 1 to 101 are outside the object"),
        ("r", 2**64 - 1, 2**64 - 1, "are outside the object"),
    ],
    ids=["no-name", "long-name", "empty", "size", "offset", "overflow"],
)
def test_what_does_not_fit_is_refused(
    caller: Caller, make_object: Callable[..., str], name: str, size: int, offset: int, words: str
) -> None:
    answer = caller.register(name, make_object(bytes(100)), size, offset)
    assert (told(answer)[0], words in told(answer)[2]) == ("INVALID_ARGUMENT", True)
    assert caller.names() == []


def test_there_is_a_most(caller: Caller, make_object: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.catalog.shared_regions.MAX_REGIONS", 2)
    key = make_object(bytes(8))
    assert [told(caller.register(name, key, 8))[0] for name in "abc"] == ["OK", "OK", "RESOURCE_EXHAUSTED"]


def test_it_is_off_unless_asked_for(make_world: Callable[..., World], make_object: Callable[..., str]) -> None:
    caller = Caller(make_world())
    for answer in (caller.register("r", make_object(bytes(8)), 8), caller.unregister(), caller.status()):
        assert (told(answer)[0], answer.error.metadata["option"]) == ("PERMISSION_DENIED", "--shared-memory")


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (ON | {"is_restarted": True}, ["r"]),
        (ON | {"is_restarted": False}, []),  # another gateway: as in Triton, nothing is registered at a start
        ({"is_restarted": True}, []),
    ],
    ids=["control-again", "gateway-again", "off"],
)
def test_they_last_as_long_as_the_gateway(
    start_control: Callable[..., Control], make_object: Callable[..., str], config: dict[str, object], names: list[str]
) -> None:
    first = World(start_control(**ON))
    Caller(first).register("r", make_object(bytes(8)), 8)
    first.close()
    first.control.stop()
    again = start_control(**config)
    assert [region.name for region in again.desired.state().regions] == names
