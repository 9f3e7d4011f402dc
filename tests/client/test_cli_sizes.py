"""Sizes as people write them."""

from __future__ import annotations

import pytest
import typer

from gateway.cli.options import byte_count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1048576", 1 << 20),
        ("4GiB", 4 << 30),
        ("1.5g", 3 << 29),
        ("500MB", 500_000_000),
        ("10 kib", 10240),
        ("0", 0),
        ("7b", 7),
    ],
)
def test_a_size_is_bytes(text: str, count: int) -> None:
    assert byte_count(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1", "4 GiBs", "GiB", "1e9"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a size"):
        byte_count(text)
