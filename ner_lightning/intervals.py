"""How far a score could be another one on other texts of the same kind: bootstrap intervals of F1.

Documents are drawn, not sentences, where there are documents: sentences of one document share their names and their
mistakes, and an interval over sentences is too narrow. Percentile method: Efron and Tibshirani, An Introduction to the
Bootstrap (1993), chapter 13; for F1 of named entities: Berg-Kirkpatrick et al., EMNLP 2012.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK = 10_000_000  # counts of drawn units that are held at a time


class Interval(NamedTuple):
    """Within which a score lies with a probability of 95 %."""

    low: float
    high: float


def f1_interval(counts: NDArray[np.int64], *, draws: int = 1000, seed: int = 0) -> Interval:
    """The interval of micro F1, or of its mean over some runs.

    Args:
        counts: Entities of each unit (document or sentence) that are right, predicted and gold: (units, 3), or
            (runs, units, 3) of runs on the same units.
        draws: How often all units are drawn anew.
        seed: Of the draws.
    """
    runs = counts if counts.ndim == 3 else counts[None]
    return _percentiles(_f1(_resampled(runs, draws=draws, seed=seed)).mean(0))


def difference_interval(
    counts: NDArray[np.int64], others: NDArray[np.int64], *, draws: int = 1000, seed: int = 0
) -> Interval:
    """The interval of the mean F1 of some runs less that of others, on the same units: a paired bootstrap.

    Args:
        counts: (runs, units, 3), as `f1_interval` takes them.
        others: (other runs, units, 3).
        draws: How often all units are drawn anew, the same for all runs.
        seed: Of the draws.
    """
    resampled = _resampled(np.concatenate([counts, others]), draws=draws, seed=seed)
    f1 = _f1(resampled)  # (all runs, draws)
    return _percentiles(f1[: len(counts)].mean(0) - f1[len(counts) :].mean(0))


def _resampled(counts: NDArray[np.int64], *, draws: int, seed: int) -> NDArray[np.float64]:
    """Sums of the counts over each draw of the units: (runs, draws, 3)."""
    runs, units, _ = counts.shape
    if not units:
        return np.zeros((runs, draws, 3))
    generator = np.random.default_rng(seed)
    columns = counts.transpose(1, 0, 2).reshape(units, -1).astype(np.float64)  # (units, runs * 3)
    size = max(1, _BLOCK // units)
    blocks = []
    for start in range(0, draws, size):
        drawn = generator.integers(units, size=(min(size, draws - start), units))
        times = np.stack([np.bincount(row, minlength=units) for row in drawn])  # each unit in each draw
        blocks.append(times @ columns)
    return np.concatenate(blocks).reshape(draws, runs, 3).transpose(1, 0, 2)


def _f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    right, predicted, gold = np.moveaxis(counts, -1, 0)
    f1: NDArray[np.float64] = 2 * right / np.maximum(predicted + gold, 1)
    return f1


def _percentiles(values: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))
