"""
POSIX shared memory objects of other processes, used without touching a mapping.

The owner of an object may shrink it at any moment, and a mapping touched beyond the end raises SIGBUS, which would end the
process. So bytes are copied by pread and pwrite, which then just copy fewer. Nothing here makes, resizes or unlinks an
object.
"""

from __future__ import annotations

import errno
import os
import stat

from gateway.errors import InvalidRequest, NotAllowed, Overloaded

FOLDER = "/dev/shm"  # where Linux keeps them; shm_overview(7)
MAX_KEY_BYTES = 255
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe of that name must not block
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class SharedObject:
    """
    An open object. It is closed when the last reference to it goes, so its users keep one. Thread-safe. ``identity`` tells
    it from a later object of the same name.
    """

    __slots__ = ("_close", "_descriptor", "identity")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._close = os.close  # while the interpreter ends, `os` may be gone before this
        status = os.fstat(descriptor)
        self.identity = f"{status.st_dev}:{status.st_ino}"

    def __del__(self) -> None:
        self._close(self._descriptor)

    def size(self) -> int:
        """Returns its size in bytes now."""
        return os.fstat(self._descriptor).st_size

    def read_into(self, target: memoryview, offset: int) -> int:
        """Copies the bytes from ``offset`` on. Returns how many there were: fewer than asked for if the object ends early."""
        done = 0
        while done < len(target):
            count = os.preadv(self._descriptor, [target[done:]], offset + done)
            if not count:
                break
            done += count
        return done

    def write(self, source: memoryview, offset: int) -> None:
        """Copies bytes to ``offset``. The caller has checked `size`. Raises OSError if the system has no memory left."""
        done = 0
        while done < len(source):
            done += os.pwrite(self._descriptor, source[done:], offset + done)


def open_object(key: str) -> SharedObject:
    """
    Opens the object that shm_open(3) would open for ``key``. Raises InvalidRequest if there is none or the key is no name of
    one, NotAllowed if it belongs to another user than this process runs as, Overloaded if this process has no descriptor
    left.
    """
    path = os.path.join(FOLDER, _file_name(key))
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise _refusal(key, error) from None
    opened = SharedObject(descriptor)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidRequest(f"key {key!r}: is no shared memory object", field="key")
    if status.st_uid != os.geteuid():
        raise _foreign(key)
    return opened


def _file_name(key: str) -> str:
    """Returns the file name of a key: one name, with or without the slash in front that POSIX asks for."""
    name = key.lstrip("/")
    if not name or "/" in name or "\0" in name or name in (".", "..") or len(os.fsencode(name)) > MAX_KEY_BYTES:
        raise InvalidRequest(f"key {key!r}: expected the name of a shared memory object, as /name", field="key")
    return name


def _refusal(key: str, error: OSError) -> Exception:
    if error.errno in (errno.EACCES, errno.EPERM):
        return _foreign(key)
    if error.errno in _NO_ROOM:
        return Overloaded(f"key {key!r}: {os.strerror(error.errno)}")
    if error.errno == errno.ELOOP:
        return InvalidRequest(f"key {key!r}: is a symbolic link, expected a shared memory object", field="key")
    return InvalidRequest(f"key {key!r}: cannot be opened: {os.strerror(error.errno or 0)}", field="key")


def _foreign(key: str) -> NotAllowed:
    return NotAllowed(f"key {key!r}: belongs to another user than the gateway runs as (uid {os.geteuid()})", field="key")
