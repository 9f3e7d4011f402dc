from __future__ import annotations

from manager_bench import Bench, broken, desired, route, version

from registry.deployment import Batching


def test_a_version_is_published_before_it_is_announced_ready(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1,), route(1, 1)))
    bench.settle()
    assert bench.log.index("publish [1]") < bench.log.index("announce 1=READY")
    assert bench.default() == 1


def test_nothing_is_loaded_on_the_thread_that_applies(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1,), route(1, 1)))
    assert not any(line.startswith("load") for line in bench.log)
    assert bench.states() == {1: "LOADING"}


def test_a_version_is_announced_draining_then_unpublished_then_retired_then_closed(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1, 2), route(1, 1)))
    bench.settle()
    bench.log.clear()
    bench.manager.apply(desired(2, (2,), route(2, 2)))
    bench.settle()
    steps = ["publish [1, 2]", "announce 1=DRAINING 2=READY", "publish [2]", "retire 1", "close 1"]
    assert list(dict.fromkeys(line for line in bench.log if line in steps)) == steps
    assert bench.states() == {2: "READY"}


def test_the_route_waits_for_every_version_that_it_needs(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1,), route(1, 1)))
    bench.settle()
    bench.manager.apply(desired(2, (1, 2, 3), route(2, 2, 3)))
    bench.executor.run_one()
    bench.manager.tick()
    assert bench.states() == {1: "READY", 2: "READY", 3: "LOADING"}
    assert bench.default() == 1
    bench.settle()
    assert bench.default() == 2
    assert bench.manager.observed().routes == {"m": 2}


def test_a_failed_version_leaves_the_route_and_what_serves_as_they_are(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1,), route(1, 1)))
    bench.settle()
    bench.loader.broken["sha2"] = broken("the file is cut off")
    bench.manager.apply(desired(2, (2,), route(2, 2)))
    bench.settle()
    assert bench.states() == {1: "READY", 2: "FAILED"}
    assert bench.default() == 1
    assert [v.reason for v in bench.announced[-1].versions if v.number == 2] == ["the file is cut off"]


def test_a_version_that_fails_to_warm_up_is_freed_and_says_why(bench: Bench) -> None:
    bench.loader.broken_warm_up["sha1"] = broken("wrong shape inside")
    bench.manager.apply(desired(1, (1,), route(1, 1)))
    bench.settle()
    assert bench.states() == {1: "FAILED"}
    assert bench.loader.made[0].is_closed
    assert bench.manager.loads() == {"m|1|failed": 1}


def test_an_unexpected_error_of_a_loader_is_a_failed_version_too(bench: Bench) -> None:
    bench.loader.broken["sha1"] = MemoryError("no more")
    bench.manager.apply(desired(1, (1,)))
    bench.settle()
    assert bench.states() == {1: "FAILED"}
    assert "MemoryError: no more" in bench.manager.observed().versions[0].reason


def test_a_failed_version_is_tried_again_only_after_it_was_left_out(bench: Bench) -> None:
    bench.loader.broken["sha1"] = broken("disk full")
    bench.manager.apply(desired(1, (1,)))
    bench.settle()
    bench.loader.broken.clear()
    bench.manager.apply(desired(2, (1,)))
    bench.settle()
    assert bench.states() == {1: "FAILED"}
    bench.manager.apply(desired(3, ()))
    bench.manager.apply(desired(4, (1,)))
    bench.settle()
    assert bench.states() == {1: "READY"}


def test_a_failed_shadow_is_left_out_of_the_route_instead_of_blocking_it(bench: Bench) -> None:
    bench.loader.broken["sha3"] = broken("no such operator")
    bench.manager.apply(desired(1, (1, 3), route(1, 1, shadow=3)))
    bench.settle()
    assert bench.default() == 1
    assert bench.snapshot.routes["m"].shadow is None
    assert bench.states()[3] == "FAILED"


def test_a_shadow_that_is_still_loading_is_waited_for(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1, 3), route(1, 1, shadow=3)))
    bench.executor.run_one()
    bench.manager.tick()
    assert bench.default() is None
    bench.settle()
    assert bench.snapshot.routes["m"].shadow is not None


