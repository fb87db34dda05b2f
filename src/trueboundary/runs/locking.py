"""A lock between processes that ends with the process that holds it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":  # there the store stays whole, but work may be done twice
    import fcntl

# What file systems that know no locks answer: there, too, the store stays whole.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold an exclusive lock on `file`, which is made for the purpose and removed afterwards.

    Parameters
    ----------
    file : pathlib.Path
        A file that serves nothing else.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "work.lock"
    >>> with locked(file):
    ...     file.exists()
    True
    >>> file.exists()
    False
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = _acquire(file)
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        os.close(descriptor)


def _acquire(file: Path) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.is_symlink():  # it would make or lock a file elsewhere
        file.unlink(missing_ok=True)
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            _lock(descriptor)
            # The holder before us may have removed the file while we waited for it: a lock on a
            # removed file excludes nobody.
            if file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
