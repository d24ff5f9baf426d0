"""The bootstrap against a plain loop, and what it promises: that it covers the score of the tagger."""

import numpy as np
import pytest

from ner_lightning.intervals import difference_interval, f1_interval


def tagger(generator, *, documents, skill):
    """Counts of a tagger that finds each entity with `skill` and makes up as many as it misses, in documents that
    differ in length and in how hard they are."""
    gold = generator.geometric(0.1, size=documents)
    hard = np.clip(skill + generator.normal(0, 0.08, size=documents), 0, 1)
    right = generator.binomial(gold, hard)
    return np.stack([right, right + generator.binomial(gold, 1 - hard), gold], axis=1)


def test_the_interval_is_that_of_a_plain_loop():
    counts = tagger(np.random.default_rng(1), documents=30, skill=0.8)
    generator = np.random.default_rng(0)
    scores = []
    for _ in range(1000):
        right, predicted, gold = counts[generator.integers(30, size=30)].sum(0)
        scores.append(2 * right / (predicted + gold))
    assert f1_interval(counts) == pytest.approx(tuple(np.percentile(scores, [2.5, 97.5])))


def test_units_in_blocks_give_the_same_as_all_at_once(monkeypatch):
    counts = tagger(np.random.default_rng(1), documents=30, skill=0.8)
    whole = f1_interval(counts)
    monkeypatch.setattr("ner_lightning.intervals._BLOCK", 100)
    assert f1_interval(counts) == pytest.approx(whole)


def test_it_covers_the_score_of_the_tagger():
    generator = np.random.default_rng(0)
    sums = tagger(generator, documents=200_000, skill=0.85).sum(0)
    truth = 2 * sums[0] / (sums[1] + sums[2])
    covered = 0
    for _ in range(400):
        low, high = f1_interval(tagger(generator, documents=150, skill=0.85))
        covered += low <= truth <= high
    assert 0.93 <= covered / 400 <= 0.97


def test_equal_runs_do_not_differ():
    runs = np.stack([tagger(np.random.default_rng(seed), documents=50, skill=0.8) for seed in range(3)])
    assert difference_interval(runs, runs) == (0, 0)


def test_the_difference_is_paired():
    """A tagger that finds a little more in every third document is better for sure, however the documents differ."""
    worse = tagger(np.random.default_rng(0), documents=200, skill=0.7)
    more = (worse[:, 0] < worse[:, 1]) & (np.arange(200) % 3 == 0)
    better = worse + np.outer(more, [1, 0, 0])
    low, high = difference_interval(better[None], worse[None])
    assert 0 < low < high
    assert f1_interval(worse).high > f1_interval(better).low


@pytest.mark.parametrize("counts", [np.zeros((0, 3), int), np.zeros((5, 3), int)], ids=["no units", "no entities"])
def test_where_nothing_is_found_the_score_is_zero(counts):
    assert f1_interval(counts) == (0, 0)
