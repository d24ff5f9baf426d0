"""The score of a split, every word of it counted once, whatever batch, window or process it came from.

Holds `EntityScore`, a torchmetrics Metric that puts each word's prediction in its place and counts the entities of
whole sentences as seqeval does, without an object for each word. It refuses to know batches, sub-words and tokenizers:
it is told words, by number.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ner_lightning.errors import InputError
from ner_lightning.tags import is_entity_scheme

_NAMES = ("precision", "recall", "f1", "support")


class EntityScore(Metric):
    """Entity precision, recall and F1 as seqeval counts them, over words collected in any order.

    Every word carries its number in the split. A word that comes twice, in another batch or from another
    process, counts once; a word that never comes is an error and not a lower score.

    With labels that are no entity scheme (part-of-speech tags), precision, recall and F1 are the means over
    the labels in use (macro), and each label stands where a type stands otherwise.

    Args:
        labels: Label names in the order of their ids; entity labels in IOB2.
        mode: `default` reads ill-formed tags as conlleval does (an `I-PER` after `O` begins an entity);
            `strict` counts only entities that are well-formed in IOB2.
        allow_missing: Score the words that came even if some did not, for runs over a part of a split.

    Example:
        >>> from torch import tensor
        >>> score = EntityScore(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"])
        >>> words = {"word_index": tensor([2, 0, 1]), "sentence_index": tensor([1, 0, 0]), "num_words": 3}
        >>> score.update(predictions=tensor([1, 3, 0]), targets=tensor([1, 3, 4]), **words)
        >>> result = score.compute()
        >>> result["f1"], result["f1_LOC"], result["support_PER"]
        (0.5, 1.0, 1.0)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    rows: list[Tensor] | Tensor
    num_words: Tensor

    def __init__(
        self,
        labels: Sequence[str],
        *,
        mode: Literal["default", "strict"] = "default",
        allow_missing: bool = False,
    ) -> None:
        super().__init__()
        if mode not in ("default", "strict"):
            raise InputError(f"mode must be default or strict, not {mode}")
        self.labels = list(labels)
        self.mode = mode
        self.allow_missing = allow_missing
        self._entities = is_entity_scheme(labels)
        types = [label[2:] if self._entities else label for label in labels]
        self._types = sorted({type_ for type_ in types if type_})
        # of each label id: its type, -1 for O, and whether it always begins an entity
        self._type_of = torch.tensor([self._types.index(type_) if type_ else -1 for type_ in types])
        self._begins = torch.tensor([label.startswith("B-") for label in labels])
        # one flat vector per update, four numbers a word, of 32 bits as no split has two thousand million words: one
        # collective for all of them, and of one dimension, as is the empty vector that torchmetrics puts in for a
        # process that saw nothing
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("num_words", default=torch.tensor(0), dist_reduce_fx="max")

    @property
    def dtype(self) -> torch.dtype:
        """Type of that empty vector, which must be gathered together with whole numbers from the others."""
        return torch.int32

    def update(
        self, word_index: Tensor, predictions: Tensor, targets: Tensor, sentence_index: Tensor, num_words: int
    ) -> None:
        """Take in some words: any number, in any order, some of them again.

        Args:
            word_index: Position of each word in its split, from 0.
            predictions: Predicted label id of each word.
            targets: Gold label id of each word.
            sentence_index: The sentence of each word; words of a sentence have consecutive positions.
            num_words: Words in the whole split.
        """
        columns = (word_index, predictions, targets, sentence_index)
        if any(column.shape != (word_index.numel(),) or column.is_floating_point() for column in columns):
            given = ", ".join(f"{str(column.dtype)[6:]} {list(column.shape)}" for column in columns)
            raise ValueError(f"expected four vectors of whole numbers, one number a word, got {given}")
        assert isinstance(self.rows, list), "update() between sync() and unsync()"
        self.rows.append(torch.stack([column.to(torch.int32) for column in columns], dim=1).flatten())
        self.num_words = self.num_words.clamp(min=num_words)

    def compute(self) -> dict[str, float]:
        """Score what came.

        Returns:
            `f1`, `precision`, `recall`, `accuracy` (of words), `support` and `words`, and for each type
            `precision_TYPE`, `recall_TYPE`, `f1_TYPE` and `support_TYPE`.
        """
        word_index, predictions, targets, sentence_index = self._rows_by_word().unbind(dim=1)
        num_words = int(self.num_words)
        assert bool(((word_index >= 0) & (word_index < num_words)).all()), "a word outside its split"
        if len(word_index) < num_words and not self.allow_missing:
            gaps = (word_index != torch.arange(len(word_index))).nonzero()
            first = int(gaps[0]) if len(gaps) else len(word_index)
            raise RuntimeError(
                f"words scored {len(word_index):,} of {num_words:,}: the others never reached the score, the "
                f"first is word {first:,} of its split (from 0); for a run over a part use allow_missing"
            )
        if self._entities:
            counts = self._entity_counts(targets, predictions, sentence_index)
            overall = _rates(counts.sum(dim=1, keepdim=True))[0]
        else:
            counts = self._label_counts(targets, predictions)
            used = counts[1:].sum(dim=0) > 0
            overall = _rates(counts)[used].sum(dim=0) / used.sum().clamp(min=1)
            overall[3] = len(targets)
        scores = dict(zip(_NAMES, overall.tolist(), strict=True))
        scores["accuracy"] = int((predictions == targets).sum()) / max(len(targets), 1)
        scores["words"] = float(len(targets))
        # a type that occurs nowhere has its zeros too, so that every epoch logs the same names
        for name, rates in zip(self._types, _rates(counts).tolist(), strict=True):
            scores |= {f"{key}_{name}": number for key, number in zip(_NAMES, rates, strict=True)}
        return scores

    def _rows_by_word(self) -> Tensor:
        """One row for each word seen, by position: (words, 4), columns in the order of `update`."""
        flat = dim_zero_cat(self.rows) if len(self.rows) else torch.empty(0, dtype=torch.int32)
        rows = flat.cpu().view(-1, 4)
        ids = rows[:, 1:3]
        assert bool(((ids >= 0) & (ids < len(self.labels))).all()), "a label id that is none of the labels"
        # of one word the smallest predicted id comes first and stays: which one stays must not depend on the
        # order of updates, should two processes ever disagree
        rows = rows[(rows[:, 0].long() * len(self.labels) + rows[:, 1]).argsort()]
        again = rows[1:, 0] == rows[:-1, 0]
        assert torch.equal(rows[1:, 2:][again], rows[:-1, 2:][again]), "a word with two targets or sentences"
        return rows[torch.cat([torch.ones(min(len(rows), 1), dtype=torch.bool), ~again])]

    def _entity_counts(self, gold: Tensor, predicted: Tensor, sentence_index: Tensor) -> Tensor:
        """Entities that are right, predicted and there, of each type: (3, types)."""
        opens = torch.ones(len(gold), dtype=torch.bool)  # a sentence
        opens[1:] = sentence_index.diff() != 0
        start, end, type_ = self._spans(gold, opens)
        # of the gold entity that begins at a word: its end and type
        end_at, type_at = torch.zeros(2, len(gold), dtype=torch.int64)
        end_at[start], type_at[start] = end, type_
        guess, guess_end, guess_type = self._spans(predicted, opens)
        right = guess_type[(end_at[guess] == guess_end) & (type_at[guess] == guess_type)]
        return torch.stack([torch.bincount(ids, minlength=len(self._types)) for ids in (right, guess_type, type_)])

    def _spans(self, ids: Tensor, opens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Start, end and type of each entity."""
        types, begins = self._type_of[ids], self._begins[ids]
        stays = ~opens & ~begins & (types >= 0)  # inside of what began before, if that is of this type
        stays[1:] &= types[1:] == types[:-1]
        starts = (~stays).nonzero().flatten()
        ends = torch.cat([starts, torch.tensor([len(ids)])])[1:]
        entity = (begins if self.mode == "strict" else types >= 0)[starts]
        return starts[entity], ends[entity], types[starts[entity]]

    def _label_counts(self, gold: Tensor, predicted: Tensor) -> Tensor:
        """The same of each label, where a word is an entity of its own."""
        counted = (self._type_of[ids] for ids in (gold[gold == predicted], predicted, gold))
        return torch.stack([torch.bincount(types, minlength=len(self._types)) for types in counted])


def _rates(counts: Tensor) -> Tensor:
    """Precision, recall, F1 and support of right, predicted and gold: (n, 4) of (3, n); 0 / 0 is 0."""
    right, guesses, support = counts.double()
    precision, recall = right / guesses.clamp(min=1), right / support.clamp(min=1)
    f1 = 2 * precision * recall / torch.where(right > 0, precision + recall, 1)
    return torch.stack([precision, recall, f1, support], dim=1)
