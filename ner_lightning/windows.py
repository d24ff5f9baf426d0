"""Windows as flat arrays with offsets, in memory or mapped from a file: no Python object for each sub-word.

Knows nothing of tokenizers and labels: `encoding` makes the windows, and padded batches of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows one after another; sub-words `offsets[i]` up to `offsets[i + 1]` are those of window i.

    Args:
        input_ids: (sub-words,), int32.
        labels: (sub-words,), int32.
        scored: (sub-words,), bool: where the label of a word is read.
        sentence_index: (sub-words,), int32: position in the split of the sentence; -1 at special tokens.
        document_index: (sub-words,), int32: number of its document; -1 at special tokens.
        offsets: (windows + 1,), int64, from 0.
        first_word: (windows,), int64: position in the split of the first word scored here; the others follow it.
        words_before: (windows,), int64: how many words of the sentence stand before the first one scored here.
        source_index: (windows,), int64: number of its file.
        path: The file that the arrays are mapped from; None in memory.
        digest: Stands for sub-words, labels and sentences, whatever file they came from; None in memory.
    """

    input_ids: NDArray[Any]
    labels: NDArray[Any]
    scored: NDArray[Any]
    sentence_index: NDArray[Any]
    document_index: NDArray[Any]
    offsets: NDArray[Any]
    first_word: NDArray[Any]
    words_before: NDArray[Any]
    source_index: NDArray[Any]
    path: Path | None = None
    digest: str | None = None

    @property
    def lengths(self) -> NDArray[Any]:
        """Sub-words of each window."""
        return np.diff(self.offsets)

    def distinct_ids(self, *, and_id: int) -> NDArray[np.int64]:
        """The sub-words that occur, each once, in order.

        Args:
            and_id: One that counts as well, such as the padding.
        """
        occurs = np.zeros(self.input_ids.max(initial=and_id) + 1, dtype=bool)
        occurs[and_id] = True
        for start in range(0, len(self.input_ids), 1 << 20):  # the array may be larger than memory
            occurs[self.input_ids[start : start + (1 << 20)]] = True
        return np.flatnonzero(occurs)

    def __len__(self) -> int:
        return len(self.first_word)

    def __getitem__(self, numbers: Sequence[int] | NDArray[Any]) -> Windows:
        """Gather some windows, in the order of their numbers."""
        chosen = np.asarray(numbers, dtype=np.int64)
        starts = self.offsets[chosen]
        lengths = self.offsets[chosen + 1] - starts
        places = ranges(starts, lengths)
        return Windows(
            self.input_ids[places],
            self.labels[places],
            self.scored[places],
            self.sentence_index[places],
            self.document_index[places],
            offsets_of(lengths),
            self.first_word[chosen],
            self.words_before[chosen],
            self.source_index[chosen],
        )

    def __reduce__(self) -> tuple[Any, ...]:  # a worker process maps the file itself
        return (read_windows, (self.path,)) if self.path else (Windows, astuple(self))


def ranges(starts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    """Join the numbers from each start on, as many as its length.

    Args:
        starts: The first number of each range.
        lengths: How many numbers it has.
    """
    offsets = offsets_of(lengths)
    numbers = np.arange(offsets[-1])
    numbers += np.repeat(starts - offsets[:-1], lengths)
    return numbers


def offsets_of(lengths: NDArray[Any] | Sequence[int]) -> NDArray[Any]:
    """Where each of some things begins that lie one after another, and where the last one ends.

    Args:
        lengths: How long each of them is.
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def write_windows(path: Path, parts: Iterable[Windows]) -> None:
    """Write an Arrow file of one batch, so that all of its columns are flat, with no more than a part in memory.

    Args:
        path: The file; the columns are collected in files beside it.
        parts: The windows, some at a time.
    """
    import pyarrow

    with ExitStack() as stack:
        files = {name: stack.enter_context(path.with_suffix(f".{name}").open("wb")) for name in _COLUMNS}
        sub_words, windows = 0, 0
        digests = {name: sha256() for name in ("input_ids", "labels", "sentence_index")}
        files["offsets"].write(bytes(8))
        for part in parts:
            for name, file in files.items():
                values = part.offsets[1:] + sub_words if name == "offsets" else getattr(part, name)
                content = values.astype(_COLUMNS[name]).data
                file.write(content)
                if name in digests:
                    digests[name].update(content)
            sub_words += len(part.input_ids)
            windows += len(part)

    def mapped(name: str) -> list[Any]:
        return [None, pyarrow.memory_map(str(path.with_suffix(f".{name}"))).read_buffer()]

    def column(name: str, length: int) -> Any:
        return pyarrow.Array.from_buffers(pyarrow.from_numpy_dtype(_COLUMNS[name]), length, mapped(name))

    names = ["input_ids", "labels", "scored", "sentence_index", "document_index"]
    pieces = pyarrow.StructArray.from_arrays([column(name, sub_words) for name in names], names)
    kind = pyarrow.large_list(pieces.type)
    columns = {
        "sub_words": pyarrow.Array.from_buffers(kind, windows, mapped("offsets"), children=[pieces]),
        "first_word": column("first_word", windows),
        "words_before": column("words_before", windows),
        "source_index": column("source_index", windows),
    }
    content = "".join(digest.hexdigest() for digest in digests.values())
    batch = pyarrow.record_batch(columns, metadata={"digest": sha256(content.encode()).hexdigest()})
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_windows(path: Path) -> Windows:
    """Map the windows of a file, without reading them.

    Args:
        path: What `write_windows` wrote.
    """
    import pyarrow

    batch = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_next_batch()
    rows = batch.column("sub_words")
    columns = (column.to_numpy() for column in rows.values.flatten())
    input_ids, labels, scored, sentence_index, document_index = columns
    return Windows(
        input_ids,
        labels,
        scored.view(bool),
        sentence_index,
        document_index,
        rows.offsets.to_numpy(),
        batch.column("first_word").to_numpy(),
        batch.column("words_before").to_numpy(),
        batch.column("source_index").to_numpy(),
        path,
        batch.schema.metadata[b"digest"].decode(),
    )


_COLUMNS = {
    "input_ids": np.int32,
    "labels": np.int32,
    "scored": np.uint8,  # Arrow packs bool into bits
    "sentence_index": np.int32,
    "document_index": np.int32,
    "offsets": np.int64,
    "first_word": np.int64,
    "words_before": np.int64,
    "source_index": np.int64,
}
