"""The cells of CSV and TSV, with their lines; what stands in a cell stays text until it is unpacked."""

import ast
import csv
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from ner_lightning.errors import InputError
from ner_lightning.files import open_to_read
from ner_lightning.readers.row import clip
from ner_lightning.readers.text import text_lines


def read_cells(path: Path, *, name: str, tabs: bool) -> Iterator[tuple[int, list[str]]]:
    """Read the cells of each row, and the line on which it begins; blank lines are no rows.

    Raises:
        InputError: A line is not UTF-8, or a quotation mark is not closed.
    """
    with open_to_read(path) as file:
        lines = (text + ("\n" if ending else "") for _, text, ending in text_lines(file, name))
        for number, cells in _tabs(lines) if tabs else _commas(lines, name):
            if cells:
                yield number, cells


def delimiter_of(line: str) -> str:
    """What stands between the cells of CSV: commas, or semicolons where the first line has no comma."""
    return ";" if ";" in line and "," not in line else ","


def unpack(place: str, column: str, cell: str) -> Any:
    """Read the list that a cell holds, as JSON or as Python writes it; what is no list stays text.

    Raises:
        InputError: It is a list that cannot be read for sure.
    """
    if not cell.startswith("["):
        return cell
    with suppress(ValueError, RecursionError):
        return json.loads(cell)
    value = None
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        value = ast.literal_eval(cell)
    if isinstance(value, list) and repr(value) == cell:  # Python would join 'a' 'b', as numpy prints an array
        return value
    if cell.startswith(("['", '["', "[{")) and cell.endswith("]"):
        raise InputError(
            f"{place}: expected a list in {column} as JSON or Python writes it, found {clip(cell)}; arrays of numpy "
            "are written by .tolist()"
        )
    return cell


def _tabs(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Only a cell that is quoted as a whole is quoted, so that `"` alone is a word."""
    for number, line in enumerate(lines, start=1):
        cells = line.removesuffix("\n").split("\t") if line.strip() else []
        yield number, [cell[1:-1].replace('""', '"') if _QUOTED.fullmatch(cell) else cell for cell in cells]


def _commas(lines: Iterator[str], name: str) -> Iterator[tuple[int, list[str]]]:
    first = next(lines, "")
    reader = csv.reader(chain([first], lines), delimiter=delimiter_of(first), strict=True)
    start = 1
    try:
        for fields in reader:
            yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{name}:{start}: the cells cannot be read ({error}); a cell with a quotation mark in it is written "
            'between quotation marks, and the mark twice ("")'
        ) from error


_QUOTED = re.compile(r'"([^"]|"")*"')
