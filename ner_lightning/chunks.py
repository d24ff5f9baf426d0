"""Chunks of a file to predict, made batches of windows.

It joins `predict_file` (rows) and `encoding` (windows), and knows nothing of the model nor of what is written.
"""

from dataclasses import dataclass
from typing import Any

from ner_lightning.encoding import Collator, Encoder
from ner_lightning.predict_file import Chunk
from ner_lightning.words import Span


class EncodedChunk:
    """A chunk of which the words are known.

    Args:
        chunk: Rows as they were read.
        spans: Where the words of each row stand in its text; None where the words were given.
        num_words: Words of all rows.
    """

    # no dataclass: Lightning would walk through all of it in search of tensors

    def __init__(self, chunk: Chunk, spans: list[list[Span]] | None, num_words: int) -> None:
        self.chunk = chunk
        self.spans = spans
        self.num_words = num_words


@dataclass(frozen=True)
class ChunkCollator:
    """Encode a chunk.

    Args:
        encoder: What turns words and texts into windows.
        batch_size: Windows in a batch.
        multiple: Pad to a multiple of this, see `encoding.Collator`.
    """

    encoder: Encoder
    batch_size: int
    multiple: int

    def __call__(self, chunk: Chunk) -> tuple[EncodedChunk, list[dict[str, Any]]]:
        """Encode a chunk.

        Args:
            chunk: Rows with words, or rows with texts.

        Returns:
            The chunk, and its windows, longest first, as batches of `encoding.Collator`; `word_index` counts the words
            of the chunk.
        """
        spans = None
        if any(row.text is not None for row in chunk.rows):
            spans, columns = self.encoder.encode_texts([row.text or "" for row in chunk.rows])
            num_words = sum(map(len, spans))
        else:
            columns = self.encoder.encode([row.words for row in chunk.rows])
            num_words = sum(len(row.words) for row in chunk.rows)
        collate = Collator(
            num_words=num_words,
            pad_token_id=self.encoder.tokenizer.pad_token_id or 0,
            multiple=self.multiple,
            max_seq_length=self.encoder.max_seq_length,
        )
        lengths: list[int] = columns["length"]  # type: ignore[assignment]
        order = sorted(range(len(lengths)), key=lambda window: -lengths[window])
        batches = []
        for start in range(0, len(order), self.batch_size):
            windows = order[start : start + self.batch_size]
            rows: Any = {name: [values[window] for window in windows] for name, values in columns.items()}
            batches.append(collate(rows))
        return EncodedChunk(chunk, spans, num_words), batches