def test_a_leased_version_is_closed_only_when_the_lease_is_back(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1, 2), route(1, 1)))
    bench.settle()
    held = bench.loader.made[0]
    held.lease()
    bench.manager.apply(desired(2, (2,), route(2, 2)))
    bench.settle()
    assert bench.states()[1] == "DRAINING"
    assert not held.lease()
    held.release()
    bench.settle()
    assert held.is_closed


def test_a_draining_version_that_is_wanted_again_is_reinstated_without_a_load(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1, 2), route(1, 1)))
    bench.settle()
    held = bench.loader.made[0]
    held.lease()
    bench.manager.apply(desired(2, (2,), route(2, 2)))
    bench.manager.apply(desired(3, (1, 2), route(3, 1)))
    assert bench.default() == 1
    assert held.lease()
    assert len(bench.loader.made) == 2


def test_an_abandoned_load_is_finished_then_freed_and_never_shown(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1,), route(1, 1)))
    loader_load = bench.loader.load

    def abandoned_meanwhile(*args):
        held = loader_load(*args)
        bench.manager.apply(desired(2, ()))
        return held

    bench.loader.load = abandoned_meanwhile
    bench.settle()
    assert bench.loader.made[0].is_closed
    assert not any("READY" in line or line.startswith("warm") for line in bench.log)
    assert bench.states() == {}


def test_a_load_that_was_abandoned_before_it_began_never_begins(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1,)))
    bench.manager.apply(desired(2, ()))
    bench.settle()
    assert bench.loader.made == []
    assert bench.states() == {}


def test_other_settings_load_the_version_anew_while_the_old_load_serves(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1,), route(1, 1)))
    bench.settle()
    bench.manager.apply(desired(2, (version(1, batching=Batching("off")),), route(2, 1)))
    assert bench.snapshot.ready["m"][1] is bench.loader.made[0]
    assert bench.manager.observed().routes == {"m": 1}
    bench.settle()
    assert bench.snapshot.ready["m"][1] is bench.loader.made[1]
    assert bench.loader.made[0].is_closed
    assert bench.manager.observed().routes == {"m": 2}


def test_a_reload_that_fails_keeps_the_old_load_and_says_so(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1,), route(1, 1)))
    bench.settle()
    bench.loader.broken["other"] = broken("digest differs")
    bench.manager.apply(desired(2, (version(1, digest="other"),), route(2, 1)))
    bench.settle()
    assert bench.snapshot.ready["m"][1] is bench.loader.made[0]
    assert bench.states() == {1: "FAILED"}
    bench.manager.apply(desired(3, (1,), route(3, 1)))
    assert bench.states() == {1: "READY"}
    assert bench.manager.observed().routes == {"m": 3}


def test_an_undeployed_model_loses_its_route_before_its_versions(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1,), route(1, 1)))
    bench.settle()
    bench.loader.made[0].lease()
    bench.manager.apply(desired(2, (), None))
    assert bench.snapshot.routes == {}
    assert bench.states() == {1: "DRAINING"}


def test_it_is_settled_when_everything_routed_is_ready_or_failed(bench: Bench) -> None:
    bench.loader.broken["sha1"] = broken("no")
    bench.manager.apply(desired(1, (1, 2, 9), route(1, 1, 2)))
    assert not bench.manager.is_settled()
    bench.executor.run_one()
    bench.executor.run_one()
    bench.manager.tick()
    assert bench.manager.is_settled()


def test_tick_asks_to_be_called_soon_only_while_something_drains(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1,), route(1, 1)))
    bench.settle()
    held = bench.loader.made[0]
    held.lease()
    bench.manager.apply(desired(2, ()))
    assert bench.manager.tick()
    held.release()
    assert not bench.manager.tick()


def test_a_version_that_cannot_be_freed_is_forgotten_and_can_be_loaded_again(bench: Bench) -> None:
    bench.manager.apply(desired(1, (1,)))
    bench.settle()
    bench.loader.made[0].close_error = RuntimeError("stuck")
    bench.manager.apply(desired(2, ()))
    bench.manager.apply(desired(3, (1,)))
    bench.settle()
    assert bench.states() == {1: "READY"}
