"""A run against another one on the same words: what it mended, what it broke, what may be said of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ner_lightning.errors import InputError
from ner_lightning.intervals import difference_interval
from ner_lightning.reports.errors_of import RIGHT, SPURIOUS, Pair
from ner_lightning.reports.predictions import Predictions


def refuse_other_words(split: Predictions, other: Predictions) -> None:
    """Refuse to compare predictions for other words or with other true labels.

    Raises:
        InputError: They differ.
    """
    if split.words != other.words or not np.array_equal(split.sentences, other.sentences):
        raise InputError(
            f"--against: the runs have other {split.split.name} data, {split.split.file} and {other.split.file}: give "
            "one file for both as --file"
        )
    if [span[:3] for span in split.spans("gold")] != [span[:3] for span in other.spans("gold")]:
        raise InputError(
            "--against: the runs read other entities in the same data: they were trained with other labels"
        )


def changes(found: Sequence[Pair], former: Sequence[Pair]) -> dict[str, int]:
    """What a run mended of another one and what it broke: true entities found and lost, spurious ones gone and new."""
    right, was_right = ({pair.gold for pair in each if pair.kind == RIGHT} for each in (found, former))
    spurious, was_spurious = (
        {pair.predicted[1:3] for pair in each if pair.predicted and pair.kind == SPURIOUS} for each in (found, former)
    )
    return {
        "found": len(right - was_right),
        "lost": len(was_right - right),
        "gone": len(was_spurious - spurious),
        "new": len(spurious - was_spurious),
    }


def differences(split: Predictions, other: Predictions) -> list[dict[str, Any]]:
    """By how much F1 is higher, over all and by type, with the 95 % interval of a paired bootstrap.

    Labels that mark no entities have a difference without an interval.
    """
    rows = []
    for type_ in [None, *_types(split, other)]:
        name = "f1" if type_ is None else f"f1_{type_}"
        value = split.split.scores.get(name, 0.0) - other.split.scores.get(name, 0.0)
        interval = None
        if split.counts and other.counts:
            interval = difference_interval(_counts(split, type_)[None], _counts(other, type_)[None])
        rows.append({"name": type_ or "all", "difference": value, "interval": interval})
    return rows


def verdict(overall: dict[str, Any], against: str) -> str:
    """What may be said of the difference over all, as `compare` says it.

    Args:
        overall: The first of `differences`.
        against: The name of the other run.
    """
    value = round(100 * overall["difference"], 2) + 0.0  # without -0
    if overall["interval"] is None:
        return f"The difference to {against} is {value:+.2f}, without an interval: there are no entities to draw."
    low, high = (round(100 * end, 2) + 0.0 for end in overall["interval"])
    if low <= 0 <= high:
        return f"No difference to {against} can be told: {value:+.2f}, 95 % interval {low:+.2f} to {high:+.2f}."
    word = "better" if low > 0 else "worse"
    return f"This run is {word} than {against}: {value:+.2f}, 95 % interval {low:+.2f} to {high:+.2f}."


def _types(split: Predictions, other: Predictions) -> list[str]:
    return sorted({name[3:] for each in (split, other) for name in each.split.scores if name.startswith("f1_")})


def _counts(split: Predictions, type_: str | None) -> NDArray[np.int64]:
    """Entities of each document that are right, predicted and gold: (documents, 3)."""
    every = np.stack(list(split.counts.values()))
    counts: NDArray[np.int64] = every.sum(0) if type_ is None else split.counts.get(type_, np.zeros_like(every[0]))
    return counts
