"""
Texts that go into gRPC's headers, bounded by the bytes that they take there. Pure.

Clients refuse a call whose trailers take more than 8 KiB together, whatever its code was. A message stands in them twice:
percent-encoded in ``grpc-message``, three bytes for each byte beyond printable ASCII, and in base64 in the details.
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Bytes, percent-encoded. Message and facts take at most 2048 + 4/3 * (2048 + 1024) = 6144 of a trailer's 8192 bytes; names
# of fields, the error's reason and a retry's delay take some hundred more.
MAX_MESSAGE_BYTES = 2048
MAX_FACTS_BYTES = 1024
MAX_BODY_BYTES = 16_384  # of an error's text within a message, where nothing else bounds it
MAX_LEFT_OUT_BYTES = 40  # of the note in the middle of a shortened text
_ENCODED_BYTES = 3  # of one byte in percent-encoding


def header_bytes(text: str) -> int:
    """Returns the bytes of a text in percent-encoding, which are at least those of its UTF-8."""
    return sum(map(_character_bytes, text))


def shortened(text: str, limit: int) -> str:
    """
    Returns the text, or its beginning and its end if it takes more than ``limit`` bytes in a header: what a message says
    about a long name stands behind it.
    """
    if len(text) * _ENCODED_BYTES <= limit and text.isascii():
        return text
    if len(text) <= limit and header_bytes(text) <= limit:
        return text
    room = limit - MAX_LEFT_OUT_BYTES
    head = _fitting(text, room * 2 // 3)
    tail = _fitting(reversed(text[max(head, len(text) - room) :]), room // 3)
    return f"{text[:head]} [{len(text) - head - tail} characters left out] {text[len(text) - tail :]}"


def shortened_facts(facts: Mapping[str, str]) -> dict[str, str]:
    """Returns the facts with equal shares of the room for their values."""
    return {key: shortened(value, MAX_FACTS_BYTES // len(facts)) for key, value in facts.items()}


def _fitting(characters: Iterable[str], room: int) -> int:
    """Returns how many of the characters take at most ``room`` bytes."""
    count = 0
    for character in characters:
        room -= _character_bytes(character)
        if room < 0:
            break
        count += 1
    return count


def _character_bytes(character: str) -> int:
    if " " <= character <= "~" and character != "%":
        return 1
    return _ENCODED_BYTES * len(character.encode(errors="surrogatepass"))
