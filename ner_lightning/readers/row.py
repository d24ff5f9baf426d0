"""What every reader gives (`Row`, from a `Source`) and what it is told (`ReadOptions`)."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ner_lightning.words import Span


class Row(NamedTuple):
    """A sentence, a line of text or a record.

    Args:
        words: The words.
        tags: The tag of each word as the source spells it; None where the row has no annotation. Entities with
            character offsets become IOB2 tags.
        text: The text, where the words are parts of one.
        spans: Where each word stands in the text; None where the words were given.
        document: The document that the row belongs to; None where the source does not tell.
        place: `path:line` or `path, row 12` (from 0), for an error about the row.
        lines: The line, or the number of the table row, of each word, where the source has one word a line.
        record: The JSON object or table row as it was read; of a table with one word a row, the values of each
            column. Empty for columns and plain text.
    """

    words: list[str]
    tags: list[str] | None
    text: str | None
    spans: list[Span] | None
    document: int | str | None
    place: str
    lines: list[int] | None
    record: dict[str, Any]

    @classmethod
    def of_text(
        cls,
        text: str,
        spans: list[Span],
        *,
        place: str,
        tags: list[str] | None = None,
        document: int | str | None = None,
        record: dict[str, Any] | None = None,
    ) -> "Row":
        """Make the row of a text, whose words stand at `spans`."""
        words = [text[start:end] for start, end in spans]
        return cls(words, tags, text, spans, document, place, None, record or {})

    def place_of(self, word: int) -> str:
        """Tell where a word (its index) stands, for an error about it."""
        if self.lines is None:
            return self.place
        return f"{self.place.removesuffix(str(self.lines[0]))}{self.lines[word]}"


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How a file is read; the defaults fit most files.

    Args:
        format: The format, see `formats.Format`; by default found from the suffix and the content.
        text_column_name: Where the words or the text are: a column name, a JSON field, a field of Label Studio's
            `data`, or the number of a CoNLL column.
        label_column_name: The same for the tags or the entities.
        sentence_column_name: In a table with one word a row, the column that tells sentences apart.
        labels: Names of tags that are numbers, in the order of the numbers, where the source does not declare them.
        comment_prefix: In CoNLL columns, lines that begin with it are comments.
        span_alignment: What becomes of an entity whose border lies inside a word: an error (`strict`), or it is widened
            to the whole word (`expand`).
        overlapping: What becomes of entities that share a word: an error (`refuse`), or the longest stays (`longest`).
        split_at: Where a text is parted into words: at white space, punctuation marks and Chinese characters
            (`punctuation`), or at white space alone (`spaces`), for words with spaces between them.
        annotator: Whose annotations are read from Label Studio: an id or an e-mail address; by default those of the
            first annotator that did not cancel.
        entity_type: The type of entities that name none.
        tags: Read tags and entities; without them, nothing that is wrong with them matters.
    """

    format: str | None = None
    text_column_name: str | int | None = None
    label_column_name: str | int | None = None
    sentence_column_name: str | None = None
    labels: tuple[str, ...] | None = None
    comment_prefix: str | None = None
    span_alignment: Literal["strict", "expand"] = "strict"
    overlapping: Literal["refuse", "longest"] = "refuse"
    split_at: Literal["punctuation", "spaces"] = "punctuation"
    annotator: str | int | None = None
    entity_type: str | None = None
    tags: bool = True


@dataclass(frozen=True)
class Source:
    """Rows that can be read again and again: each iteration reads the file from its start, a few rows at a time."""

    name: str  # in errors
    format: str
    options: ReadOptions
    declared: list[str] | None  # label names, whether they occur or not (`ClassLabel`)
    rows: Callable[[], Iterator[Row]] = field(repr=False)
    digest: Callable[[], str] = field(repr=False)  # of the content
    path: Path | None = None  # None for a table in memory or of the Hub

    def __iter__(self) -> Iterator[Row]:
        """Read the rows from the start."""
        return self.rows()

    @cached_property
    def key(self) -> str:
        """Stands for the content and how it is read."""
        options = {**asdict(self.options), "format": self.format}
        return sha256(dumps([self.digest(), options]).encode()).hexdigest()


def clip(value: Any) -> str:
    """Show a value in an error."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
