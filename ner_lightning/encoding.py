"""Words to windows of sub-word ids and labels, and to padded batches.

A window holds a sentence or, with `context`, as many sentences of a document as there is room for, with the tokenizer's
separator between them, or a sentence in the middle of its neighbours. Every word is scored in exactly one window: what
is longer than `max_seq_length` is cut at word borders into overlapping windows, and each word belongs to the one in
which it is furthest from a window edge. The only file that uses -100 and `word_ids()`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ner_lightning import tags
from ner_lightning.errors import InputError
from ner_lightning.pretrained import as_in_text, needs_spaces
from ner_lightning.windows import Windows, offsets_of, ranges

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)

IGNORE = -100  # the label that PyTorch's cross entropy leaves out

_REPORTS = 20  # long words that are told of; a file that is full of them is not told word by word


Context = Literal["sentence", "document", "file", "centred"]

OF_DOCUMENTS: tuple[Context, ...] = ("document", "centred")  # which need documents

# Sentences of a document that are cut into windows together: a longer one is parted, as if it were several. Its first
# and last sentences alone lose context by this, and a whole file may be one document.
_PASSAGE = 1000


class Window(NamedTuple):
    """The words [start, end) of a sentence, and those of them that are scored here: [first, last)."""

    start: int
    end: int
    first: int
    last: int


class Piece(NamedTuple):
    """One position of an encoded window, for reading: sub-word, its word (or None), its label (or None)."""

    token: str
    word: str | None
    label: str | None


class Encoder:
    """Cut sentences into windows and encode them.

    Args:
        tokenizer: A fast tokenizer, see `ner_lightning.pretrained.load_tokenizer`.
        labels: Label names in the order of their ids.
        max_seq_length: Sub-words in a window, special tokens included.
        label_all_tokens: Give each continuation sub-word `I-` of the word's type as its label; otherwise
            only the first sub-word carries a label. Scores read the first sub-word in both cases.
        context: What a window holds: one `sentence`; sentences of a `document`, or of a `file` whatever its documents;
            or `centred`, one sentence that is scored, with as much of its document on both sides as there is room for.

    Raises:
        InputError: `max_seq_length` leaves no room for a word between the special tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        *,
        labels: Sequence[str],
        max_seq_length: int,
        label_all_tokens: bool = False,
        context: Context = "sentence",
    ) -> None:
        self.tokenizer = tokenizer
        self.labels = list(labels)
        self.max_seq_length = max_seq_length
        self.label_all_tokens = label_all_tokens
        self.context = context
        self._spaces = needs_spaces(tokenizer)
        # Of these kinds a space may be a sub-word of its own, as before digits (Llama 3, Qwen). It says nothing of the
        # word yet, and nothing at all to a model that looks to the left alone: the sub-word behind it is scored.
        lone = tokenizer(" ", add_special_tokens=False)["input_ids"] if self._spaces else []
        self._space_id = lone[0] if len(lone) == 1 else None
        self._prefix, self._suffix = _special_tokens(tokenizer)
        self._capacity = max_seq_length - len(self._prefix) - len(self._suffix)
        # of a tokenizer without one, as GPT-2's, nothing stands between sentences
        self._separator = None if context == "sentence" else tokenizer.sep_token_id
        self._shared = self._capacity // (2 if context == "sentence" else 4)
        self._longest = self._capacity - (self._separator is not None)  # sub-words of a word, which a separator follows
        if self._longest < 1:
            raise InputError(
                f"--data.max_seq_length={max_seq_length} leaves no room for a word beside "
                f"{len(self._prefix) + len(self._suffix)} special tokens"
            )
        self._reported: set[str] = set()  # words longer than a window, each of which is told once
        ids = {label: number for number, label in enumerate(self.labels)}
        self._continuation = np.array(
            [ids.get(tags.continuation(label), IGNORE) if label_all_tokens else IGNORE for label in self.labels]
        )

    def encode(
        self,
        sentences: Sequence[Sequence[str]],
        tag_ids: Sequence[Sequence[int]] | None = None,
        *,
        documents: NDArray[np.int64] | None = None,
        sources: NDArray[np.int64] | None = None,
        first_word: int = 0,
        first_sentence: int = 0,
    ) -> Windows:
        """Encode consecutive sentences of a split.

        Args:
            sentences: Words of each sentence; a sentence without words gives no window. With `context` they are whole
                passages, see `whole_passages`.
            tag_ids: Label id of each word; None where there are none (prediction).
            documents: Number of the document of each sentence; by default each sentence is one.
            sources: Number of the file of each sentence; by default all are of one.
            first_word: Position in the split of the first word of `sentences`.
            first_sentence: Position in the split of the first sentence.

        Returns:
            The windows; `labels` are -100 where there is no loss.
        """
        ids, sizes = self._pieces(sentences)
        lengths = [len(words) for words in sentences]
        sentence = np.repeat(np.arange(len(sentences)), lengths)  # of each word
        numbers = first_sentence + np.arange(len(sentences)) if documents is None else documents
        files = np.zeros(len(sentences), dtype=np.int64) if sources is None else sources
        borders = self._passages(numbers, files)  # before each passage, in sentences
        starts = offsets_of(sizes)  # sub-words before each word
        # the sub-word of each word that is scored: the one behind a space that is a sub-word of its own
        lead = (sizes > 1) & (ids[starts[:-1]] == self._space_id) if self._space_id is not None else 0
        # the words with a separator behind them, which is one sub-word more of theirs
        passage = np.repeat(np.arange(len(borders) - 1), np.diff(borders))[sentence]
        parted = (np.diff(sentence) != 0) & (np.diff(passage) == 0) & (self._separator is not None)
        ends = np.flatnonzero(parted)
        ids = np.insert(ids, starts[ends + 1], self._separator or 0)
        sizes[ends] += 1
        starts = offsets_of(sizes)
        lead = starts[:-1] + lead
        of_words = offsets_of(lengths)
        if self.context == "centred":
            rows = self._centre(of_words, passages=of_words[borders], starts=starts)
        else:
            rows = self._cut(of_words[borders], starts)
        start, end, first, last = np.array(rows, dtype=np.int64).reshape(-1, 4).T
        owner = np.repeat(np.arange(len(sizes)), sizes)  # the word of each sub-word
        labels = np.full(len(ids), IGNORE)
        if tag_ids is not None:
            gold = np.fromiter(chain.from_iterable(tag_ids), dtype=np.int64, count=len(sizes))
            labels = self._continuation[gold][owner]
            labels[starts[:-1]] = labels[starts[ends + 1] - 1] = IGNORE
            labels[lead] = gold
        leads = np.zeros(len(ids), dtype=bool)
        leads[lead] = True

        inner = starts[end] - starts[start]  # sub-words of each window, without special tokens
        before, behind = len(self._prefix), len(self._suffix)
        offsets = offsets_of(inner + before + behind)
        of, to = ranges(starts[start], inner), ranges(offsets[:-1] + before, inner)
        here = (owner[of] >= np.repeat(first, inner)) & (owner[of] < np.repeat(last, inner))
        windows = Windows(
            input_ids=np.empty(offsets[-1], dtype=np.int32),
            labels=np.full(offsets[-1], IGNORE, dtype=np.int32),
            scored=np.zeros(offsets[-1], dtype=bool),
            sentence_index=np.full(offsets[-1], -1, dtype=np.int32),
            document_index=np.full(offsets[-1], -1, dtype=np.int32),
            offsets=offsets,
            first_word=first_word + first,
            words_before=first - of_words[sentence[first]],
            source_index=files[sentence[first]],
        )
        windows.input_ids[offsets[:-1, None] + np.arange(before)] = self._prefix
        windows.input_ids[to] = ids[of]
        windows.input_ids[offsets[1:, None] - behind + np.arange(behind)] = self._suffix
        windows.labels[to] = np.where(here, labels[of], IGNORE)
        windows.scored[to] = leads[of] & here
        windows.sentence_index[to] = first_sentence + sentence[owner[of]]
        windows.document_index[to] = numbers[sentence[owner[of]]]
        return windows

    def whole_passages(self, documents: NDArray[np.int64], sources: NDArray[np.int64] | None = None) -> int:
        """How many of some sentences can be encoded before those behind them are known.

        Args:
            documents: Number of the document of each of them, the first of which begins a passage.
            sources: Number of the file of each of them; by default all are of one.
        """
        files = np.zeros_like(documents) if sources is None else sources
        return len(documents) if self.context == "sentence" else int(self._passages(documents, files)[-2:][0])

    def align(self, words: Sequence[str], tag_ids: Sequence[int]) -> list[Piece]:
        """One sentence as the model sees it, sub-word by sub-word, for a person to read.

        Args:
            words: Words of the sentence.
            tag_ids: Label id of each word.
        """
        aligned = []
        windows, (_, sizes) = self.encode([words], [tag_ids]), self._pieces([words])
        for number, window in enumerate(cut(sizes.tolist(), self._capacity, shared=self._shared)):
            inside = [words[i] for i in range(window.start, window.end) for _ in range(sizes[i])]
            owner = [*[None] * len(self._prefix), *inside, *[None] * len(self._suffix)]
            row = windows[[number]]
            tokens = self.tokenizer.convert_ids_to_tokens(row.input_ids.tolist())
            for token, word, label in zip(tokens, owner, row.labels.tolist(), strict=True):
                aligned.append(Piece(token, word, None if label == IGNORE else self.labels[label]))
        return aligned

    def fingerprint(self) -> str:
        """A digest of all that decides the encoding: the key of its cache."""
        tokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str())
        for last_call in ("padding", "truncation"):  # says how the tokenizer was last called, here or elsewhere
            del tokenizer[last_call]
        parts = [
            tokenizer,
            self.tokenizer.unk_token_id,
            self.labels,
            self.max_seq_length,
            self.label_all_tokens,
            self.context,
            self._spaces,
            self._prefix,
            self._suffix,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _pieces(self, sentences: Sequence[Sequence[str]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Sub-words of all words, and how many each word has: never none and never more than fit in a window."""
        lengths = [len(words) for words in sentences]
        if not any(lengths):  # the tokenizer refuses a batch without a word
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        encoded = self.tokenizer(
            [as_in_text(words) if self._spaces else list(words) for words in sentences],
            is_split_into_words=True,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # no warning about long sentences: they are cut into windows
        )
        ids = np.fromiter(chain.from_iterable(encoded["input_ids"]), dtype=np.int64)
        of_sentence = (encoded.word_ids(number) for number in range(len(sentences)))
        owner = np.fromiter(chain.from_iterable(of_sentence), dtype=np.int64, count=len(ids))
        owner += np.repeat(offsets_of(lengths)[:-1], [len(row) for row in encoded["input_ids"]])
        sizes = np.bincount(owner, minlength=sum(lengths))
        return self._fit(sentences, ids, sizes)

    def _fit(
        self, sentences: Sequence[Sequence[str]], ids: NDArray[Any], sizes: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        empty = sizes == 0  # white space, control characters: the word still has to be scored
        long = sizes > self._longest
        words = list(chain.from_iterable(sentences)) if empty.any() or long.any() else []
        if empty.any():
            unknown = self._space_id if self.tokenizer.unk_token_id is None else self.tokenizer.unk_token_id
            if unknown is None:
                word = words[int(empty.argmax())]
                raise InputError(f"the word {word!r} has no sub-word, and the tokenizer has no unknown token for it")
            ids, sizes = np.insert(ids, offsets_of(sizes)[:-1][empty], unknown), np.maximum(sizes, 1)
        for number in np.flatnonzero(long).tolist():
            if len(self._reported) < _REPORTS and words[number] not in self._reported:
                self._reported.add(words[number])
                log.warning(
                    "the word %.40r has %d sub-words, a window holds %d: the rest of the word is not seen",
                    words[number],
                    sizes[number],
                    self._longest,
                )
        within = np.minimum(sizes, self._longest)
        return ids[ranges(offsets_of(sizes)[:-1], within)], within

    def _passages(self, documents: NDArray[np.int64], files: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the sentences begin that are cut into windows together, and where the last of them ends."""
        numbers = np.arange(len(documents))
        if self.context == "sentence":
            return np.arange(len(documents) + 1)
        begins = numbers == 0
        begins[1:] = np.diff(documents if self.context in OF_DOCUMENTS else files) != 0
        within = numbers - np.maximum.accumulate(np.where(begins, numbers, 0))  # sentence in its document
        return np.append(np.flatnonzero(within % _PASSAGE == 0), len(documents))

    def _cut(self, borders: NDArray[np.int64], starts: NDArray[Any]) -> list[tuple[int, ...]]:
        """`Window` over the words of all sentences, of each window; borders are those of passages, in words."""
        rows: list[tuple[int, ...]] = []
        for start, end in pairwise(borders.tolist()):
            if starts[end] - starts[start] <= self._capacity:
                rows += [(start, end, start, end)] if start < end else []
            else:
                windows = cut(np.diff(starts[start : end + 1]).tolist(), self._capacity, shared=self._shared)
                rows += [tuple(start + word for word in window) for window in windows]
        return rows

    def _centre(
        self, sentences: NDArray[np.int64], *, passages: NDArray[np.int64], starts: NDArray[Any]
    ) -> list[tuple[int, ...]]:
        """The same with a window for each sentence; what its neighbours on one side leave goes to the other side."""
        rows: list[tuple[int, ...]] = []
        within = np.searchsorted(passages, sentences[:-1], side="right")
        for passage, (first, last) in zip(within.tolist(), pairwise(sentences.tolist()), strict=True):
            room = self._capacity - (starts[last] - starts[first])
            if room <= 0 or first == last:
                rows += self._cut(np.array([first, last]), starts)
                continue
            low, high = passages[passage - 1], passages[passage]
            left = max(room // 2, room - (starts[high] - starts[last]))
            start = max(bisect_left(starts, starts[first] - left), low)
            rows.append((start, min(bisect_right(starts, starts[start] + self._capacity) - 1, high), first, last))
        return rows


def cut(sizes: Sequence[int], capacity: int, *, shared: int) -> list[Window]:
    """Cut a sentence, or what is read like one, into overlapping windows and give each word to one of them.

    A word goes to the window in which the smaller of its distances to the two ends, in sub-words, is largest; an end of
    the sentence is no cut and does not count.

    Args:
        sizes: Sub-words of each word, none above `capacity`.
        capacity: Sub-words that fit in a window.
        shared: Sub-words that neighbouring windows share at most.

    Returns:
        Windows from left to right. Each word of the sentence is scored in exactly one of them, each window scores one.
    """
    words, starts = len(sizes), offsets_of(sizes)
    spans = _spans(starts.tolist(), capacity, shared)
    best, owner = np.full(words, -1.0), np.zeros(words, dtype=np.int64)  # distance to the nearer cut, window
    for number, (start, end) in enumerate(spans):
        left = starts[start:end] - starts[start] if start else np.inf
        right = starts[end] - starts[start + 1 : end + 1] if end < words else np.inf
        distance = np.broadcast_to(np.minimum(left, right), end - start)
        better = distance > best[start:end]
        best[start:end][better] = distance[better]
        owner[start:end][better] = number
    # where a window begins to be the best one, all before it end: its words are neighbours
    bounds = np.searchsorted(owner, np.arange(len(spans) + 1)).tolist()
    return [
        Window(*span, *scored) for span, scored in zip(spans, pairwise(bounds), strict=True) if scored[0] < scored[1]
    ]


def _spans(starts: list[int], capacity: int, most: int) -> list[tuple[int, int]]:
    words = len(starts) - 1
    spans: list[tuple[int, int]] = []
    start = 0
    while True:
        end = bisect_right(starts, starts[start] + capacity) - 1
        if end == words:
            # the last window reaches back as far as it can: more context costs nothing
            return [*spans, (bisect_left(starts, starts[words] - capacity), words)]
        spans.append((start, end))
        # the next word must fit beside what is repeated
        shared = min(most, capacity - (starts[end + 1] - starts[end]))
        start = min(max(bisect_left(starts, starts[end] - shared), start + 1), end)


@dataclass(frozen=True)
class Collator:
    """Pad windows to the longest of their batch.

    Args:
        num_words: Words in the whole split, which the score needs to know that none is missing.
        pad_token_id: Id that fills `input_ids`; its attention mask is 0.
        multiple: Pad to a multiple of this, 8 on a GPU for its matrix units.
        max_seq_length: Never pad beyond this, where the positions of the model may end.
        meant_by_o: The labels that an `O` may stand for in each file, see `partial_labels`; by default `O` alone.
    """

    num_words: int
    pad_token_id: int
    multiple: int
    max_seq_length: int
    meant_by_o: NDArray[np.bool_] | None = None

    def __call__(self, windows: Windows) -> dict[str, torch.Tensor | int]:
        """Make a batch.

        Args:
            windows: Those of the batch, one or more.

        Returns:
            `input_ids`, `attention_mask`, `labels`, `word_index` (position in the split, -1 where no word is scored),
            `sentence_index`, `document_index` (numbers in the split, -1 where there is none): (windows, length);
            `words_before` (words of its sentence before the first one scored in a window): (windows,); `num_words`;
            with `meant_by_o` the row of it that each window has: (windows, labels).
        """
        longest = int(windows.lengths.max())
        length = max(longest, min(-(-longest // self.multiple) * self.multiple, self.max_seq_length))
        inside = np.arange(length) < windows.lengths[:, None]  # (windows, length)

        def pad(values: NDArray[Any], fill: int) -> NDArray[Any]:
            padded = np.full(inside.shape, fill, dtype=np.int64)
            padded[inside] = values
            return padded

        scored = pad(windows.scored, 0)
        word_index = np.where(scored, windows.first_word[:, None] + scored.cumsum(axis=1) - 1, -1)
        batch: dict[str, torch.Tensor | int] = {
            "input_ids": torch.from_numpy(pad(windows.input_ids, self.pad_token_id)),
            "attention_mask": torch.from_numpy(inside.astype(np.int64)),
            "labels": torch.from_numpy(pad(windows.labels, IGNORE)),
            "word_index": torch.from_numpy(word_index),
            "sentence_index": torch.from_numpy(pad(windows.sentence_index, -1)),
            "document_index": torch.from_numpy(pad(windows.document_index, -1)),
            "words_before": torch.from_numpy(windows.words_before),
            "num_words": self.num_words,
        }
        if self.meant_by_o is not None:
            batch["meant_by_o"] = torch.from_numpy(self.meant_by_o[windows.source_index])
        return batch


def _special_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and behind a sentence, found by encoding one word."""
    encoded = tokenizer(["a"], is_split_into_words=True)
    of_word = [position for position, word in enumerate(encoded.word_ids()) if word is not None]
    ids = list(encoded["input_ids"])
    return ids[: of_word[0]], ids[of_word[-1] + 1 :]
