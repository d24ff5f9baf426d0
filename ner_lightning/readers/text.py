"""Plain text, each line a row, blank ones too; and what readers share: lines, words, and what is no text."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ner_lightning.errors import InputError
from ner_lightning.files import open_to_read
from ner_lightning.readers.row import ReadOptions, Row
from ner_lightning.words import Span, split_words

HEAD = 64 * 1024  # bytes in which a file shows what it is


def read_rows(path: Path, *, name: str, options: ReadOptions) -> Iterator[Row]:
    """Read a text line by line; blank lines part paragraphs, which are its documents."""
    number = paragraph = 0
    with open_to_read(path) as file:
        for number, text, _ in text_lines(file, name):
            words = words_of(text, options)
            paragraph += not words
            yield Row.of_text(text, words, document=paragraph, place=f"{name}:{number}")
    if not number:
        raise InputError(f"{name}: the file is empty; expected one sentence or paragraph a line")


def words_of(text: str, options: ReadOptions) -> list[Span]:
    """Split a text into words, as `split_at` says."""
    if options.split_at == "spaces":
        return [Span(*match.span()) for match in _FIELD.finditer(text)]
    return split_words(text)


def text_lines(file: Iterable[bytes], name: str) -> Iterator[tuple[int, str, str]]:
    """Number, text and ending of each line (see `decode_line`), without a byte order mark."""
    for number, raw in enumerate(file, start=1):
        text, ending = decode_line(raw, name=name, number=number)
        yield number, text.removeprefix("\ufeff") if number == 1 else text, ending


def decode_line(raw: bytes, *, name: str, number: int) -> tuple[str, str]:
    r"""Give the text of a line and its ending: `"\n"`, `"\r\n"` or nothing.

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


def refuse_foreign(name: str, head: bytes) -> None:
    """Refuse what is no text in UTF-8, known by its first bytes, with what to do about it.

    Raises:
        InputError: It is packed, in UTF-16, of another program, or holds a byte that no text has.
    """
    for start, (found, then) in _FOREIGN.items():
        if head.startswith(start):
            raise InputError(f"{name}: expected text in UTF-8, found {found}; {then}")
    if b"\0" in head:
        raise InputError(f"{name}: expected text in UTF-8, found a binary file, or UTF-16 without a byte order mark")


_FIELD = re.compile(r"[^ \t\r\n\f\v]+")  # white space of ASCII alone, as between CoNLL columns
_CONVERT = "convert it (iconv -f UTF-16 -t UTF-8)"
# of several that begin alike the longest comes first
_FOREIGN = {
    b"\x1f\x8b": ("a gzip file", "unpack it (gunzip)"),
    b"BZh91AY&SY": ("a bzip2 file", "unpack it (bunzip2)"),
    b"\xfd7zXZ\0": ("an xz file", "unpack it (unxz)"),
    b"\x28\xb5\x2f\xfd": ("a zstandard file", "unpack it (unzstd)"),
    b"PK\3\4": ("a zip archive, as .zip, .xlsx, .docx and .npz are", "give the text that is in it"),
    b"x\x9c": ("compressed data, as a .spacy file is", "export it as JSON lines with text and entities, or as columns"),
    b"%PDF-": ("a PDF", "give the text that is in it"),
    b"\xd0\xcf\x11\xe0": ("a document of an old Office", "save it as text"),
    b"PAR1": ("a parquet file", "give it the suffix .parquet or format=parquet"),
    b"ARROW1": ("an Arrow file", "export it as parquet or JSON lines"),
    b"\xff\xfe\0\0": ("UTF-32", "convert it (iconv -f UTF-32 -t UTF-8)"),
    b"\xff\xfe": ("UTF-16", _CONVERT),
    b"\xfe\xff": ("UTF-16", _CONVERT),
}
