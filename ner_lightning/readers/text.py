"""Plain text: each line a row, blank ones too."""

import re
from collections.abc import Iterator
from pathlib import Path

from ner_lightning.errors import InputError
from ner_lightning.files import open_to_read
from ner_lightning.readers.row import ReadOptions, Row
from ner_lightning.words import Span, split_words


def read_rows(path: Path, *, name: str, options: ReadOptions) -> Iterator[Row]:
    """Read a text line by line.

    Args:
        path: The file.
        name: What an error calls it.
        options: Of them, `split_at`.

    Raises:
        InputError: The file is empty, or a line is not UTF-8.
    """
    number = 0
    with open_to_read(path) as file:
        for number, raw in enumerate(file, start=1):
            text, _ = decode_line(raw, name=name, number=number)
            text = text.removeprefix("\ufeff") if number == 1 else text
            spans = words_of(text, options)
            words = [text[start:end] for start, end in spans]
            yield Row(words, None, text, spans, None, f"{name}:{number}", None, {})
    if not number:
        raise InputError(f"{name}: the file is empty; expected one sentence or paragraph a line")


def words_of(text: str, options: ReadOptions) -> list[Span]:
    """Split a text into words.

    Args:
        text: The text.
        options: Of them, `split_at`.
    """
    if options.split_at == "spaces":
        return [Span(*match.span()) for match in _FIELD.finditer(text)]
    return split_words(text)


def decode_line(raw: bytes, *, name: str, number: int) -> tuple[str, str]:
    r"""Give the text of a line and its ending: `"\n"`, `"\r\n"` or nothing.

    Args:
        raw: The line with its ending.
        name: What an error calls the file.
        number: The number of the line.

    Raises:
        InputError: The line is not UTF-8.
    """
    try:
        whole = raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}:{number}: expected UTF-8, found byte 0x{raw[error.start]:02x} "
            f"at position {error.start + 1} of the line; convert the file to UTF-8"
        ) from error
    text = whole[:-2] if whole.endswith("\r\n") else whole[:-1] if whole.endswith("\n") else whole
    return text, whole[len(text) :]


_FIELD = re.compile(r"[^ \t\r\n\f\v]+")  # white space of ASCII alone, as between CoNLL columns
