"""The rules for names, tags and free text. Pure. Every breach is an InvalidValue that names the field."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from registry.errors import InvalidValue

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_NUMBER_LIKE = re.compile(r"[0-9._-]+|v[0-9]+", re.ASCII)
_NAME_RULE = "1 to 128 of the letters A-Z a-z, digits, '.', '_' and '-', the first a letter or digit"
LATEST = "latest"
MAX_NUMBER = 2**31 - 1  # versions and revisions
MAX_TAGS = 64
MAX_TEXT = 4096  # characters of a tag's value, a reason, a field of the lineage


def check_model_name(name: str) -> None:
    """Raises InvalidValue unless ``name`` may name a model."""
    if not _NAME.fullmatch(name):
        raise InvalidValue(f"model: expected {_NAME_RULE}; got {name!r}", field="model")


def class_text(label: str) -> str:
    """Returns the form in which classes are compared: Unicode's NFC, without blanks around it."""
    return unicodedata.normalize("NFC", label).strip()


def check_alias(alias: str) -> None:
    """Raises InvalidValue unless ``alias`` may be an alias: a name that neither looks like a number nor is ``latest``."""
    if not _NAME.fullmatch(alias):
        raise InvalidValue(f"alias: expected {_NAME_RULE}; got {alias!r}", field="alias")
    if _NUMBER_LIKE.fullmatch(alias):
        raise InvalidValue(f"alias: must not look like a version number; got {alias!r}", field="alias")
    if alias.lower() == LATEST:
        raise InvalidValue(f"alias: {alias!r} always means the highest version number and cannot be set", field="alias")


def check_tags(tags: Mapping[str, str]) -> None:
    """Raises InvalidValue for a key that is no name, a value that is no text, or too many of them."""
    if len(tags) > MAX_TAGS:
        raise InvalidValue(f"tags: at most {MAX_TAGS}, got {len(tags)}", field="tags")
    for key, value in tags.items():
        if not _NAME.fullmatch(key):
            raise InvalidValue(f"tags: expected a key of {_NAME_RULE}; got {key!r}", field="tags")
        check_text(f"tags.{key}", value)


def check_text(field: str, value: str, *, most: int = MAX_TEXT) -> None:
    """Raises InvalidValue for text that is too long or cannot be stored as UTF-8."""
    if len(value) > most:
        raise InvalidValue(f"{field}: at most {most} characters, got {len(value)}", field=field)
    if "\0" in value or not _is_utf8(value):
        raise InvalidValue(f"{field}: expected valid Unicode text without NUL, got {value[:40]!r}", field=field)


def version_number(ref: str | int) -> int | None:
    """
    Returns the number that ``ref`` writes out, as 5, 05 or v5; None if it is a word (an alias or ``latest``). No version has
    the number 0. An alias such as v5 cannot be set any more, but one that is there goes before the number.
    """
    if isinstance(ref, str):
        digits = ref.removeprefix("v")
        if not (digits.isascii() and digits.isdigit()):
            return None
        ref = int(digits) if len(digits) < 20 else 0
    return ref if 1 <= ref <= MAX_NUMBER else 0


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, as undecodable command-line bytes become
        return False
    return True
