"""Files that are there whole or not at all."""

import errno
import glob
import hashlib
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from ner_lightning.errors import InputError

# a full disk, a full quota, a limit of the shell: errors of writing, which name no file
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_to_read(path: str | Path) -> BinaryIO:
    """Open a file that a user named.

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


def digest(path: str | Path) -> str:
    """SHA-256 of what is in a file, as hexadecimal digits."""
    with open_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


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
    remove_left_behind(path.parent.glob(f"{glob.escape(path.name)}.*.partial"))
    partial = _made_beside(path)
    if kept is None:
        kept = "the one that is there is kept as it was" if path.exists() else "nothing is left of it"
    try:
        with naming(path, kept=kept):
            yield partial
            move_into_place(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def move_into_place(partial: Path, path: Path) -> None:
    """Rename a file, or a folder with files, when what is in it would survive a loss of power.

    Args:
        partial: What was written.
        path: Its place, on the same file system; a file that is there is replaced.
    """
    for each in (*partial.glob("**/*"), partial):
        _to_disk(each)
    partial.replace(path)
    with suppress(OSError):  # a file system whose folders cannot be opened; the name is in place all the same
        _to_disk(path.parent)


@contextmanager
def locked(folder: Path, *, does: str) -> Iterator[None]:
    """Keep other processes from a folder that this one writes; one that died keeps nobody out.

    Args:
        folder: It; made if it is not there.
        does: What another process is doing if it is there, for the message.

    Raises:
        InputError: Another process is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(f"{folder}: another process {does}; wait for it, or end it") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def naming(path: str | Path, *, kept: str | None = None) -> Iterator[None]:
    """Let a failure to write name the file: that of a full disk names none.

    Libraries written in Rust (safetensors, tokenizers) raise types of their own, which become OSErrors.

    Args:
        path: What is written.
        kept: What is there still, for the sentence about a full disk.

    Raises:
        InputError: There is no room, and `kept` is given.
    """
    try:
        yield
    except Exception as error:
        told = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
        if number is None or (kept is not None and number not in _NO_ROOM):
            raise
        if kept is None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise InputError(f"{path}: cannot be written: {os.strerror(number)}; {kept}") from error


def remove_left_behind(partials: Iterable[Path]) -> None:
    """Remove what processes of this host were writing when they were killed.

    Args:
        partials: Files or folders with a `process_mark` before their suffix; those of living processes and of other
            hosts stay.
    """
    for partial in partials:
        before, _, pid = partial.name.removesuffix(".partial").rpartition("-")
        if not (before.endswith(f".{platform.node()}") and is_left_over(f"{platform.node()}-{pid}")):
            continue
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def refuse_unwritable(path: Path) -> None:
    """Refuse what `replacing` would refuse, long before there is anything to write.

    Raises:
        InputError: The file cannot be written.
    """
    _made_beside(path).unlink()


def process_mark() -> str:
    """What stands in the name of a folder while this process writes it: machine and process."""
    return f"{platform.node()}-{os.getpid()}"


def is_left_over(mark: str) -> bool:
    """Whether the process that made a mark is gone: of another machine, which may share the disk, it is not known."""
    machine, _, number = mark.rpartition("-")
    if machine != platform.node() or not number.isdigit() or os.name != "posix":
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # of another user, or no number of a process
        return False
    return False


def _made_beside(path: Path) -> Path:
    if path.exists() and not path.is_file():  # a device would be replaced, too
        raise InputError(f"{path}: expected a file to write, found a {'directory' if path.is_dir() else 'device'}")
    partial = path.parent / f"{path.name}.{process_mark()}.partial"  # `with_name` takes no "."
    try:
        partial.open("wb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    return partial


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
