"""
The home folder of a running gateway: created, locked, and with a note of the running processes. `settings.paths` has its
paths.

All processes of the gateway hold the lock through one open file description, so it is free only when all are gone.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from gateway.settings.paths import Home
from gateway.settings.values import CannotStart, Settings
from gateway.telemetry.limited_log import LimitedLog

POLL_S = 0.05
_log = LimitedLog(structlog.get_logger("interlock.home"))


def prepare(folder: Path) -> Home:
    """Creates the folder (mode 0700) with its run folder and checks that it can be written. Raises CannotStart."""
    home = Home(folder.absolute())
    try:
        home.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.run.mkdir(mode=0o700, exist_ok=True)
        trial = home.run / f".write-test-{os.getpid()}"
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise CannotStart(_unwritable(home, folder, error)) from error
    return home


def _unwritable(home: Home, folder: Path, error: OSError) -> str:
    text = f"--home {folder}: cannot be written ({error.strerror or error})"
    if error.errno == errno.EROFS:
        return f"{text}; mount a volume there, or choose another folder"
    for path in (home.run, home.folder, *home.folder.parents):
        try:
            found = path.stat()
        except OSError:
            continue
        owner = f"belongs to user {found.st_uid} and group {found.st_gid} with mode {found.st_mode & 0o7777:04o}"
        us = f"this is user {os.geteuid()} in group {os.getegid()}"
        return f"{text}: {path} {owner}, and {us}; choose a folder that it can write"
    return text


def lock(home: Home, *, timeout_s: float, report: Callable[[str], None] | None = None) -> int:
    """
    Takes the home for this gateway: an inheritable file descriptor that keeps it while any process has it open. When
    the gateway that had it was killed, waits up to ``timeout_s`` for its children to end (``report(text)`` says so).
    Raises CannotStart naming the process that has it.
    """
    try:
        handle = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"{home.lock}: cannot be opened ({error.strerror}); did another user run a gateway here?") from error
    deadline, told = time.monotonic() + timeout_s, False
    while not _try_lock(handle):
        owner = _owner(handle)
        if _is_alive(owner) or time.monotonic() > deadline:
            os.close(handle)
            raise CannotStart(f"--home {home.folder}: another gateway (pid {owner or 'unknown'}) runs on this home")
        if report is not None and not told:
            told = True
            report(f"waiting for the last processes of a gateway that was killed (pid {owner}) to end")
        time.sleep(POLL_S)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:  # the lock holds without it; only messages of others lack the process id
        _log.error("lock_owner_not_written", path=str(home.lock), error=str(error))
    return handle


def write_note(
    home: Home, settings: Settings, *, control_pid: int | None, workers: Sequence[tuple[int | None, int, int]]
) -> bool:
    """
    Writes the note in one step: a reader finds the old or the new one, whole. ``workers`` are (pid, restarts, replacements),
    with None for the pid of one that does not run. Returns False if it cannot be written, for example on a full disk: the
    log says why, and nothing depends on it.
    """
    facts = {
        "pid": os.getpid(),
        **{name: str(address) for name, address in settings.addresses.items()},
        "control_pid": control_pid,
        "workers": [
            {"number": number, "pid": pid, "restarts": restarts, "replacements": replacements}
            for number, (pid, restarts, replacements) in enumerate(workers)
        ],
    }
    trial = home.note.with_suffix(".tmp")
    try:
        trial.write_text(json.dumps(facts, indent=1) + "\n")
        trial.replace(home.note)
    except OSError as error:
        _log.error("note_not_written", path=str(home.note), error=str(error))
        return False
    return True


def remove_note(home: Home) -> None:
    """Removes the note, as the gateway that wrote it ends. Never raises."""
    try:
        home.note.unlink(missing_ok=True)
    except OSError as error:
        _log.error("note_not_removed", path=str(home.note), error=str(error))


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _owner(handle: int) -> int:
    text = os.pread(handle, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def _is_alive(pid: int) -> bool:
    """Whether the process runs. One that is dead but not yet reaped counts as gone."""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return not Path("/proc/self").exists()  # no /proc on this system: the signal's answer stands
    return state != "Z"
