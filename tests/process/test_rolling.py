"""Who is started, told to go and left alone in a rolling restart, step by step, with processes that are none."""

from __future__ import annotations

import errno
import itertools
import signal

import pytest

from gateway.process.backoff import Deaths
from gateway.process.orders import REPLACED
from gateway.process.rolling import ReplacementLimits, RollingRestart
from gateway.process.rolling_messages import RestartNews, line_of, news_of

_pids = itertools.count(100)


class FakeChild:
    """Does what `gateway.process.handle.Child` does, as far as it is told to."""

    def __init__(self, number: int, replacements: int = 0) -> None:
        self.number, self.replacements, self.name = number, replacements, f"worker {number}"
        self.pid: int | None = None
        self.is_serving = self.must_be_ready = False
        self.last_words = ""
        self.deaths = Deaths(total=3, in_a_row=3)
        self.heard: list[object] = []
        self.listens = True
        self._code: int | None = None

    def successor(self) -> FakeChild:
        return FakeChild(self.number, self.replacements + 1)

    def spawn(self, *, must_be_ready: bool = False) -> None:
        self.pid, self.must_be_ready = next(_pids), must_be_ready

    def die(self, code: int = 0, words: str = "") -> None:
        self.pid, self._code, self.last_words, self.is_serving = None, code, words, False

    def reap(self) -> int | None:
        code, self._code = self._code, None
        return code

    def tell(self, line: bytes) -> bool:
        self.heard.append(line)
        return self.listens

    def signal(self, number: signal.Signals) -> None:
        self.heard.append(number)


class Bench:
    def __init__(self, count: int = 2, *, start_s: float = 60.0, end_s: float = 60.0) -> None:
        self.workers = [FakeChild(number) for number in range(count)]
        for worker in self.workers:
            worker.spawn()
            worker.is_serving = True
        self.old = list(self.workers)
        self.news: list[RestartNews] = []
        self.restart = RollingRestart(self.workers, ReplacementLimits(start_s, end_s), self.news.append)  # type: ignore[arg-type]

    def tick(self, count: int = 1) -> list[str]:
        for _ in range(count):
            self.restart.tick()
        return [news.state for news in self.news]

    @property
    def arriving(self) -> FakeChild:
        (found,) = self.restart.beside
        return found  # type: ignore[return-value]


def test_nobody_is_told_to_go_before_the_replacement_serves() -> None:
    bench = Bench()
    bench.tick(5)
    assert bench.arriving.must_be_ready
    assert (bench.workers, bench.old[0].heard) == (bench.old, [])


def test_one_worker_after_the_other_is_replaced() -> None:
    bench = Bench()
    for number in (0, 1):
        bench.tick()
        bench.arriving.is_serving = True
        bench.tick()
        assert bench.old[number].heard == [REPLACED]
        bench.old[number].die()
        bench.tick()
    assert bench.tick() == ["starting", "leaving", "replaced"] * 2 + ["done"]
    assert bench.news[-1].replaced == (0, 1)
    assert [(worker.number, worker.replacements) for worker in bench.workers] == [(0, 1), (1, 1)]
    assert bench.restart.is_over
    assert bench.restart.beside == []


def test_the_next_waits_until_the_old_one_is_gone() -> None:
    bench = Bench()
    bench.tick()
    bench.arriving.is_serving = True
    assert bench.tick(5) == ["starting", "leaving"]


def test_a_replacement_that_ends_leaves_the_old_one_and_says_why() -> None:
    bench = Bench()
    bench.tick()
    bench.arriving.die(1, "worker cannot start: m v1 is FAILED")
    bench.tick(3)
    assert bench.news[-1].state == "failed"
    assert "worker 0 serves on" in bench.news[-1].reason
    assert "m v1 is FAILED" in bench.news[-1].reason
    assert (bench.workers, bench.old[0].heard, len(bench.news)) == (bench.old, [], 2)


def test_a_replacement_that_is_too_slow_is_ended() -> None:
    bench = Bench(start_s=-1.0)
    bench.tick(2)
    assert bench.arriving.heard == [signal.SIGKILL]
    assert "did not serve within" in bench.news[-1].reason


def test_an_old_one_that_does_not_go_is_ended() -> None:
    bench = Bench(end_s=-1.0)
    bench.tick()
    bench.arriving.is_serving = True
    bench.tick(2)
    assert bench.old[0].heard == [REPLACED, signal.SIGKILL]


def test_one_that_does_not_listen_is_asked_by_signal() -> None:
    bench = Bench()
    bench.old[0].listens = False
    bench.tick()
    bench.arriving.is_serving = True
    bench.tick()
    assert bench.old[0].heard == [REPLACED, signal.SIGTERM]


@pytest.mark.parametrize("news", [RestartNews("done", count=2, replaced=(0, 1)), RestartNews("failed", reason="ö\n")])
def test_news_travel_as_one_line(news: RestartNews) -> None:
    line = line_of(news)
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
    assert news_of(line) == news


def test_a_replacement_that_the_system_does_not_start_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(child: FakeChild, *, must_be_ready: bool = False) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    bench = Bench()
    monkeypatch.setattr(FakeChild, "spawn", refuse)
    assert bench.tick(2) == ["failed"]
    assert "Too many open files" in bench.news[0].reason
    assert (bench.workers, bench.old[0].heard, bench.restart.beside) == (bench.old, [], [])
