"""The classes that a version can predict, and the one form in which a class is counted. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from registry.names import class_text
from registry.signature import Signature
from registry.versions import Prediction, PredictionKind

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)
_INTEGER = re.compile(r"(U?)INT(8|16|32|64)")
_WORDS = {"true": 1, "false": 0}
_BOOLS = ("False", "True")  # as a BOOL label is recorded
_MAX_DIGITS = 20  # digits of a whole number; 64 bits have at most this many
_MAX_LISTED = 10  # class names in a message


class NotAClass(ValueError):
    """A label is no class that the version can predict. The text says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """
    The classes of one version. ``datatype`` is that of its label output, "" if it predicts scores. ``classes`` are the names
    of the score columns, if they have names; ``columns`` is the number of score columns, -1 if it is not known.
    """

    datatype: str = ""
    classes: tuple[str, ...] = ()
    columns: int = -1

    @property
    def is_numeric(self) -> bool:
        """Returns whether all classes are whole numbers. BOOL counts as 0 and 1."""
        return all(_whole(name) is not None for name in self.classes) if self.classes else self.datatype != "BYTES"


def vocabulary_of(signature: Signature, prediction: Prediction | None) -> Vocabulary | None:
    """Returns the vocabulary of a version; None if it does not predict classes."""
    if prediction is None or prediction.kind is PredictionKind.VALUE:
        return None
    spec = next((output for output in signature.outputs if output.name == prediction.output), None)
    if prediction.kind is PredictionKind.LABEL:
        return Vocabulary(spec.datatype) if spec else None
    declared = spec.shape[1] if spec and len(spec.shape) == 2 else -1
    return Vocabulary("", prediction.classes, len(prediction.classes) or declared)


def class_of(label: str, vocabulary: Vocabulary | None) -> str:
    """
    Returns the class that a label stands for, as predictions of that class are recorded. Raises NotAClass.

    Whole numbers may be written in any way ("1", "01", "1.0", "true"). A named class is its name, or its index if no name is
    a number. Text is compared in Unicode's NFC, without blanks around it. Without a vocabulary, any label is a class.
    """
    if vocabulary is None or vocabulary.datatype == "BYTES":
        return class_text(label)
    if vocabulary.classes:
        return _named(label, vocabulary.classes)
    number = _whole(label)
    if number is None or not _is_in_range(number, vocabulary):
        raise NotAClass(f"expected {_expected(vocabulary)}, got {label[:100]!r}")
    return _BOOLS[number] if vocabulary.datatype == "BOOL" else str(number)


def class_or_text(label: str, vocabulary: Vocabulary | None) -> str:
    """Returns the same, and for a label that is no class, the label as it is: for what is recorded already."""
    try:
        return class_of(label, vocabulary)
    except NotAClass:
        return label


def _named(label: str, classes: tuple[str, ...]) -> str:
    names = {class_text(name): name for name in classes}
    found = names.get(class_text(label))
    if found is not None:
        return found
    number = _whole(label)
    numbers = {_whole(name): name for name in classes}
    if number is not None and any(one is not None for one in numbers):
        found = numbers.get(number)
    elif number is not None and 0 <= number < len(classes):
        found = classes[number]
    if found is None:
        listed = ", ".join(repr(name) for name in classes[:_MAX_LISTED])
        more = f" … ({len(classes)} classes)" if len(classes) > _MAX_LISTED else ""
        raise NotAClass(f"expected a class of {listed}{more} or its index, got {label[:100]!r}")
    return found


def _whole(label: str) -> int | None:
    """Returns the whole number that a text writes out; None if it is none, or has more digits than 64 bits."""
    text = label.strip().lower()
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > 2 * _MAX_DIGITS or not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    is_small = number.is_zero() or number.adjusted() < _MAX_DIGITS
    return int(number) if is_small and number == number.to_integral_value() else None


def _bounds(vocabulary: Vocabulary) -> tuple[int | None, int | None]:
    """Returns the smallest and the largest class; None for no bound."""
    if vocabulary.datatype == "BOOL":
        return 0, 1
    integer = _INTEGER.fullmatch(vocabulary.datatype)
    if integer:
        is_unsigned, bits = bool(integer[1]), int(integer[2])
        return (0, 2**bits - 1) if is_unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if vocabulary.datatype:
        return None, None
    return 0, vocabulary.columns - 1 if vocabulary.columns >= 0 else None


def _is_in_range(number: int, vocabulary: Vocabulary) -> bool:
    low, high = _bounds(vocabulary)
    return (low is None or low <= number) and (high is None or number <= high)


def _expected(vocabulary: Vocabulary) -> str:
    low, high = _bounds(vocabulary)
    if vocabulary.datatype == "BOOL":
        return "true or false"
    kind = "a whole number" if vocabulary.datatype else "the index of a class"
    if low is None:
        return kind
    return f"{kind}, {low} or more" if high is None else f"{kind} from {low} to {high}"
