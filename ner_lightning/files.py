"""Files that are there whole or not at all; it knows nothing of what is in them."""

import os
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
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
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
