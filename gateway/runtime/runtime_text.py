"""
The runtime's messages as callers get them: without places in its source code, and without folders of this machine.

Names of nodes look like paths ("/encoder/layer.0/MatMul"), so only what is known to be a path is taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_LOADING = re.compile(r"^Load model from .*? failed:\s*", re.DOTALL)
# A place in C++ code, and the function there: a signature with a namespace, or a bare name. It begins a word, so that the
# search takes no longer than the text is.
_PLACE = re.compile(
    r"""(?<![^\s'":(])(?:[^\s'":(]*/)?[\w.-]+\.(?:cc|cpp|cxx|h|hpp|cu|cuh|inc):\d+\s+
        (?:(?:[\w:<>,&*~\ ]*\w+::[\w~<>=+*-]+(?:\(\))?\((?:[^()]|\((?:[^()]|\([^()]*+\))*+\))*+\)(?:\ const)?|[\w:~]+)\s+)?""",
    re.VERBOSE,
)


def caller_text(text: str, folders: Iterable[str] = ()) -> str:
    """Returns a message of the runtime for callers. Of paths below ``folders`` only the names there stay. Pure."""
    text = _LOADING.sub("", _PREFIX.sub("", text.strip()))
    text = _PLACE.sub("", text)
    for folder in sorted(folders, key=len, reverse=True):
        text = text.replace(f"{folder}/", "")
    return text.strip()


def folders_of(path: Path) -> tuple[str, ...]:
    """Returns the folder of a file as it is named and without links, if they are absolute; the runtime writes either."""
    folders = {str(path.parent), str(path.resolve().parent)}
    return tuple(folder for folder in folders if folder.startswith("/") and folder != "/")
