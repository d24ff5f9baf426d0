"""Words to windows of sub-word ids and labels, and to padded batches.

Every word is scored in exactly one window: a sentence longer than `max_seq_length` is cut at word borders into
overlapping windows, and each word belongs to the one in which it is furthest from a window edge. The only file that
uses -100 and `word_ids()`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from ner_lightning import tags
from ner_lightning.errors import InputError
from ner_lightning.pretrained import as_in_text, needs_spaces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)

IGNORE = -100  # the label that PyTorch's cross entropy leaves out

Columns = dict[str, list[list[int]] | list[int]]

_REPORTS = 20  # long words that are told of; a file that is full of them is not told word by word


class Window(NamedTuple):
    """The words [start, end) of a sentence, and which of them are scored here."""

    start: int
    end: int
    scored: list[int]


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
    ) -> None:
        self.tokenizer = tokenizer
        self.labels = list(labels)
        self.max_seq_length = max_seq_length
        self.label_all_tokens = label_all_tokens
        self._spaces = needs_spaces(tokenizer)
        # Of these kinds a space may be a sub-word of its own, as before digits (Llama 3, Qwen). It says nothing of the
        # word yet, and nothing at all to a model that looks to the left alone: the sub-word behind it is scored.
        lone = tokenizer(" ", add_special_tokens=False)["input_ids"] if self._spaces else []
        self._space_id = lone[0] if len(lone) == 1 else None
        self._prefix, self._suffix = _special_tokens(tokenizer)
        self._capacity = max_seq_length - len(self._prefix) - len(self._suffix)
        if self._capacity < 1:
            raise InputError(
                f"--data.max_seq_length={max_seq_length} leaves no room for a word beside "
                f"{len(self._prefix) + len(self._suffix)} special tokens"
            )
        self._reported: set[str] = set()  # words longer than a window, each of which is told once
        ids = {label: number for number, label in enumerate(self.labels)}
        self._continuation = [
            ids.get(tags.continuation(label), IGNORE) if label_all_tokens else IGNORE for label in self.labels
        ]

    def encode(
        self,
        sentences: Sequence[Sequence[str]],
        tag_ids: Sequence[Sequence[int]] | None = None,
        *,
        first_word: int = 0,
        first_sentence: int = 0,
    ) -> Columns:
        """Encode consecutive sentences of a split.

        Args:
            sentences: Words of each sentence; a sentence without words gives no window.
            tag_ids: Label id of each word; None where there are none (prediction).
            first_word: Position in the split of the first word of `sentences`.
            first_sentence: Position in the split of the first sentence.

        Returns:
            Columns of one row a window: `input_ids`; `labels`, -100 where there is no loss; `word_index`, the
            position of the word in the split, -1 where none is scored; `sentence_index`; `length` in sub-words.
        """
        columns: Columns = {"input_ids": [], "labels": [], "word_index": [], "sentence_index": [], "length": []}
        for number, pieces in enumerate(self._split(sentences)):
            gold = tag_ids[number] if tag_ids is not None else None
            for window in cut([len(p) for p in pieces], self._capacity):
                row = self._encode_window(pieces, gold, first_word, window)
                row["sentence_index"] = first_sentence + number
                for name, values in columns.items():
                    values.append(row[name])  # type: ignore[arg-type]
            first_word += len(pieces)
        return columns

    def align(self, words: Sequence[str], tag_ids: Sequence[int]) -> list[Piece]:
        """One sentence as the model sees it, sub-word by sub-word, for a person to read.

        Args:
            words: Words of the sentence.
            tag_ids: Label id of each word.
        """
        aligned = []
        pieces = self._split([words])[0]
        for window in cut([len(p) for p in pieces], self._capacity):
            row = self._encode_window(pieces, tag_ids, 0, window)
            inside = [words[i] for i in range(window.start, window.end) for _ in pieces[i]]
            owner = [*[None] * len(self._prefix), *inside, *[None] * len(self._suffix)]
            tokens = self.tokenizer.convert_ids_to_tokens(row["input_ids"])
            for token, word, label in zip(tokens, owner, row["labels"], strict=True):  # type: ignore[arg-type]
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
            self._spaces,
            self._prefix,
            self._suffix,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _split(self, sentences: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Sub-word ids of each word of each sentence, never none and never more than fit in a window."""
        if not any(sentences):  # the tokenizer refuses a batch without a word
            return [[] for _ in sentences]
        lists = [as_in_text(words) if self._spaces else list(words) for words in sentences]
        encoded = self.tokenizer(
            lists,
            is_split_into_words=True,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # no warning about long sentences: they are cut into windows
        )
        split = []
        for number, words in enumerate(sentences):
            pieces: list[list[int]] = [[] for _ in words]
            for word, token in zip(encoded.word_ids(number), encoded["input_ids"][number], strict=True):
                pieces[word].append(token)
            split.append([self._fit(word, ids) for word, ids in zip(words, pieces, strict=True)])
        return split

    def _fit(self, word: str, ids: list[int]) -> list[int]:
        if not ids:  # white space, control characters: the word still has to be scored
            unknown = self._space_id if self.tokenizer.unk_token_id is None else self.tokenizer.unk_token_id
            if unknown is None:
                raise InputError(f"the word {word!r} has no sub-word, and the tokenizer has no unknown token for it")
            return [unknown]
        if len(ids) > self._capacity and len(self._reported) < _REPORTS and word not in self._reported:
            self._reported.add(word)
            log.warning(
                "the word %.40r has %d sub-words, a window holds %d: the rest of the word is not seen",
                word,
                len(ids),
                self._capacity,
            )
        return ids[: self._capacity]

    def _encode_window(
        self, pieces: list[list[int]], gold: Sequence[int] | None, first_word: int, window: Window
    ) -> dict[str, list[int] | int]:
        """A row; `first_word` is the position in the split of the first word of the sentence."""
        input_ids, labels, word_index = (
            list(self._prefix),
            [IGNORE] * len(self._prefix),
            [-1] * len(self._prefix),
        )
        scored = set(window.scored)
        for word in range(window.start, window.end):
            space = len(pieces[word]) > 1 and pieces[word][0] == self._space_id
            rest = len(pieces[word]) - 1 - space
            input_ids += pieces[word]
            word_index += [-1] * space + [first_word + word if word in scored else -1] + [-1] * rest
            if gold is not None and word in scored:
                labels += [IGNORE] * space + [gold[word]] + [self._continuation[gold[word]]] * rest
            else:
                labels += [IGNORE] * len(pieces[word])
        input_ids += self._suffix
        labels += [IGNORE] * len(self._suffix)
        word_index += [-1] * len(self._suffix)
        return {"input_ids": input_ids, "labels": labels, "word_index": word_index, "length": len(input_ids)}


