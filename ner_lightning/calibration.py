"""Confidence that people can act on: how probable an entity is, and from which score on enough entities are right.

The score of an entity is the product of the probabilities of its labels. One temperature divides all logits, which
changes no label, and makes the scores as high as they are right (Guo et al., On Calibration of Modern Neural Networks,
ICML 2017; here it is fitted to entities, by Brier's score). Both it and the table of precision are of the validation
split, and are kept with the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ner_lightning.decoding import changes, probabilities
from ner_lightning.tags import is_entity_scheme, opening

BINS = 15
_Z = 1.645  # of a normal distribution 95 % lie below it


@dataclass(frozen=True)
class Calibration:
    """What validation tells of the scores of a model; plain numbers, for checkpoints and config.json.

    Args:
        temperature: What logits are divided by.
        precision: By type of entities, with rising score: a score, what the precision of entities from it on is at
            least (with a probability of 95 %: few entities say little), and how many these were. Only scores with a
            higher one than all lower scores are there.
    """

    temperature: float = 1.0
    precision: dict[str, list[list[float]]] = field(default_factory=dict)

    def threshold(self, type_: str, *, precision: float) -> float:
        """The smallest score from which on entities have a precision; infinite where none is known to have it.

        Args:
            type_: Type of the entities.
            precision: From 0 to 1.
        """
        return next((row[0] for row in self.precision.get(type_, []) if row[1] >= precision), math.inf)


class Entities(NamedTuple):
    """Entities of words in their order, and words outside of any, each of which is one by itself.

    Args:
        start: Number of the first word, (entities,).
        end: Number of the word behind the last one, (entities,).
        label: The label that opens it, (entities,).
        of_word: The number of the entity of each word, (words,).
    """

    start: Tensor
    end: Tensor
    label: Tensor
    of_word: Tensor

    def scores(self, probabilities: Tensor) -> Tensor:
        """The product of the probabilities of the labels of each entity, (entities,).

        Args:
            probabilities: Of the label of each word, (words,).
        """
        product = torch.ones(len(self.start), dtype=probabilities.dtype)
        return product.scatter_reduce(0, self.of_word, probabilities, "prod")


def find_entities(label_ids: Tensor, sentence_index: Tensor, labels: Sequence[str]) -> Entities:
    """Read the entities of words as conlleval does; labels that mark none (POS) make each word one.

    Args:
        label_ids: Of each word, (words,).
        sentence_index: The sentence of each word, (words,).
        labels: Label names in the order of their ids.
    """
    ids = {label: number for number, label in enumerate(labels)}
    openings = [ids.get(opening(label), ids[label]) if is_entity_scheme(labels) else ids[label] for label in labels]
    opened = torch.tensor(openings)[label_ids]
    starts = changes(sentence_index) | (opened == label_ids) | (opened != opened.roll(1))
    start = starts.nonzero()[:, 0]
    end = torch.cat([start[1:], start.new_full((min(len(start), 1),), len(label_ids))])
    return Entities(start, end, opened[start], starts.cumsum(0) - 1)


def fit_temperature(
    logits: Tensor, label_ids: Tensor, targets: Tensor, sentence_index: Tensor, labels: Sequence[str]
) -> float:
    """Find the temperature, from 1/4 to 4, with which the scores of predicted entities have the smallest Brier score.

    That is what people act on: the likelihood of all labels, which Guo et al. take, says that scores are surer, since
    most labels are `O`. Without entities it is 1. Arguments as of `calibrate`.
    """
    found, words, right = _predicted_entities(label_ids, targets, sentence_index, labels)
    logits, label_ids, hits = logits[words], label_ids[words], right.double()

    def brier(temperature: float) -> float:
        scores = found.scores(probabilities(logits, label_ids, temperature=temperature))
        return float((scores - hits).square().mean())

    best, factor = 1.0, 4.0  # a grid over all of it, and a finer one between the neighbours of the best
    for _ in range(2 if len(right) else 0):
        steps = (best * factor ** (step / 8) for step in range(-8, 9))
        best = min((min(max(temperature, 1 / 4), 4.0) for temperature in steps), key=brier)
        factor **= 1 / 8
    return best


def calibration_error(scores: Tensor, right: Tensor) -> float:
    """Expected calibration error: how far scores are from the share of right ones, over bins of equal size.

    Args:
        scores: Of entities, (entities,).
        right: Which of them are right, (entities,).
    """
    order = scores.argsort()
    bins = zip(scores[order].double().tensor_split(BINS), right[order].double().tensor_split(BINS), strict=True)
    return sum(abs(float(each.sum() - hits.sum())) for each, hits in bins) / max(len(scores), 1)


def calibrate(
    logits: Tensor, label_ids: Tensor, targets: Tensor, sentence_index: Tensor, labels: Sequence[str]
) -> Calibration:
    """Make the calibration of a model from the words of a validation split, in their order.

    Args:
        logits: (words, labels), float32.
        label_ids: Predicted label of each word, (words,).
        targets: True label of each word, (words,).
        sentence_index: The sentence of each word, (words,).
        labels: Label names in the order of their ids.
    """
    temperature = fit_temperature(logits, label_ids, targets, sentence_index, labels)
    if not is_entity_scheme(labels):
        return Calibration(temperature)
    scores, right, label = scored_entities(logits / temperature, label_ids, targets, sentence_index, labels)
    tables = {labels[i][2:]: _precision(scores[label == i], right[label == i]) for i in sorted(set(label.tolist()))}
    return Calibration(temperature, {type_: table for type_, table in tables.items() if table})


def scored_entities(
    logits: Tensor, label_ids: Tensor, targets: Tensor, sentence_index: Tensor, labels: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Score, whether it is right, and opening label of each predicted entity; arguments as of `calibrate`."""
    found, words, right = _predicted_entities(label_ids, targets, sentence_index, labels)
    return found.scores(probabilities(logits[words], label_ids[words])), right, found.label


