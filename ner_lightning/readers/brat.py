"""brat: a text and, in an `.ann` beside it, its entities; one file or all of a folder.

Offsets count the characters of the whole `.txt`, all line ends included. Each line that holds something is a row,
each file a document.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ner_lightning.errors import InputError
from ner_lightning.files import open_to_read
from ner_lightning.readers.offsets import Entity, tags_of
from ner_lightning.readers.row import ReadOptions, Row, clip
from ner_lightning.readers.text import HEAD, decode_line, refuse_foreign, text_lines, words_of
from ner_lightning.words import Span


def read_rows(path: Path, *, name: str, options: ReadOptions) -> Iterator[Row]:
    """Read a `.txt` with its `.ann`, or a folder of them."""
    row = None
    for text in texts_of(path, name):
        for row in _document(text, options):
            yield row
    if row is None:
        raise InputError(f"{name}: expected text, found none")


def texts_of(path: Path, name: str) -> list[Path]:
    """List the `.txt` files that a path stands for: itself, or those in it.

    Raises:
        InputError: There is none, or an `.ann` has none beside it.
    """
    if not path.is_dir():
        return [path]
    texts = sorted(path.glob("*.txt"))
    alone = [ann for ann in sorted(path.glob("*.ann")) if not ann.with_suffix(".txt").is_file()]
    if alone:
        raise InputError(f"{alone[0]}: expected its text in {alone[0].with_suffix('.txt').name} beside it, found none")
    if not texts:
        raise InputError(f"{name}: expected a file, or a folder of brat with .txt and .ann files, found a directory")
    return texts


def _document(path: Path, options: ReadOptions) -> Iterator[Row]:
    text = _text(path)
    lines = list(_lines(text, options))
    tags = None
    if options.tags and (annotations := path.with_suffix(".ann")).is_file():
        entities = list(_entities(annotations, text))
        tags = tags_of(text, [word for *_, words in lines for word in words], entities, options)
    done = 0
    for number, start, line, words in lines:
        line = line.removesuffix("\r")
        spans = [Span(first - start, last - start) for first, last in words]
        row_tags = None if tags is None else tags[done : done + len(words)]
        done += len(words)
        if line.strip():
            yield Row.of_text(line, spans, tags=row_tags, document=path.stem, place=f"{path}:{number}")


def _lines(text: str, options: ReadOptions) -> Iterator[tuple[int, int, str, list[Span]]]:
    """Number, first character and text of each line, and where its words stand in the whole text."""
    start = 0
    for number, line in enumerate(text.split("\n"), start=1):
        yield number, start, line, [Span(start + first, start + last) for first, last in words_of(line, options)]
        start += len(line) + 1


def _text(path: Path) -> str:
    with open_to_read(path) as file:
        refuse_foreign(str(path), file.read(HEAD))
        file.seek(0)
        lines = (decode_line(raw, name=str(path), number=number) for number, raw in enumerate(file, start=1))
        return "".join(line + ending for line, ending in lines)


_LINE = re.compile(
    r"(?P<name>T[^\t ]+)\t(?P<type>[^\t ]+) (?P<offsets>[0-9]{1,12} [0-9]{1,12}(;[0-9]+ [0-9]+)*)\t(?P<text>.*)"
)
_OTHER = re.compile(r"[REAMN][^\t ]*\t|#|\*\t")  # relations, events, attributes, links, notes, equivalences


def _entities(path: Path, text: str) -> Iterator[Entity]:
    with open_to_read(path) as file:
        refuse_foreign(str(path), file.read(HEAD))
        file.seek(0)
        for number, line, _ in text_lines(file, str(path)):
            if not line.strip() or _OTHER.match(line):
                continue
            place, match = f"{path}:{number}", _LINE.match(line)
            if match is None:
                raise InputError(f"{place}: expected an entity such as 'T1<tab>PER 0 4<tab>Mira', found {clip(line)}")
            name, type_, offsets, stated = match.group("name", "type", "offsets", "text")
            if ";" in offsets:
                raise InputError(
                    f"{place}: {name} ({type_}, {offsets}) has parts that do not touch, {clip(stated)}; only words "
                    "in a row can be one entity: make one span of it, or delete it"
                )
            start, end = map(int, offsets.split())
            entity = Entity(type_, start, end, stated, place, name)
            if end <= len(text) and "\n" in text[start:end]:
                raise InputError(
                    f"{place}: {entity}, {clip(stated)}, goes over several lines of the text; expected entities "
                    "within a line, as each line is a sentence"
                )
            yield entity
