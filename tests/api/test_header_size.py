"""What stands in gRPC's headers is bounded by its encoded bytes."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.header_size import header_bytes, shortened
from gateway.api.status_codes import describe
from gateway.errors import InvalidRequest

PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
TEXTS = st.text() | st.text(st.sampled_from("aя%\n€🙂"), min_size=200, max_size=2_000)


@given(TEXTS)
def test_the_size_is_that_of_percent_encoding(text: str) -> None:
    assert header_bytes(text) == len(quote(text, safe=PRINTABLE))


@given(TEXTS, st.integers(100, 3_000))
def test_a_shortened_text_fits_and_a_fitting_one_stays(text: str, limit: int) -> None:
    made = shortened(text, limit)
    assert header_bytes(made) <= limit
    assert (made == text) == (header_bytes(text) <= limit)


def test_a_shortened_text_keeps_its_ends_and_says_how_much_is_left_out() -> None:
    text = f"model '{'x' * 20_000}': not found"
    made = shortened(text, 500)
    assert made.startswith("model 'xxx")
    assert made.endswith("x': not found")
    kept = len(made) - len(" [19577 characters left out] ")
    assert f" [{len(text) - kept} characters left out] " in made


@pytest.mark.parametrize("name", ["x" * 20_000, "я" * 20_000, "%" * 20_000, "🙂" * 20_000])
def test_message_and_details_fit_the_trailers_that_clients_accept(name: str) -> None:
    _, message, metadata = describe(InvalidRequest(f"input {name!r}: unknown", field=name, model=name))
    in_base64 = sum(len(value) * 4 // 3 + 4 for _, value in metadata)
    assert header_bytes(message) + in_base64 < 7_000