def _predicted_entities(
    label_ids: Tensor, targets: Tensor, sentence_index: Tensor, labels: Sequence[str]
) -> tuple[Entities, Tensor, Tensor]:
    """Predicted entities, with `of_word` for their own words alone; which words these are; which entities are right."""
    found, gold = (find_entities(ids, sentence_index, labels) for ids in (label_ids, targets))
    same = gold.of_word[found.start]  # the true entity at the first word of each
    right = torch.ones(len(found.start), dtype=torch.bool)
    for column in ("start", "end", "label"):
        right &= getattr(gold, column)[same] == getattr(found, column)
    inside = found.label != (labels.index("O") if "O" in labels else -1)
    words = inside[found.of_word]
    number = inside.cumsum(0) - 1
    own = Entities(found.start[inside], found.end[inside], found.label[inside], number[found.of_word[words]])
    return own, words, right[inside]


def _precision(scores: Tensor, right: Tensor) -> list[list[float]]:
    order = scores.argsort(descending=True)
    scores, hits = scores[order].double(), right[order].cumsum(0).double()
    numbers = torch.arange(1, len(scores) + 1)
    last = torch.ones(len(scores), dtype=torch.bool)
    last[:-1] = scores[1:] < scores[:-1]  # of equal scores all count
    rows = torch.stack([scores, _at_least(hits, numbers), numbers.double()], dim=1)[last].flip(0)  # with rising score
    table: list[list[float]] = []
    for score, precision, number in rows.tolist():
        if not table or precision >= table[-1][1] + 0.001:
            table.append([score, precision, int(number)])
    return table


def _at_least(hits: Tensor, numbers: Tensor) -> Tensor:
    """The lower end of Wilson's interval of a share."""
    share, z2 = hits / numbers, _Z**2 / numbers
    return (share + z2 / 2 - (z2 * share * (1 - share) + z2**2 / 4).sqrt()) / (1 + z2)