def cut(sizes: Sequence[int], capacity: int) -> list[Window]:
    """Cut a sentence into overlapping windows and give each word to one of them.

    Neighbouring windows share up to half of `capacity`. A word goes to the window in which the smaller of its
    distances to the two ends, in sub-words, is largest; an end of the sentence is no cut and does not count.

    Args:
        sizes: Sub-words of each word, none above `capacity`.
        capacity: Sub-words that fit in a window.

    Returns:
        Windows from left to right. Each word of the sentence is scored in exactly one of them, each window scores one.
    """
    if not sizes:
        return []
    starts = [0]  # starts[i]: sub-words before word i
    for size in sizes:
        starts.append(starts[-1] + size)
    spans = _spans(starts, capacity)
    best = [(-1.0, 0)] * len(sizes)  # of each word: distance to the nearer cut, window
    for number, (start, end) in enumerate(spans):
        for word in range(start, end):
            left = starts[word] - starts[start] if start else float("inf")
            right = starts[end] - starts[word + 1] if end < len(sizes) else float("inf")
            if min(left, right) > best[word][0]:
                best[word] = (min(left, right), number)
    scored: list[list[int]] = [[] for _ in spans]
    for word, (_, number) in enumerate(best):
        scored[number].append(word)
    return [Window(*span, words) for span, words in zip(spans, scored, strict=True) if words]


def _spans(starts: list[int], capacity: int) -> list[tuple[int, int]]:
    words = len(starts) - 1
    spans: list[tuple[int, int]] = []
    start = 0
    while True:
        end = start
        while end < words and starts[end + 1] - starts[start] <= capacity:
            end += 1
        if end == words:
            while start and starts[words] - starts[start - 1] <= capacity:
                start -= 1  # the last window reaches back as far as it can: more context costs nothing
            return [*spans, (start, end)]
        spans.append((start, end))
        # the next word must fit beside what is repeated
        shared = min(capacity // 2, capacity - (starts[end + 1] - starts[end]))
        following = end
        while following - 1 > start and starts[end] - starts[following - 1] <= shared:
            following -= 1
        start = following


@dataclass(frozen=True)
class Collator:
    """Pad windows to the longest of their batch.

    Args:
        num_words: Words in the whole split, which the score needs to know that none is missing.
        pad_token_id: Id that fills `input_ids`; its attention mask is 0.
        multiple: Pad to a multiple of this, 8 on a GPU for its matrix units.
        max_seq_length: Never pad beyond this, where the positions of the model may end.
    """

    num_words: int
    pad_token_id: int
    multiple: int
    max_seq_length: int

    def __call__(self, rows: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, torch.Tensor | int]:
        """Make a batch.

        Args:
            rows: Columns as `Encoder.encode` gives them.

        Returns:
            `input_ids`, `attention_mask`, `labels`, `word_index`: (windows, length); `sentence_index`: (windows,);
            `num_words`.
        """
        longest = max(len(ids) for ids in rows["input_ids"])
        length = max(longest, min(-(-longest // self.multiple) * self.multiple, self.max_seq_length))

        def pad(values: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
            return torch.tensor([[*row, *[fill] * (length - len(row))] for row in values])

        return {
            "input_ids": pad(rows["input_ids"], self.pad_token_id),
            "attention_mask": pad([[1] * len(ids) for ids in rows["input_ids"]], 0),
            "labels": pad(rows["labels"], IGNORE),
            "word_index": pad(rows["word_index"], -1),
            "sentence_index": torch.tensor(rows["sentence_index"]),
            "num_words": self.num_words,
        }


def _special_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and behind a sentence, found by encoding one word."""
    encoded = tokenizer(["a"], is_split_into_words=True)
    of_word = [position for position, word in enumerate(encoded.word_ids()) if word is not None]
    ids = list(encoded["input_ids"])
    return ids[: of_word[0]], ids[of_word[-1] + 1 :]
