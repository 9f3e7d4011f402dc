"""When the series of a version disappear."""

from __future__ import annotations

from gateway.contract.counts import ArmCounts, ShadowCounts
from gateway.telemetry.merged_counts import Merged
from gateway.telemetry.series_life import LIFE_S, SeriesLife

ARMS = {("m", number, "default"): ArmCounts("m", number, "default", {"OK": number}) for number in (1, 2)}
MERGED = Merged(
    ARMS,
    {("m", 2, 1): ShadowCounts("m", 2, 1, compared=5)},
    {"NOT_FOUND": 3},
    {("m", 1, "ok"): 1, ("m", 2, "ok"): 1, ("m", 9, "failed"): 1},
)


class Page:
    """What scrapes at certain times show."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._life = SeriesLife(lambda: self.now_s)

    def at(self, now_s: float, *known: int) -> Merged:
        self.now_s = now_s
        return self._life.shown(MERGED, {("m", number) for number in known})


def test_a_version_that_is_known_stays() -> None:
    page = Page()
    assert [page.at(now_s, 1, 2, 9) for now_s in (0, 1e6)] == [MERGED, MERGED]


def test_a_version_that_has_gone_is_shown_for_a_while_and_then_in_no_metric() -> None:
    page = Page()
    page.at(0, 1, 2)
    assert page.at(LIFE_S, 2) == MERGED
    later = page.at(LIFE_S + 1, 2)
    assert (set(later.arms), set(later.shadows), set(later.loads)) == ({("m", 2, "default")}, set(), {("m", 2, "ok")})
    assert later.not_routed == MERGED.not_routed


def test_a_version_that_comes_back_goes_on_where_it_was() -> None:
    page = Page()
    page.at(0, 1, 2)
    assert ("m", 1, "default") not in page.at(LIFE_S + 1, 2).arms
    assert page.at(LIFE_S + 2, 1, 2).arms["m", 1, "default"].requests == {"OK": 1}


def test_a_version_that_was_gone_before_the_first_scrape_is_scraped_once() -> None:
    page = Page()
    assert page.at(1e6, 2) == MERGED
    assert ("m", 1, "default") not in page.at(1e6 + LIFE_S + 1, 2).arms
