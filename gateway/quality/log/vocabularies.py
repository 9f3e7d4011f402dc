"""The vocabularies of versions in the log's tables: which classes a label may name."""

from __future__ import annotations

import json
import sqlite3

from gateway.quality.vocabulary import Vocabulary

Vocabularies = dict[tuple[str, int], Vocabulary]  # by model and version


def store(db: sqlite3.Connection, model: str, version: int, vocabulary: Vocabulary) -> None:
    """Writes one version's vocabulary, inside the caller's transaction."""
    row = (model, version, vocabulary.datatype, json.dumps(vocabulary.classes, ensure_ascii=False), vocabulary.columns)
    db.execute("INSERT OR REPLACE INTO vocabularies VALUES (?, ?, ?, ?, ?)", row)


def load(db: sqlite3.Connection) -> Vocabularies:
    """Returns all that are known. Of versions that only an earlier release recorded, these are the ones with class names."""
    found: Vocabularies = {}
    for model, version, text in db.execute("SELECT model, version, names FROM classes"):
        names = tuple(json.loads(text))
        found[model, version] = Vocabulary("", names, len(names))
    for model, version, datatype, text, columns in db.execute(
        "SELECT model, version, datatype, classes, columns FROM vocabularies"
    ):
        found[model, version] = Vocabulary(datatype, tuple(json.loads(text)), columns)
    return found
