"""Audit records in words."""

from __future__ import annotations

import json

import pytest

from gateway.cli.changes import change

DEPLOYED = {
    "model": "m",
    "revision": 1,
    "default": 1,
    "segments": [],
    "salt": "a",
    "shadow": None,
    "batching": {"mode": "auto", "max_rows": 64},
    "action": "deploy",
}


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"revision": 2, "action": "promote", "default": 2, "salt": "b"}, "default 1 → 2"),
        (
            {"segments": [{"start": 0, "end": 1000, "version": 2}, {"start": 5000, "end": 7050, "version": 2}]},
            "share of 2 30.5 %",
        ),
        ({"shadow": {"version": 3, "percent": 50.0}}, "shadow 3 (50 %)"),
        ({"batching": {"mode": "off", "max_rows": 64}}, "batching.mode auto → off"),
        ({"batching": {"mode": "auto", "max_rows": 64, "max_waiting": 1024}}, ""),
        ({"batching": {"mode": "auto", "max_rows": 64, "max_waiting": 8}}, "batching.max_waiting 1024 → 8"),
        ({"batching": {**DEPLOYED["batching"], "preferred_rows": [8, 16]}}, "batching.preferred_rows none → 8,16"),
        ({"swap_order": "memory"}, "swap_order availability → memory"),
        ({"default": None}, "default 1 → none"),
        ({"revision": 2}, ""),
    ],
)
def test_only_what_changed_is_told(after, words):
    assert change(json.dumps(DEPLOYED), json.dumps({**DEPLOYED, **after})) == words


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("", '{"number": 2, "artifact": {"digest": "abcdef0123456789"}}', "version 2, abcdef012345"),
        ("", json.dumps(DEPLOYED), "default 1"),
        ("", '{"champion": 2}', "champion 2"),
        ('{"champion": 1}', '{"champion": 2}', "champion 1 → 2"),
        ('{"champion": 1}', "", "champion 1 → none"),
        ("one thing", "another", "one thing → another"),
        ("", "version 1", "version 1"),
        ("", "", ""),
    ],
)
def test_registrations_aliases_and_plain_words(before, after, words):
    assert change(before, after) == words
