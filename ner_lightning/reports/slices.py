"""Scores of parts of a split (by length, by what training has seen, by score), and how right scores are."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ner_lightning.calibration import BINS
from ner_lightning.reports.errors_of import RIGHT, Pair
from ner_lightning.reports.predictions import Predictions, Span

_SEEN = ("seen with this type", "seen with another type", "not seen")  # entities of training with the same words
# by the largest number of each bin: words of an entity, sub-words a word of it, words of its sentence
_WORDS: dict[float, str] = {1: "1", 2: "2", 3: "3", math.inf: "4 and more"}
_PIECES: dict[float, str] = {1: "1", 1.5: "above 1, to 1.5", 2: "to 2", 3: "to 3", math.inf: "more than 3"}
_LENGTHS: dict[float, str] = {5: "1 to 5", 10: "6 to 10", 20: "11 to 20", 40: "21 to 40", math.inf: "41 and more"}


def slices(split: Predictions, found: Sequence[Pair]) -> dict[str, list[dict[str, Any]]]:
    """Precision, recall and F1 of entities by a property of theirs: each list by its title.

    A true entity and a predicted one are each counted where its own words belong.
    """
    lengths: list[float] = np.diff(split.sentences).tolist()
    sub_words: list[int] = split.pieces.tolist()

    def pieces(span: Span) -> float:
        return sum(sub_words[span.start : span.end]) / (span.end - span.start)

    def sentence(span: Span) -> float:
        return lengths[split.sentence_of[span.start]]

    def seen(span: Span) -> str:
        assert split.seen is not None
        types = split.seen.get(" ".join(split.words[span.start : span.end]), set())
        return _SEEN[0] if span.type in types else _SEEN[1] if types else _SEEN[2]

    by = {
        "words": _by(found, _binned(lambda span: span.end - span.start, _WORDS), [*_WORDS.values()]),
        "pieces": _by(found, _binned(pieces, _PIECES), [*_PIECES.values()]),
        "sentence": _by(found, _binned(sentence, _LENGTHS), [*_LENGTHS.values()]),
    }
    return by if split.seen is None else {"seen": _by(found, seen, _SEEN), **by}


def by_type(found: Sequence[Pair], types: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each type."""
    return _by(found, lambda span: span.type, types)


def reliability(found: Sequence[Pair]) -> list[dict[str, Any]]:
    """Mean score and share of right ones of predicted entities, in bins of equal size with rising score.

    They are the bins of `calibration.calibration_error`.
    """
    scores, right = _scored(found)
    bins = zip(np.array_split(scores, BINS), np.array_split(right, BINS), strict=True)
    return [
        {"score": float(each.mean()), "right": float(hits.mean()), "entities": len(each)}
        for each, hits in bins
        if len(each)
    ]


def thresholds(found: Sequence[Pair]) -> list[dict[str, Any]]:
    """Precision, recall and F1 if predicted entities below a score are left out, for 0, 0.01, ..., 1."""
    scores, right = _scored(found)
    gold = sum(pair.gold is not None for pair in found)
    kept_right = np.append(np.cumsum(right[::-1])[::-1], 0)  # right ones from each score on
    rows = []
    for threshold in np.linspace(0, 1, 101).tolist():
        first = int(np.searchsorted(scores, threshold))
        rows.append({"threshold": round(threshold, 2), **_shares(int(kept_right[first]), len(scores) - first, gold)})
    return rows


def _scored(found: Sequence[Pair]) -> tuple[Any, Any]:
    predicted = [(pair.predicted.score, pair.kind == RIGHT) for pair in found if pair.predicted]
    scores, right = np.array([score for score, _ in predicted]), np.array([hit for _, hit in predicted], dtype=float)
    order = scores.argsort(kind="stable")
    return scores[order], right[order]


def _by(found: Sequence[Pair], name_of: Callable[[Span], str], names: Sequence[str]) -> list[dict[str, Any]]:
    counts = {name: [0, 0, 0] for name in names}  # right, predicted, gold
    for pair in found:
        if pair.gold:
            counts[name_of(pair.gold)][2] += 1
        if pair.predicted:
            counts[name_of(pair.predicted)][1] += 1
            counts[name_of(pair.predicted)][0] += pair.kind == RIGHT
    return [{"name": name, **_shares(*counts[name])} for name in names if any(counts[name])]


def _shares(right: int, predicted: int, gold: int) -> dict[str, Any]:
    """Precision and recall are None of nothing."""
    return {
        "precision": right / predicted if predicted else None,
        "recall": right / gold if gold else None,
        "f1": 2 * right / (predicted + gold) if predicted + gold else None,
        "right": right,
        "predicted": predicted,
        "gold": gold,
    }


def _binned(value: Callable[[Span], float], names: dict[float, str]) -> Callable[[Span], str]:
    ends, every = list(names), list(names.values())
    return lambda span: every[bisect_left(ends, value(span))]
