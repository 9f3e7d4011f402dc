"""
Pages of a list. Pure.

A page token is opaque to callers. It holds where the next page begins and a digest of the list's arguments, so that a token
cannot be used for another list.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from registry.errors import InvalidValue

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000

Key = TypeVar("Key", str, int)
Item = TypeVar("Item")


def page(
    fetch: Callable[[Key | None, int], Sequence[Item]],
    key_of: Callable[[Item], Key],
    key_type: type[Key],
    *,
    page_size: int,
    page_token: str,
    arguments: Sequence[str],
) -> tuple[tuple[Item, ...], str]:
    """
    Returns the items of one page and the token of the next, "" if there is none. ``fetch(key, limit)`` returns up to
    ``limit`` items behind ``key``. A ``page_size`` of 0 means DEFAULT_PAGE_SIZE; a page has at most MAX_PAGE_SIZE items.
    Raises InvalidValue for a negative size, and for a token that is damaged or belongs to a list with other ``arguments``.
    """
    if page_size < 0:
        raise InvalidValue(f"page_size: expected 0 or more, got {page_size}", field="page_size")
    limit = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    items = tuple(fetch(_key(page_token, key_type, arguments) if page_token else None, limit + 1))
    if len(items) <= limit:
        return items, ""
    return items[:limit], _token(key_of(items[limit - 1]), arguments)


def every(read: Callable[[str], tuple[Sequence[Item], str]]) -> Iterator[Item]:
    """Yields the items of all pages. ``read(page_token)`` returns one page and the token of the next, as `page` does."""
    token = ""
    while True:
        items, token = read(token)
        yield from items
        if not token:
            return


def _token(key: str | int, arguments: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((key, _digest(arguments)))).decode().rstrip("=")


def _key(token: str, key_type: type[Key], arguments: Sequence[str]) -> Key:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        key, digest = msgspec.json.decode(raw, type=tuple[str | int, str])
    except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
        raise InvalidValue("page_token: not a token that this service gave out", field="page_token") from error
    if not isinstance(key, key_type) or digest != _digest(arguments):
        raise InvalidValue(
            "page_token: belongs to a list with other arguments; leave it empty to begin a new list", field="page_token"
        )
    return key


def _digest(arguments: Sequence[str]) -> str:
    return hashlib.sha256(msgspec.json.encode(list(arguments))).hexdigest()[:16]
