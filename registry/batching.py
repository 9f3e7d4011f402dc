"""Whether requests to a version share runs, from what the deployment says and what is known of its rows. Pure."""

from __future__ import annotations

from registry.deployment import Batching
from registry.versions import Facts, RowProof


def is_batched(batching: Batching, *, is_batchable: bool, can_split: bool) -> bool:
    """Returns whether requests share runs. ``can_split``: the outputs have one row per row of the inputs."""
    is_wanted = batching.mode == "on" or (batching.mode == "auto" and is_batchable)
    return is_wanted and can_split and batching.max_rows > 1


def can_split(facts: Facts) -> bool:
    """Returns whether the outputs of a batch can be split into those of its requests, as far as is known."""
    return facts.row_proof is not RowProof.IMPOSSIBLE


def batching_state(batching: Batching, facts: Facts) -> str:
    """Returns on what ground requests share runs, "proved", "declared" or "sampled", or "off: " and why they do not."""
    if batching.mode == "off":
        return "off: switched off"
    if batching.max_rows < 2:
        return "off: a batch has one row at the most"
    if facts.row_proof is RowProof.PROVED:
        return "proved"
    if batching.mode == "on" and can_split(facts):
        return "declared"
    if facts.is_batchable:
        return "sampled"
    return f"off: {facts.batching_reason}"
