"""Files that are there whole or not at all, and what a file is by its first bytes.

It knows nothing of how what is in them is read.
"""

import os
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


def refuse_foreign(name: str, head: bytes) -> None:
    """Refuse what is no text in UTF-8, by what it is and with what to do about it.

    Args:
        name: What an error calls the file.
        head: Its first bytes.

    Raises:
        InputError: It is packed, in UTF-16, of another program, or holds a byte that no text has.
    """
    for start, (found, then) in _FOREIGN.items():
        if head.startswith(start):
            raise InputError(f"{name}: expected text in UTF-8, found {found}; {then}")
    if b"\0" in head:
        raise InputError(f"{name}: expected text in UTF-8, found a binary file, or UTF-16 without a byte order mark")


def refuse_json_document(name: str, head: bytes) -> None:
    """Refuse JSON that is one value over all of its lines.

    Args:
        name: What an error calls the file.
        head: Its first bytes.

    Raises:
        InputError: It is an array, or an object whose first line holds nothing else.
    """
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"["):
        raise InputError(f"{name}: a JSON array; expected one object a line (jq -c '.[]' makes lines of it)")
    if re.match(rb"\{[ \t]*\r?\n", start):
        raise InputError(f"{name}: a JSON object of several lines; expected one object a line")


_CONVERT = "convert it (iconv -f UTF-16 -t UTF-8)"
_FOREIGN = {
    b"\x1f\x8b": ("a gzip file", "unpack it (gunzip)"),
    b"BZh91AY&SY": ("a bzip2 file", "unpack it (bunzip2)"),
    b"\xfd7zXZ\0": ("an xz file", "unpack it (unxz)"),
    b"\x28\xb5\x2f\xfd": ("a zstandard file", "unpack it (unzstd)"),
    b"PK\3\4": ("a zip archive, as .zip, .xlsx, .docx and .npz are", "give the text that is in it"),
    b"x\x9c": ("compressed data, as a .spacy file is", "export it as CoNLL columns or JSON lines"),
    b"%PDF-": ("a PDF", "give the text that is in it"),
    b"\xd0\xcf\x11\xe0": ("a document of an old Office", "save it as text"),
    b"PAR1": ("a parquet file", "to train, give it the suffix .parquet; to predict, export it as JSON lines"),
    b"ARROW1": ("an Arrow file", "export it as parquet or JSON lines"),
    b"\xff\xfe\0\0": ("UTF-32", "convert it (iconv -f UTF-32 -t UTF-8)"),
    b"\xff\xfe": ("UTF-16", _CONVERT),
    b"\xfe\xff": ("UTF-16", _CONVERT),
}
