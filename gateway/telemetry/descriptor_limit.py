"""Names the limit of open files, and what to do about it, in logs and errors of processes that have reached it."""

from __future__ import annotations

import errno
import os
import resource

USED_UP = (errno.EMFILE, errno.ENFILE)


def explained(error: OSError) -> str:
    """Returns the error's text; if descriptors are used up, with the limit and what to do."""
    if error.errno == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return (
            f"{error}: this process may have {limit} files and connections open (RLIMIT_NOFILE); raise the limit "
            "(ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of Docker) or close connections"
        )
    if error.errno == errno.ENFILE:
        return f"{error}: the machine has no descriptor left (sysctl fs.file-max)"
    return str(error)


def shortage() -> OSError | None:
    """Returns the error that opening a file meets now because descriptors are used up; None if there is one left."""
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error if error.errno in USED_UP else None
    return None
