"""Files that are there whole or not at all; it knows nothing of what is in them."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ner_lightning.errors import InputError


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
def replacing(path: Path) -> Iterator[Path]:
    """Give a place beside a file to write to; what is written there replaces the file at the end, in one step.

    An error on the way leaves the file as it was, and nothing beside it.

    Args:
        path: The file to write or to replace.

    Raises:
        InputError: The file cannot be written.
    """
    partial = path.parent / f"{path.name}.{os.getpid()}.partial"  # `with_name` takes no "."
    refuse_unwritable(path, partial)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink()
        raise


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


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a failure to write be an OSError that names the file.

    That of a full disk names none, and libraries written in Rust (safetensors, tokenizers) raise types of their own.

    Args:
        path: The file that is written.
    """
    try:
        yield
    except Exception as error:
        told = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def process_mark() -> str:
    """What stands in the name of a folder while this process writes it: machine and process."""
    return f"{platform.node()}-{os.getpid()}"


def is_left_over(mark: str) -> bool:
    """Whether the process that made a mark is gone: of another machine, which may share the disk, it is not known.

    Args:
        mark: As `process_mark` made it.
    """
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
