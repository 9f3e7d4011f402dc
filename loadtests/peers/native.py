"""
What PyTriton's compiled server needs from the system beside its wheel: libpython of exactly the Python that runs it.

Triton's Python backend is a C++ program linked to libpython3.X.so.1.0. Where the system holds another patch level of the
same X, the backend takes that one, runs it on this Python's standard library and breaks (pytriton issue 51: "RLock has no
attribute _recursion_count"). So the folder of the right one goes in front of the library path, and where there is none, or
another library is missing, that is said instead of a crash in the backend's log.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from loadtests.peers.environments import InstallFailed, run

_ASK = (
    "import json, pytriton, sys, sysconfig; of = sysconfig.get_config_var; "
    "print(json.dumps([pytriton.__path__[0], of('LIBDIR'), of('MULTIARCH') or '', "
    "'libpython%d.%d.so.1.0' % sys.version_info[:2]]))"
)


def library_path(python: Path) -> dict[str, str]:
    """The environment variable that PyTriton's server needs in this environment. Raises InstallFailed."""
    package, folder, multiarch, name = json.loads(run([str(python), "-c", _ASK]))
    found = libpython(Path(folder), multiarch, name)
    if found is None:
        raise InstallFailed(missing_libpython(name, Path(folder)))
    env = {"LD_LIBRARY_PATH": str(found)}
    version = name.removeprefix("libpython").removesuffix(".so.1.0")
    programs = [
        Path(package) / "tritonserver" / "bin" / "tritonserver",
        Path(package) / "tritonserver" / "python_backend_stubs" / version / "triton_python_backend_stub",
    ]
    for program in programs:
        check(program, env)
    return env


def libpython(folder: Path, multiarch: str, name: str) -> Path | None:
    """The folder that holds this Python's shared library; None where it was built without one."""
    return next((place for place in (folder, folder / multiarch) if (place / name).exists()), None)


def missing_libpython(name: str, folder: Path) -> str:
    """What to do about a Python without its shared library."""
    package = name.removesuffix(".so.1.0")
    return (
        f"PyTriton needs {name} of the Python that runs it, and there is none in {folder}. On Debian and Ubuntu: "
        f"apt-get install {package}, for the system's Python; a Python built by hand (pyenv) needs --enable-shared. "
        "Or leave PyTriton out: --only mlserver kserve"
    )


def check(program: Path, env: dict[str, str]) -> None:
    """Raises InstallFailed when the program lacks a library, or is not there (PyTriton has none for this Python)."""
    if not program.is_file():
        raise InstallFailed(f"PyTriton ships no {program.name} for this Python ({program} is missing): use another one")
    lacking = not_found(run(["ldd", str(program)], {**os.environ, **env}))
    if lacking:
        raise InstallFailed(
            f"{program.name} needs {', '.join(lacking)}, which this system lacks: install the packages that hold "
            "them (apt-file search NAME names them on Debian and Ubuntu), or leave PyTriton out: --only mlserver kserve"
        )


def not_found(listing: str) -> list[str]:
    """The libraries that `ldd` did not find."""
    return [line.split()[0] for line in listing.splitlines() if line.rstrip().endswith("=> not found")]
