"""A run against another one: what is mended and broken, and what may be said of it."""

from dataclasses import replace

import numpy as np
import pytest

from ner_lightning.errors import InputError
from ner_lightning.intervals import difference_interval
from ner_lightning.reports.against import changes, differences, refuse_other_words, verdict
from ner_lightning.reports.errors_of import pairs

from .made import predictions, random_tags


def joined(split):
    return pairs(split.spans("gold"), split.spans("predicted"))


@pytest.fixture(scope="module")
def runs():
    """Predictions of which the second ones are right more often."""
    generator = np.random.default_rng(2)
    gold = random_tags(generator, 60)
    guesses = [
        [tags if generator.random() < share else random_tags(generator, 1)[0] for tags in gold] for share in (0.5, 0.9)
    ]
    return [predictions(gold, guessed) for guessed in guesses]


def test_changes_are_counted_by_sets(runs):
    less, more = runs
    gold = {span[:3] for span in less.spans("gold")}
    was, now = ({span[:3] for span in each.spans("predicted")} for each in runs)
    false, was_false = ({pair.predicted[1:3] for pair in joined(each) if pair.gold is None} for each in (more, less))
    told = changes(joined(more), joined(less))
    assert told["found"] == len((now - was) & gold) > told["lost"] == len((was - now) & gold) > 0
    assert told["gone"] == len(was_false - false) > told["new"] == len(false - was_false) > 0


def test_a_mended_type_is_one_change():
    gold, labels = [["B-PER", "O"]], ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    right, wrong = (predictions(gold, [[tag, "O"]], labels=labels) for tag in ("B-PER", "B-LOC"))
    assert changes(joined(right), joined(wrong)) == {"found": 1, "lost": 0, "gone": 0, "new": 0}


def test_differences_are_paired(runs):
    less, more = runs
    rows = {row["name"]: row for row in differences(more, less)}
    assert list(rows) == ["all", "LOC", "ORG", "PER"]
    counts = [np.sum(list(each.counts.values()), axis=0)[None] for each in (more, less)]
    assert rows["all"]["interval"] == difference_interval(*counts)
    assert rows["LOC"]["difference"] == more.split.scores["f1_LOC"] - less.split.scores["f1_LOC"]


def test_the_verdict_goes_both_ways_or_none(runs):
    less, more = runs
    assert verdict(differences(more, less)[0], "b").startswith("This run is better than b: +")
    assert verdict(differences(less, more)[0], "b").startswith("This run is worse than b: -")
    assert verdict(differences(less, less)[0], "b") == (
        "No difference to b can be told: +0.00, 95 % interval +0.00 to +0.00."
    )


def test_labels_that_mark_no_entities_have_no_interval():
    split = predictions([["NN", "VB"]], [["NN", "NN"]], labels=["NN", "VB"])
    first, *labels = differences(split, split)
    assert first == {"name": "all", "difference": 0.0, "interval": None}
    assert [row["name"] for row in labels] == ["NN", "VB"]
    assert "without an interval" in verdict(first, "b")


def test_other_words_and_other_labels_are_refused(runs):
    split = runs[0]
    refuse_other_words(split, runs[1])
    with pytest.raises(InputError, match=r"--against: the runs have other test data, test.conll and test.conll: give"):
        refuse_other_words(split, replace(split, words=["other", *split.words[1:]]))
    with pytest.raises(InputError, match=r"--against: the runs read other entities in the same data"):
        refuse_other_words(split, replace(split, gold=np.zeros_like(split.gold)))
