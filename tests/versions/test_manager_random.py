"""Any order of desired states, jobs, leases and failures keeps the promises."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from manager_bench import Bench, FakeVersion, broken, desired, route, version

from gateway.contract.desired import DesiredState
from gateway.versions import policy

NUMBERS = st.integers(1, 4)


class ManagerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.bench.manager._publish_to = self.check_published
        self.revision = 0
        self.last = DesiredState(0)
        self.leased: list[FakeVersion] = []
        self.had_route = False

    def check_published(self, snapshot) -> None:
        """Every reader, at any moment, must find what the route names open for leases."""
        self.bench.publish(snapshot)
        self.check_route()

    def check_route(self) -> None:
        snapshot = self.bench.snapshot
        for name, in_force in snapshot.routes.items():
            for number in policy.named(in_force):
                held = snapshot.ready[name][number]
                assert not held.is_retired
                assert not held.is_closed

    @rule(
        numbers=st.sets(NUMBERS),
        default=NUMBERS,
        others=st.sets(NUMBERS, max_size=2),
        shadow=st.none() | NUMBERS,
        is_routed=st.booleans(),
        digest=st.sampled_from(["", "new"]),
    )
    def apply(self, numbers, default, others, shadow, is_routed, digest) -> None:
        self.revision += 1
        in_route = route(self.revision, default, *others, shadow=shadow) if is_routed else None
        held = {*numbers, *(policy.needed(in_route) if in_route else ())}
        versions = tuple(version(n, digest=digest and f"{digest}{n}") for n in sorted(held))
        self.last = desired(self.revision, versions, in_route)
        self.bench.manager.apply(self.last)

    @rule(number=NUMBERS, is_broken=st.booleans(), is_warm_up=st.booleans())
    def break_or_mend(self, number, is_broken, is_warm_up) -> None:
        broken_ones = self.bench.loader.broken_warm_up if is_warm_up else self.bench.loader.broken
        broken_ones.pop(f"sha{number}", None)
        if is_broken:
            broken_ones[f"sha{number}"] = broken("broken")

    @rule()
    def run_a_job(self) -> None:
        self.bench.executor.run_one()

    @rule()
    def tick(self) -> None:
        self.bench.manager.tick()

    @rule(number=NUMBERS)
    def lease(self, number) -> None:
        held = self.bench.snapshot.ready.get("m", {}).get(number)
        if held is not None and held.lease():
            self.leased.append(held)

    @rule(index=st.integers(0, 3))
    def release(self, index) -> None:
        if self.leased:
            self.leased.pop(index % len(self.leased)).release()

    @invariant()
    def what_the_route_names_can_be_leased(self) -> None:
        self.check_route()

    @invariant()
    def what_is_leased_is_open(self) -> None:
        assert not any(held.is_closed for held in self.leased)

    def teardown(self) -> None:
        """When all is quiet, what is there is what was desired last, and nothing else is left open."""
        for held in self.leased:
            held.release()
        self.bench.settle()
        (model,) = self.last.models or (None,)
        wanted = {v.number: v for v in model.versions} if model else {}
        states = self.bench.states()
        in_force = self.bench.snapshot.routes.get("m")
        kept = policy.named(in_force) if in_force else frozenset()
        assert set(wanted) <= set(states) <= set(wanted) | kept
        assert all(state in ("READY", "FAILED") for state in states.values())
        if model and model.route and all(states[n] == "READY" for n in policy.needed(model.route)):
            assert in_force is not None
            assert in_force.revision == model.route.revision
        published = list(self.bench.snapshot.ready.get("m", {}).values())
        assert all(held.is_closed or held in published for held in self.bench.loader.made)


TestManager = ManagerMachine.TestCase
TestManager.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
