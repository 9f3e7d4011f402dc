"""
The `interlock` command: arguments in, calls of the Python client, tables or JSON out. No decisions about models live here.

Exit codes: 0 done, 1 refused or failed, 2 used wrongly, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line (``argv`` without the program's name; None: the process's own) and gives the exit code."""
    from gateway.cli.root import run  # imports typer and rich, which `import gateway.cli` should not

    return run(sys.argv[1:] if argv is None else list(argv))
