"""Files that are there whole or not at all; it knows nothing of what is in them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ner_lightning.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a place beside a file to write to; what is written there replaces the file at the end, in one step.

    An error on the way leaves the file as it was, and nothing beside it.

    Args:
        path: The file to write or to replace.

    Raises:
        InputError: The file cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected a file to write, found a directory")
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.open("wb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink()
        raise
