"""Which version is to blame for deaths, and whose death is explained."""

from __future__ import annotations

from gateway.contract.deaths import NotedRun, WorkerDeath, blamed, is_explained, recent

PROOF = NotedRun("ratio", 1, 1, is_certain=True)
RAN = NotedRun("ratio", 1, 1)
OTHER = NotedRun("iris", 3, 2)


def _deaths(*runs: tuple[NotedRun, ...], worker: int = 0) -> list[WorkerDeath]:
    return [WorkerDeath(worker, "SIGFPE", float(at), those) for at, those in enumerate(runs)]


def test_the_thread_that_failed_is_proof_at_once() -> None:
    assert blamed(_deaths((PROOF,))) == {("ratio", 1)}


def test_a_run_beside_a_kill_is_blamed_at_the_second_death_only() -> None:
    assert blamed(_deaths((RAN, OTHER))) == frozenset()
    assert blamed(_deaths((RAN, OTHER), (RAN,))) == {("ratio", 1)}


def test_two_runs_of_one_version_in_one_death_are_one_death() -> None:
    assert blamed(_deaths((RAN, RAN))) == frozenset()


def test_deaths_are_seen_together_for_a_minute() -> None:
    deaths = [WorkerDeath(0, "SIGKILL", at, (RAN,)) for at in (0.0, 61.0)]
    assert recent(deaths, now=61.0) == (deaths[1],)


def test_a_death_without_a_known_cause_is_not_explained() -> None:
    for runs in ((), (RAN,)):
        (death,) = _deaths(runs)
        assert not is_explained(death, [death])


def test_a_known_cause_explains_a_worker_s_first_two_deaths_only() -> None:
    deaths = _deaths((PROOF,), (PROOF,), (PROOF,))
    assert [is_explained(deaths[at], deaths[: at + 1]) for at in range(3)] == [True, True, False]


def test_deaths_of_other_workers_by_the_same_version_are_explained_too() -> None:
    deaths = [WorkerDeath(worker, "SIGFPE", 0.0, (PROOF,)) for worker in range(5)]
    assert is_explained(deaths[-1], deaths)
