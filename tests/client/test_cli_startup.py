"""What the command line imports: nothing that a command does not use. Each case is a new process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("grpc", "numpy", "onnxruntime", "opentelemetry", "pydantic", "sqlalchemy", "structlog")
PROGRAM = """
import sys
from gateway.cli import main
code = main(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


def imported(*arguments: str, code: int = 0, **variables: str) -> set[str]:
    """Runs the command line in a process of its own. Returns the top-level packages that it has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | variables,
    )
    assert done.returncode == code, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("-h",)])
def test_version_and_help_import_no_library_of_the_gateway(arguments):
    assert not imported(*arguments).intersection(HEAVY)


def test_a_command_that_asks_the_gateway_imports_nothing_that_serves():
    modules = imported("status", "--admin", "127.0.0.1:1", code=1)
    assert "grpc" in modules
    assert not modules.intersection(HEAVY) - {"grpc", "pydantic"}  # typer reads the values of options with pydantic


def test_tab_completion_lists_commands_and_their_options():
    def completed(words: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", "import sys; from gateway.cli import main; sys.exit(main())"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"_INTERLOCK_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))},
        ).stdout

    assert {"promote", "predict"} <= set(completed("interlock p").split())
    assert "--json" in completed("interlock promote --j")
