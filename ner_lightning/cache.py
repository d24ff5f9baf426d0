"""Arrow tables in the cache of `datasets`, under a key of their content: each is whole or is made anew."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ner_lightning import __version__
from ner_lightning.errors import InputError, first_line
from ner_lightning.files import move_into_place, process_mark, remove_left_behind

if TYPE_CHECKING:
    from datasets import Dataset


def cached(key: str, make: Callable[[Path], object]) -> "Dataset":
    """Open the Arrow table of a key; make it where there is none, see `cached_file`.

    Args:
        key: A `content_key`; becomes the fingerprint of the table.
        make: Writes the table to a file.
    """
    from datasets import Dataset

    rows = Dataset.from_file(str(cached_file(key, make)))
    # as `datasets` does for its own files, without a public way; else it depends on when the file was written
    rows._fingerprint = key
    return rows


def cached_file(key: str, make: Callable[[Path], object]) -> Path:
    """Find the Arrow file of a key; make it where there is none, or only a part of one.

    It is moved into place in one step: a full disk leaves no part of it, what a kill leaves is removed by the next that
    makes a table, and processes that make the same one do not disturb each other.

    Args:
        key: A `content_key`.
        make: Writes the file, in a folder of its own.

    Raises:
        InputError: The cache cannot be written; what `make` raises.
    """
    from datasets import config

    path = Path(config.HF_DATASETS_CACHE, "ner_lightning", f"{key}.arrow")
    if not is_whole(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_left_behind(path.parent.glob("*.partial"))
            with TemporaryDirectory(suffix=f".{process_mark()}.partial", dir=path.parent) as folder:
                part = Path(folder, path.name)
                make(part)
                move_into_place(part, path)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else first_line(error)
            raise InputError(
                f"{path}: the cache cannot be written: {reason}; nothing of the table is kept (HF_DATASETS_CACHE names "
                "another folder)"
            ) from error
    return path


def is_whole(path: Path) -> bool:
    """Tell whether an Arrow file is there to its last byte; reads no rows.

    Args:
        path: What `datasets` or `cached` wrote.
    """
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as file:
            pyarrow.ipc.open_stream(file).read_all()
            file.seek(file.size() - len(_END))
            return bool(file.read() == _END)  # one that was cut between two batches can be read, too
    except (OSError, pyarrow.ArrowInvalid):
        return False


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide the progress bars of `datasets`: two for each split, gone too soon to be of use."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def content_key(*parts: Any) -> str:
    """Make the key of a table, which changes with its parts, the version and the code of this package.

    Args:
        parts: What JSON can hold.
    """
    return hashlib.sha256(json.dumps([__version__, _code(), *parts]).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """A digest of the code that makes what is cached: in a clone it changes while the version stays."""
    modules = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(module.read_bytes() for module in modules)).hexdigest()


_END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream of Arrow
