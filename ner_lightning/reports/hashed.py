"""A split as numbers, for the checks of `inspect`: words are hashed and not kept.

Of a sentence stay two numbers, of an entity a row of numbers; the text of a corpus of any size is not in memory.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ner_lightning.calibration import find_entities
from ner_lightning.windows import offsets_of, ranges

if TYPE_CHECKING:
    import pyarrow

EXAMPLES = 3  # of each finding
COMPOSED, DECOMPOSED = "composed", "decomposed"

# UTF-8 that was read as Windows-1252 or Latin-1: what begins a character, and what continues it. After an upper-case
# letter an ending quote may be right, so that most of these pairs count only when there are two.
_BYTES = bytes(range(0x80, 0xC0))
_CONTINUED = f"[{_BYTES.decode('latin-1')}{_BYTES.decode('cp1252', 'ignore')}]"
FAULTS = {
    "UTF-8 that was read as another encoding": f"[ÂÃ]{_CONTINUED}|[à-ï]{_CONTINUED}{{2}}|ð{_CONTINUED}{{3}}"
    f"|(?:[Ä-ß]{_CONTINUED}){{2}}",
    "U+FFFD, where a character was lost": "\ufffd",
    "a byte order mark inside of text": "\ufeff",
    "control characters": r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]",
}


@dataclass
class SplitNumbers:
    """Of each sentence and each entity of a split."""

    sentences: NDArray[np.uint64]  # the words of each
    labelled: NDArray[np.uint64]  # its words and labels
    lengths: NDArray[np.int64]
    entities: NDArray[Any]  # of `ENTITY`
    faults: dict[str, Rows]  # by kind of `FAULTS`, `COMPOSED`, `DECOMPOSED`


@dataclass
class Rows:
    """How many sentences, and the first of them."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, rows: NDArray[Any]) -> None:
        """Count more of them."""
        self.count += len(rows)
        self.first += rows[: EXAMPLES - len(self.first)].tolist()


ENTITY = np.dtype([("form", "u8"), ("type", "i4"), ("row", "i4"), ("first", "i4"), ("words", "i4"), ("loose", "?")])


def numbers_of(tables: Iterable[pyarrow.Table], labels: Sequence[str], types: Sequence[str]) -> SplitNumbers:
    """Read a split once.

    Args:
        tables: Its rows, some at a time, with `tokens` and `tags`.
        labels: Names of its tags.
        types: Of entities, by whose places in this list they are told; none where words are labelled.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    type_of = np.array([types.index(label[2:]) if types and label != "O" else -1 for label in labels])
    sentences, labelled, sizes, entities = [], [], [], []
    faults = {name: Rows() for name in (*FAULTS, COMPOSED, DECOMPOSED)}
    done = 0
    for table in tables:
        tokens = pa.concat_arrays(table["tokens"].chunks)
        lengths = pc.list_value_length(tokens).to_numpy()
        encoded, tags = tokens.flatten().dictionary_encode(), table["tags"].combine_chunks().flatten().to_numpy()
        distinct, of = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
        hashes = np.fromiter(map(hash, distinct), dtype=np.int64, count=len(distinct)).astype(np.uint64)[of]
        starts = offsets_of(lengths)
        sentences.append(_hashed(hashes, starts[:-1], lengths))
        labelled.append(_hashed(hashes * np.uint64(31) + tags.astype(np.uint64), starts[:-1], lengths))
        sizes.append(lengths)
        if types and len(tags):
            sentence = np.repeat(np.arange(len(lengths)), lengths)
            spans = find_entities(torch.tensor(tags), torch.from_numpy(sentence), labels)
            kept = type_of[spans.label.numpy()] >= 0
            first, last = spans.start.numpy()[kept], spans.end.numpy()[kept]
            new = np.zeros(len(first), dtype=ENTITY)
            new["form"], new["type"] = _hashed(hashes, first, last - first), type_of[spans.label.numpy()[kept]]
            new["row"], new["words"] = done + sentence[first], last - first
            new["first"] = first - starts[sentence[first]]
            mark = np.fromiter(map(_is_mark, distinct), dtype=bool, count=len(distinct))[of]
            for number in np.flatnonzero(mark[first] | mark[last - 1]).tolist():
                new["loose"][number] = _is_loose([distinct[of[word]] for word in range(first[number], last[number])])
            entities.append(new)
        _look_at_characters(pc.binary_join(tokens, ""), done, faults)
        done += len(lengths)
    return SplitNumbers(
        sentences=np.concatenate([np.zeros(0, np.uint64), *sentences]),
        labelled=np.concatenate([np.zeros(0, np.uint64), *labelled]),
        lengths=np.concatenate([np.zeros(0, np.int64), *sizes]),
        entities=np.concatenate([np.zeros(0, ENTITY), *entities]),
        faults=faults,
    )


def _hashed(words: NDArray[np.uint64], starts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.uint64]:
    """A number for each run of words, in which their order counts; products and sums are modulo 2 ** 64."""
    inside = np.arange(lengths.sum()) - np.repeat(offsets_of(lengths)[:-1], lengths)
    powers = np.cumprod(np.full(max(lengths.max(initial=0), 1), 0x9E3779B97F4A7C15, dtype=np.uint64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(words[ranges(starts, lengths)] * powers[inside])])
    ends = offsets_of(lengths)
    return np.asarray(sums[ends[1:]] - sums[ends[:-1]], dtype=np.uint64)


def _is_mark(word: str) -> bool:
    # of other marks entities are made: 5 %, @mira, #1
    return all(unicodedata.category(character)[0] == "P" and character not in "%#@&*" for character in word)


def _is_loose(words: list[str]) -> bool:
    """Whether punctuation at the border of an entity is none of it, as the point of `Inc .` is and that of `left .`."""
    last = words[-1]
    abbreviated = last == "." and len(words) > 1 and len(words[-2]) <= 4
    closed = last in (")", "]") and words[0] not in ("(", "[") and {"(", "["} & set(words)
    return _is_mark(words[0]) or (_is_mark(last) and not abbreviated and not closed)


def _look_at_characters(joined: Any, done: int, faults: dict[str, Rows]) -> None:
    """Note the sentences, each as its words without spaces, whose encoding may be wrong."""
    import pyarrow.compute as pc

    def note(name: str, found: Any) -> None:
        faults[name].add(done + found.to_numpy(zero_copy_only=False).nonzero()[0])

    for name, pattern in FAULTS.items():
        note(name, pc.match_substring_regex(joined, pattern))
    if not pc.all(pc.string_is_ascii(joined)).as_py():
        length = pc.utf8_length(joined)
        note(DECOMPOSED, pc.less(pc.utf8_length(pc.utf8_normalize(joined, "NFC")), length))
        note(COMPOSED, pc.greater(pc.utf8_length(pc.utf8_normalize(joined, "NFD")), length))
