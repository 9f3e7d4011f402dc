"""Models and their immutable numbered versions, as values. Pure; `registry.stores` keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from registry.signature import Signature


class PredictionKind(StrEnum):
    """The way to read an output as the model's prediction."""

    LABEL = "label"  # the output is the class itself, one element a row (a number, a boolean or a string)
    SCORES = "scores"  # the output is a score per class, [rows, classes]: the largest is the class
    VALUE = "value"  # the output is a number a row: a regression


@dataclass(frozen=True, slots=True)
class Prediction:
    """The output that is the prediction, and its kind. ``classes`` names the score columns, if they have names."""

    output: str
    kind: PredictionKind
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file of an artifact: relative POSIX path, SHA-256 in hex, size in bytes."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """
    The immutable files of a version. ``digest`` is the SHA-256 of the canonical manifest (one line
    ``<sha256> <size> <path>\\n`` a file, sorted by path); ``model_file`` is the path of the ONNX file among them.
    """

    digest: str
    model_file: str
    files: tuple[ArtifactFile, ...]

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of all files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Lineage:
    """The origin of a version. Every field is optional and free text; ``parent_version`` is a number of the same model."""

    run_id: str = ""
    source_commit: str = ""
    datasets: tuple[str, ...] = ()
    parent_version: int | None = None


class RowProof(StrEnum):
    """What is known of the rows of a batch: whether a row of the outputs depends on the same row of the inputs alone."""

    PROVED = "proved"  # it does, for any number of rows
    NOT_PROVED = "not proved"  # it may not: rows share a batch only if the operator declares that they are independent
    IMPOSSIBLE = "impossible"  # the outputs do not have one row per row of the inputs, so no batch can be split
    SAMPLED = "sampled"  # an earlier release compared a few random batches; proved at the next start


@dataclass(frozen=True, slots=True)
class Facts:
    """
    The results of the trial at registration: the signature, the output that is the prediction, and what is known of the
    rows of a batch. ``batching_reason`` says on what evidence; ``is_batchable``: the mode ``auto`` batches.
    ``batched_inputs`` are the sets of optional inputs (each in alphabetical order) that were proved to carry rows: requests
    with the same set may share a batch.
    """

    signature: Signature
    prediction: Prediction | None = None
    is_batchable: bool = False
    batching_reason: str = "not checked"
    row_proof: RowProof = RowProof.SAMPLED
    batched_inputs: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class KeptExamples:
    """``count`` example requests of a version (`registry.examples`), in one file, which is an artifact of its own."""

    artifact: Artifact
    count: int


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """
    One immutable version. ``number`` is monotonic per model and starts at 1; ``created_at`` is Unix time in seconds.
    ``examples`` is None where none were registered.
    """

    model: str
    number: int
    artifact: Artifact
    facts: Facts
    tags: Mapping[str, str] = field(default_factory=dict)
    lineage: Lineage = Lineage()
    created_at: float = 0.0
    created_by: str = ""
    examples: KeptExamples | None = None

    def __str__(self) -> str:
        return f"{self.model} v{self.number}"


@dataclass(frozen=True, slots=True)
class Model:
    """
    A named model with its aliases. ``latest`` is the highest version number; ``generation`` counts the changes of the
    model itself (a version added, an alias set or deleted).
    """

    name: str
    latest: int
    aliases: Mapping[str, int] = field(default_factory=dict)
    created_at: float = 0.0
    generation: int = 1

    @property
    def etag(self) -> str:
        """The value that writers name to say which state of the model they have seen."""
        return f'"{self.generation}"'
