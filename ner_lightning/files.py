"""Files that are there whole or not at all; it knows nothing of what is in them."""

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ner_lightning.errors import InputError

# a full disk, a full quota, a limit of the shell: errors of writing, which name no file
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_to_read(path: str | Path) -> BinaryIO:
    """Open a file that a user named.

    Args:
        path: The file.

    Raises:
        InputError: There is no such file, or it cannot be read.
    """
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: expected a file, found a directory") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


@contextmanager
def replacing(path: Path, *, kept: str | None = None) -> Iterator[Path]:
    """Give a place beside a file to write to; what is written there replaces the file at the end, in one step.

    An error on the way leaves the file as it was, and nothing beside it. What a process that was killed left beside the
    file goes.

    Args:
        path: The file to write or to replace.
        kept: What is there still if the disk is full, for the message; by default the file, as it was before.

    Raises:
        InputError: The file cannot be written.
    """
    partial = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.partial")
    remove_left_behind(path.parent.glob(f"{path.name}.*.partial"))
    refuse_unwritable(path, partial)
    if kept is None:
        kept = "the one that is there is kept as it was" if path.exists() else "nothing is left of it"
    try:
        with naming(path, kept=kept):
            yield partial
            _to_disk(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # a file system whose folders cannot be opened; the name is in place all the same
        _to_disk(path.parent)


@contextmanager
def naming(path: str | Path, *, kept: str) -> Iterator[None]:
    """Name the file, and what is kept, in the error of a full disk, which names none.

    Args:
        path: What is written.
        kept: What is there still.

    Raises:
        InputError: There is no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise InputError(f"{path}: cannot be written: {error.strerror}; {kept}") from error


def remove_left_behind(partials: Iterable[Path]) -> None:
    """Remove what processes of this host were writing when they were killed.

    Args:
        partials: Files that `replacing` may have made; those of living processes and of other hosts stay.
    """
    for partial in partials:
        host, _, pid = partial.name.removesuffix(".partial").rpartition("-")
        if host.endswith(f".{socket.gethostname()}") and pid.isdigit() and not _lives(int(pid)):
            partial.unlink(missing_ok=True)


def refuse_unwritable(path: Path, partial: Path) -> None:
    """Make the place beside a file that `replacing` or a process of several writes to.

    Args:
        path: The file to write or to replace.
        partial: What is written first.

    Raises:
        InputError: The file cannot be written.
    """
    if path.exists() and not path.is_file():  # a device would be replaced, too
        raise InputError(f"{path}: expected a file to write, found a {'directory' if path.is_dir() else 'device'}")
    try:
        partial.open("wb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
