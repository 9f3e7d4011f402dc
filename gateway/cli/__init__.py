"""
The `interlock` command: reads arguments, calls the Python client, prints tables or JSON.

No decision about models lives here, and nothing here imports what serves, but for `serve`. Exit codes: 0 done, 1 refused or
failed, 2 used wrongly, 130 interrupted.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

IMPORTED_OBJECTS = 100_000  # about what imports make; collecting garbage among them finds none and takes 6 % of the start


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line (``argv`` without the program's name; None: the process's own). Returns the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments == ["--version"]:  # needs no command tree
        from gateway import __version__

        print(f"interlock {__version__}")
        return 0
    if "serve" not in arguments:
        gc.set_threshold(IMPORTED_OBJECTS)
    from gateway.cli.root import run  # imports typer

    return run(arguments)
