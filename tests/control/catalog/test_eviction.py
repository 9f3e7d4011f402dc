"""The choice of versions that stay loaded on demand, against a textbook cache and against its invariants."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.control.catalog.eviction import MAX_LOADING, MIN_STAY_S, Choice, Use, choose

KEYS = [("m", number) for number in range(8)]
NOW = 1000.0
keys = st.sampled_from(KEYS)
ages = st.sampled_from([0.0, MIN_STAY_S / 2, MIN_STAY_S, 5.0])
uses = st.builds(
    lambda asked, used, ready: Use(NOW - asked, NOW - used, None if ready is None else NOW - ready),
    ages, st.floats(0, 100), st.none() | ages,
)  # fmt: skip


@settings(deadline=None)  # a busy machine is no wrong choice
@given(st.lists(keys, max_size=60), st.integers(1, 5))
def test_versions_named_one_after_the_other_stay_as_in_a_least_recently_used_cache(asked, cap):
    held: dict[tuple[str, int], Use] = {}
    model: OrderedDict[tuple[str, int], None] = OrderedDict()
    for turn, key in enumerate(asked):
        now = NOW + turn  # long enough for all before to have settled
        choice = choose(held, [] if key in held else [key], cap=cap, now=now)
        for gone in choice.evicted:
            del held[gone]
        held[key] = Use(now, now, now)
        if key not in model and len(model) == cap:
            model.popitem(last=False)
        model[key] = None
        model.move_to_end(key)
        assert held.keys() == model.keys()


@settings(deadline=None)  # a busy machine is no wrong choice
@given(st.dictionaries(keys, uses, max_size=5), st.lists(keys, unique=True, max_size=8), st.integers(1, 5))
def test_no_version_is_evicted_too_early_and_no_slot_is_left_unused(held, named, cap):
    held = dict(list(held.items())[:cap])
    waiting = [key for key in named if key not in held]
    choice = choose(held, waiting, cap=cap, now=NOW)
    ready = {key for key, use in held.items() if use.ready_at is not None}
    settled = {key for key in ready if NOW - held[key].ready_at >= MIN_STAY_S}
    stays = held.keys() - set(choice.evicted)
    loading = sum(held[key].ready_at is None for key in stays) + len(choice.admitted)
    assert list(choice.admitted) == waiting[: len(choice.admitted)]
    assert len(stays) + len(choice.admitted) <= cap
    assert set(choice.evicted) <= settled
    assert all(held[gone].used_at <= held[key].used_at for gone in choice.evicted for key in stays & ready)
    assert len(choice.evicted) <= len(choice.admitted)
    if len(choice.admitted) < len(waiting):  # somebody waits on: for good reason
        first_used = min((held[key].used_at for key in stays & ready), default=NOW)
        oldest = {key for key in stays & ready if held[key].used_at == first_used}
        is_full = len(stays) + len(choice.admitted) == cap
        assert loading >= MAX_LOADING or (is_full and (not oldest or not oldest <= settled))


def test_a_version_serves_for_a_while_before_the_next_one_evicts_it():
    held = {("m", 1): Use(NOW, NOW, NOW)}
    assert choose(held, [("m", 2)], cap=1, now=NOW + MIN_STAY_S / 2) == Choice()
    assert choose(held, [("m", 2)], cap=1, now=NOW + MIN_STAY_S) == Choice((("m", 2),), (("m", 1),))
