from __future__ import annotations

import itertools

import pytest

from gateway.contract.version_state import VersionState
from gateway.versions.states import TRANSITIONS, IllegalTransition, VersionEvent, advance, diagram


@pytest.mark.parametrize(("state", "event"), list(itertools.product(VersionState, VersionEvent)))
def test_advance_follows_the_table_and_refuses_the_rest(state: VersionState, event: VersionEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert advance(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransition, match=f"{state} cannot be {event}"):
            advance(state, event)


def test_only_unloaded_and_failed_are_final() -> None:
    assert set(VersionState) - {source for source, _ in TRANSITIONS} == {VersionState.UNLOADED, VersionState.FAILED}


def test_the_diagram_has_every_move_of_the_table() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert all(f"    {source} --> {target}: {event}" in lines for (source, event), target in TRANSITIONS.items())
