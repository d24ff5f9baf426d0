"""One file that several processes write: each its part, with numbered pieces, which are then put in order.

It knows nothing of what is in a piece, nor of who the processes are.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from ner_lightning.errors import InputError
from ner_lightning.files import replacing


def write_piece(file: BinaryIO, *, number: int, words: int, text: bytes) -> None:
    """Write a piece into a part.

    Args:
        file: The part.
        number: Position of the piece in the whole, from 0.
        words: How many words are in it.
        text: What is in it.
    """
    file.write(f"{number} {words} {len(text)}\n".encode() + text)


def merge_parts(parts: Sequence[Path], path: Path, *, pieces: int) -> int:
    """Put the pieces in order, each once, and remove the parts.

    Args:
        parts: What each process wrote; a piece may stand in several of them.
        path: The file to write.
        pieces: How many there are.

    Returns:
        The number of words.

    Raises:
        InputError: A piece is missing, or the file cannot be written.
    """
    try:
        there = [part for part in parts if part.is_file()]
        places: dict[int, tuple[int, int, int, int]] = {}
        for index, part in enumerate(there):
            for number, words, length, start in _headings(part):
                places[number] = (index, words, length, start)
        if sorted(places) != list(range(pieces)):
            raise InputError(
                f"{path}: {pieces - len(places)} of {pieces} pieces are missing: its folder must be one that all "
                "processes share"
            )
        with replacing(path) as partial, partial.open("wb") as target, ExitStack() as stack:
            files = [stack.enter_context(part.open("rb")) for part in there]
            for number in range(pieces):
                index, _, length, start = places[number]
                files[index].seek(start)
                target.write(files[index].read(length))
        return sum(words for _, words, _, _ in places.values())
    finally:
        remove_parts(parts)


def remove_parts(parts: Sequence[Path]) -> None:
    """Remove parts, those of other processes too.

    Args:
        parts: The files, whether they are there or not.
    """
    for part in parts:
        part.unlink(missing_ok=True)


def _headings(part: Path) -> Iterator[tuple[int, int, int, int]]:
    """Of each piece: its number, its words, its length in bytes, and where it starts."""
    with part.open("rb") as file:
        while heading := file.readline():
            number, words, length = map(int, heading.split())
            yield number, words, length, file.tell()
            file.seek(length, os.SEEK_CUR)
