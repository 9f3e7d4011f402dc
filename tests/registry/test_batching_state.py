"""On what ground requests share runs."""

from __future__ import annotations

import pytest

from registry.batching import batching_state, can_split, is_batched
from registry.deployment import Batching
from registry.signature import Signature
from registry.versions import Facts, RowProof

P = RowProof


def facts(proof: RowProof, *, is_batchable: bool = False) -> Facts:
    return Facts(Signature((), ()), None, is_batchable or proof is P.PROVED, "node n (Op) mixes rows", proof)


@pytest.mark.parametrize(
    ("batching", "known", "state"),
    [
        (Batching(), facts(P.PROVED), "proved"),
        (Batching(mode="on"), facts(P.PROVED), "proved"),
        (Batching(), facts(P.NOT_PROVED), "off: node n (Op) mixes rows"),
        (Batching(mode="on"), facts(P.NOT_PROVED), "declared"),
        (Batching(mode="on"), facts(P.IMPOSSIBLE), "off: node n (Op) mixes rows"),
        (Batching(mode="off"), facts(P.PROVED), "off: switched off"),
        (Batching(max_rows=1), facts(P.PROVED), "off: a batch has one row at the most"),
        (Batching(), facts(P.SAMPLED, is_batchable=True), "sampled"),
        (Batching(), facts(P.SAMPLED), "off: node n (Op) mixes rows"),
        (Batching(mode="on"), facts(P.SAMPLED), "declared"),
    ],
)
def test_the_state_says_whether_requests_share_runs(batching, known, state):
    assert batching_state(batching, known) == state
    is_on = is_batched(batching, is_batchable=known.is_batchable, can_split=can_split(known))
    assert is_on == (not state.startswith("off"))
