"""The score of a split: every word counts once, whatever batch, window or process it came from.

Holds `EntityScore`, a torchmetrics Metric that puts each word's prediction in its place and lets seqeval
score whole sentences. It takes words by their number in the split and needs no batches, sub-words or tokenizers.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ner_lightning.calibration import Calibration, calibrate, calibration_error, scored_entities
from ner_lightning.errors import InputError
from ner_lightning.intervals import f1_interval
from ner_lightning.notebook import Scores
from ner_lightning.tags import is_entity_scheme

_NAMES = ("precision", "recall", "f1", "support")
_Numbers = tuple[float, float, float, float]  # in the order of _NAMES


class EntityScore(Metric):
    """Entity precision, recall and F1 as seqeval counts them, over words collected in any order.

    Every word carries its number in the split. A word that is given twice, in another batch or
    by another process, counts once; a missing word is an error and not a lower score.

    With labels that are no entity scheme (part-of-speech tags), precision, recall and F1 are the means over
    the labels in use (macro), and numbers by label take the place of those by type.

    Args:
        labels: Label names in the order of their ids; entity labels in IOB2.
        mode: `default` reads ill-formed tags as conlleval does (an `I-PER` after `O` begins an entity);
            `strict` counts only entities that are well-formed in IOB2.
        allow_missing: Score the words that were given even if some are missing, for runs over a part of a split.
        mend: What makes the labels of windows those of sentences, `decoding.Grammar.mend`; by default they stay.
        confidence: Of the logits of the words, add their `loss`, the mean cross-entropy; `fit` makes a calibration,
            which is then in `calibration`, and adds its `temperature`; `measure` adds the calibration error of
            entities with the `calibration` that is set, and before it.
        interval: Of entities, add the 95 % interval of F1 by bootstrap, see `intervals.f1_interval`, and keep what it
            is made of as `counts`.

    Examples:
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
        mend: Callable[[Tensor, Tensor], Tensor] | None = None,
        confidence: Literal["fit", "measure"] | None = None,
        interval: bool = False,
    ) -> None:
        super().__init__()
        if mode not in ("default", "strict"):
            raise InputError(f"mode must be default or strict, not {mode}")
        self.labels = list(labels)
        self.mode = mode
        self.allow_missing = allow_missing
        self._mend = mend
        self.confidence = confidence
        self.calibration: Calibration | None = None
        # for `confidence`: whether `compute` leaves its words in `words`, as the arguments of `scored_entities`
        self.keep_words = False
        self.words: tuple[Tensor, Tensor, Tensor, Tensor, list[str]] | None = None
        self._entities = is_entity_scheme(labels)
        self.interval = interval and self._entities
        # by type, how many entities of each document (or sentence) were right, predicted and gold: (units, 3)
        self.counts: dict[str, NDArray[np.int64]] = {}
        # one flat vector per update, of 32 bits: five numbers a word, and the bits of its logits: one collective for
        # all of them, and of one dimension, as is the empty vector that torchmetrics puts in for a process that saw
        # nothing
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("num_words", default=torch.tensor(0), dist_reduce_fx="max")

    @property
    def dtype(self) -> torch.dtype:
        """Type of that empty vector, which is gathered together with the integers of other processes."""
        return torch.int32

    def update(
        self,
        word_index: Tensor,
        predictions: Tensor,
        targets: Tensor,
        sentence_index: Tensor,
        num_words: int,
        document_index: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> None:
        """Add words: any number, in any order; one that is added again counts once.

        Args:
            word_index: Position of each word in its split, from 0.
            predictions: Predicted label id of each word.
            targets: Gold label id of each word.
            sentence_index: The sentence of each word; words of a sentence have consecutive positions.
            num_words: Words in the whole split.
            document_index: The document of each word, whole numbers; by default each sentence is one.
            logits: (words, labels), for `confidence`.
        """
        documents = sentence_index if document_index is None else document_index
        columns = (word_index, predictions, targets, sentence_index, documents)
        if any(column.shape != (word_index.numel(),) or column.is_floating_point() for column in columns):
            given = ", ".join(f"{str(column.dtype)[6:]} {list(column.shape)}" for column in columns)
            raise ValueError(f"expected vectors of whole numbers, one number a word, got {given}")
        assert isinstance(self.rows, list), "update() between sync() and unsync()"
        rows = torch.stack([column.to(torch.int32) for column in columns], dim=1)
        if self.confidence is not None:
            assert logits is not None, "confidence is that of logits"
            rows = torch.cat([rows, logits.float().view(torch.int32)], dim=1)
        self.rows.append(rows.flatten())
        self.num_words = self.num_words.clamp(min=num_words)

    def compute(self) -> Scores:
        """Score the words that were added.

        Returns:
            `f1`, `precision`, `recall`, `accuracy` (of words), `support` and `words`, and for each type
            `precision_TYPE`, `recall_TYPE`, `f1_TYPE` and `support_TYPE`; with `interval` `interval_low` and
            `interval_high`, and `interval_documents`, how many were drawn, or `interval_sentences`, where all of them
            are of one document.
        """
        rows = self._rows_by_word()
        word_index, predictions, targets, sentence_index, document_index = rows[:, :5].unbind(dim=1)
        num_words = int(self.num_words)
        assert bool(((word_index >= 0) & (word_index < num_words)).all()), "a word outside its split"
        if len(word_index) < num_words and not self.allow_missing:
            gaps = (word_index != torch.arange(len(word_index))).nonzero()
            first = int(gaps[0]) if len(gaps) else len(word_index)
            raise RuntimeError(
                f"words scored {len(word_index):,} of {num_words:,}: the others never reached the score, the "
                f"first is word {first:,} of its split (from 0); for a run over a part use allow_missing"
            )
        if self._mend is not None:
            predictions = self._mend(predictions.long(), sentence_index)
        if self._entities:
            borders = (sentence_index.diff() != 0).nonzero().flatten() + 1
            gold, predicted = (self._sentences(ids, borders.tolist()) for ids in (targets, predictions))
            overall, by_type = _entity_scores(gold, predicted, mode=self.mode)
            types = {label[2:] for label in self.labels if label != "O"}
        else:
            overall, by_type = _label_scores(targets, predictions, labels=self.labels)
            types = set(self.labels)
        scores = dict(zip(_NAMES, overall, strict=True))
        scores["accuracy"] = int((predictions == targets).sum()) / max(len(targets), 1)
        scores["words"] = float(len(targets))
        # a type that occurs nowhere has its zeros too, so that every epoch logs the same names
        names = sorted(types | by_type.keys())
        for name in names:
            numbers = by_type.get(name, (0.0, 0.0, 0.0, 0.0))
            scores |= {f"{key}_{name}": number for key, number in zip(_NAMES, numbers, strict=True)}
        if self.confidence is not None:
            words = predictions.long(), targets.long(), sentence_index, self.labels
            logits = rows[:, 5:].contiguous().view(torch.float32)
            scores["loss"] = float(functional.cross_entropy(logits, targets.long(), reduction="sum")) / max(
                len(rows), 1
            )
            scores |= self._confidence(logits, *words)
            if self.keep_words:
                self.words = (logits, *words)
        if self.interval and len(targets):
            counts = _counts(gold, predicted, types=names, mode=self.mode)
            documents, of = torch.unique(document_index[[0, *borders.tolist()]], return_inverse=True)
            unit = "sentences" if len(documents) == 1 else "documents"
            if unit == "documents":
                counts = torch.zeros(len(documents), len(names), 3, dtype=torch.int64).index_add_(0, of, counts)
            self.counts = {name: counts[:, column].numpy() for column, name in enumerate(names)}
            low, high = f1_interval(counts.sum(1).numpy())
            scores |= {"interval_low": low, "interval_high": high, f"interval_{unit}": float(len(counts))}
        return Scores(scores)

    def _confidence(self, logits: Tensor, *words: Any) -> dict[str, float]:
        if self.confidence == "fit":
            self.calibration = calibrate(logits, *words)
            return {"temperature": self.calibration.temperature}
        scores = {"calibration_error": calibration_error(*scored_entities(logits, *words)[:2])}
        if self.calibration is not None:
            temperature = self.calibration.temperature
            after = calibration_error(*scored_entities(logits / temperature, *words)[:2])
            scores |= {"calibration_error_before": scores["calibration_error"], "calibration_error": after}
            scores["temperature"] = temperature
        return scores

    def _rows_by_word(self) -> Tensor:
        """One row for each word seen, by position: five columns in the order of `update`, and the bits of logits."""
        flat = dim_zero_cat(self.rows) if len(self.rows) else torch.empty(0, dtype=torch.int32)
        rows = flat.cpu().view(-1, 5 + (len(self.labels) if self.confidence is not None else 0))
        ids = rows[:, 1:3]
        assert bool(((ids >= 0) & (ids < len(self.labels))).all()), "a label id that is none of the labels"
        # of one word the smallest predicted id comes first and stays: which one stays must not depend on the
        # order of updates, should two processes ever disagree
        rows = rows[(rows[:, 0].long() * len(self.labels) + rows[:, 1]).argsort()]
        again = rows[1:, 0] == rows[:-1, 0]
        assert torch.equal(rows[1:, 2:5][again], rows[:-1, 2:5][again]), (
            "a word with two targets, sentences or documents"
        )
        return rows[torch.cat([torch.ones(min(len(rows), 1), dtype=torch.bool), ~again])]

    def _sentences(self, ids: Tensor, borders: list[int]) -> list[list[str]]:
        tags = [self.labels[i] for i in ids.tolist()]
        return [tags[start:end] for start, end in pairwise([0, *borders, len(tags)])]


def _counts(
    gold: list[list[str]], predicted: list[list[str]], *, types: list[str], mode: Literal["default", "strict"]
) -> Tensor:
    """Entities of each sentence that are right, predicted and gold, as seqeval finds them: (sentences, types, 3)."""
    if mode == "strict":
        from seqeval.scheme import IOB2, Entities

        of_both = (Entities(tags, IOB2).entities for tags in (gold, predicted))
        found = [[{(e.tag, e.start, e.end) for e in sentence} for sentence in entities] for entities in of_both]
    else:
        from seqeval.metrics.sequence_labeling import get_entities

        found = [[set(get_entities(sentence)) for sentence in tags] for tags in (gold, predicted)]
    counts = np.zeros((len(gold), len(types), 3), dtype=np.int64)
    columns = {name: column for column, name in enumerate(types)}
    for row, (there, guess) in enumerate(zip(*found, strict=True)):
        for place, entities in enumerate((there & guess, guess, there)):
            for name, _, _ in entities:
                counts[row, columns[name], place] += 1
    return torch.from_numpy(counts)


def _entity_scores(
    gold: list[list[str]], predicted: list[list[str]], *, mode: Literal["default", "strict"]
) -> tuple[_Numbers, dict[str, _Numbers]]:
    """Seqeval's numbers over all entities, and by type.

    Its report would do in one call, but it takes twice the time and warns where nothing is an entity.
    """
    if mode == "strict":
        from seqeval.metrics.v1 import precision_recall_fscore_support
        from seqeval.scheme import IOB2, Entities

        # finding the entities takes nearly all the time: once for both calls below
        found = {"entities_true": Entities(gold, IOB2), "entities_pred": Entities(predicted, IOB2)}
        types = set().union(*(entities.unique_tags for entities in found.values()))
        score = partial(precision_recall_fscore_support, gold, predicted, scheme=IOB2, **found)
    else:
        from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

        types = {type_ for tags in (gold, predicted) for type_, _, _ in get_entities(tags)}
        score = partial(precision_recall_fscore_support, gold, predicted)
    overall = _floats(score(average="micro", zero_division=0))
    by_type = zip(*score(average=None, zero_division=0), strict=True)  # in alphabetical order
    return overall, dict(zip(sorted(types), map(_floats, by_type), strict=True))


def _label_scores(gold: Tensor, predicted: Tensor, *, labels: Sequence[str]) -> tuple[_Numbers, dict[str, _Numbers]]:
    """Means over the labels that gold or predictions use, and the numbers by label; 0 / 0 is 0."""
    counted = (gold[gold == predicted], predicted, gold)
    right, guesses, support = (torch.bincount(ids, minlength=len(labels)).double() for ids in counted)
    precision, recall = right / guesses.clamp(min=1), right / support.clamp(min=1)
    f1 = 2 * right / (guesses + support).clamp(min=1)
    by_label = torch.stack([precision, recall, f1, support], dim=1)  # (labels, 4)
    used = guesses + support > 0
    means = (by_label[used, :3].sum(dim=0) / used.sum().clamp(min=1)).tolist()
    return _floats((*means, len(gold))), dict(zip(labels, map(_floats, by_label.tolist()), strict=True))


def _floats(numbers: Iterable[float]) -> _Numbers:
    precision, recall, f1, support = (float(number) for number in numbers)
    return precision, recall, f1, support
