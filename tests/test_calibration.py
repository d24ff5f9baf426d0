"""Calibration against a grid, a count by hand and scipy's intervals, and from a run to its exported folder."""

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from ner_lightning import tags
from ner_lightning.__main__ import main
from ner_lightning.calibration import (
    Calibration,
    calibrate,
    calibration_error,
    find_entities,
    fit_temperature,
    scored_entities,
)
from ner_lightning.checkpoints import read_checkpoint
from ner_lightning.metrics import EntityScore
from ner_lightning.predict import Tagger, predict
from ner_lightning.readers import read

LABELS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
quick = settings(deadline=None, max_examples=50)


def words_of(seed, *, words=200, noise=1.0):
    """Logits that know the targets more or less well, and sentences of one to six words."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(len(LABELS), (words,), generator=generator)
    logits = noise * torch.randn(words, len(LABELS), generator=generator)
    logits[torch.arange(words), targets] += 2
    sentences = torch.randint(2, (words,), generator=generator).cumsum(0)
    return logits, logits.argmax(-1), targets, sentences


@quick
@given(st.integers(0, 2**32), st.sampled_from([0.7, 1.5, 3.0]))
def test_the_temperature_gives_entities_the_smallest_brier_score_of_a_grid(seed, noise):
    words = words_of(seed, noise=noise)

    def brier(temperature):
        scores, right, _ = scored_entities(words[0] / temperature, *words[1:], LABELS)
        return float(((scores - right.double()) ** 2).mean())

    best = min(brier(temperature) for temperature in np.exp(np.linspace(np.log(0.25), np.log(4), 200)))
    assert brier(fit_temperature(*words, LABELS)) <= best + 2e-4


@pytest.mark.parametrize(("targets", "temperature"), [([1, 3, 0], 0.25), ([3, 1, 0], 4.0)])
def test_the_temperature_has_limits(targets, temperature):
    logits = torch.tensor([[0, 2.0, 0, 0, 0], [0, 0, 0, 2.0, 0], [2.0, 0, 0, 0, 0]])
    words = logits.argmax(-1), torch.tensor(targets), torch.zeros(3, dtype=torch.int64)
    assert fit_temperature(logits, *words, LABELS) == pytest.approx(temperature)


@pytest.mark.parametrize("words", [0, 3])
def test_the_temperature_is_one_without_entities(words):
    ids = torch.zeros(words, dtype=torch.int64)
    assert fit_temperature(torch.randn(words, 5), ids, ids, ids, LABELS) == 1


def test_the_calibration_error_is_that_of_a_count_by_hand():
    # 15 bins of two: in the first one of two is right, and their mean is 0.8; the others are as they should be
    scores = torch.tensor([0.9, 0.7, *[1.0] * 28])
    right = torch.tensor([True, False, *[True] * 28])
    assert calibration_error(scores, right) == pytest.approx(2 / 30 * (0.8 - 0.5))
    assert calibration_error(scores.flip(0), right.flip(0)) == pytest.approx(0.02)
    assert calibration_error(torch.zeros(0), torch.zeros(0, dtype=torch.bool)) == 0


@quick
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.integers(0, 2)), max_size=30))
def test_entities_are_those_of_each_sentence_with_the_product_of_their_words(words):
    label_ids = torch.tensor([LABELS.index(tag) for tag, _ in words], dtype=torch.int64)
    sentences = torch.tensor(np.cumsum([number for _, number in words]), dtype=torch.int64)
    probabilities = torch.linspace(0.5, 1, len(words))
    found, expected = find_entities(label_ids, sentences, LABELS), []
    for _, group in groupby(range(len(words)), key=lambda word: int(sentences[word])):
        first, *_ = places = list(group)
        for type_, start, end in tags.entities([words[place][0] for place in places]):
            score = float(probabilities[first + start : first + end].prod())
            expected.append((f"B-{type_}", first + start, first + end, pytest.approx(score, abs=1e-6)))
    columns = (column.tolist() for column in (found.label, found.start, found.end, found.scores(probabilities)))
    assert [(LABELS[label], *rest) for label, *rest in zip(*columns, strict=True) if label] == [
        tuple(each) for each in expected
    ]


@quick
@given(seed=st.integers(0, 2**32), target=st.sampled_from([0.3, 0.5, 0.7, 0.9]))
def test_a_threshold_is_the_smallest_score_that_reaches_the_target(seed, target):
    words = words_of(seed, words=400, noise=0.8)
    known = calibrate(*words, LABELS)
    logits, *others = words
    scores, right, label = scored_entities(logits / known.temperature, *others, LABELS)
    for type_ in ("LOC", "PER"):
        here = label == LABELS.index(f"B-{type_}")
        own, hits = scores[here], right[here]
        reached = []
        for score in sorted(own.tolist()):
            above = hits[own >= score]
            interval = binomtest(int(above.sum()), len(above)).proportion_ci(0.9, method="wilson")
            reached.append((score, interval.low))
        least = next((score for score, low in reached if low >= target), None)
        threshold = known.threshold(type_, precision=target)
        if least is None:
            assert threshold == float("inf")
        else:  # the table leaves out gains of less than a thousandth
            assert threshold >= least - 1e-6
            assert next((score for score, low in reached if low >= target + 0.001), threshold) >= threshold - 1e-6


def test_a_right_entity_has_its_type_and_both_its_ends():
    gold = ["B-PER", "I-PER", "O", "B-LOC", "B-PER", "I-PER", "I-LOC"]
    guess = ["B-PER", "O", "O", "B-PER", "B-PER", "I-PER", "B-LOC"]
    ids = [torch.tensor([LABELS.index(tag) for tag in each]) for each in (guess, gold)]
    _, right, label = scored_entities(torch.zeros(7, 5), *ids, torch.zeros(7, dtype=torch.int64), LABELS)
    assert right.tolist() == [False, False, True, True]
    assert label.tolist() == [3, 3, 3, 1]


def test_labels_of_words_are_each_an_entity_and_have_a_temperature_alone():
    logits, label_ids, targets, sentences = words_of(0)
    labels = ["ADJ", "DET", "NOUN", "PUNCT", "VERB"]
    known = calibrate(logits, label_ids, targets, sentences, labels)
    assert known.precision == {}
    assert len(scored_entities(logits, label_ids, targets, sentences, labels)[0]) == len(targets)


@quick
@given(st.integers(0, 2**32), st.integers(1, 50))
def test_order_repetition_and_batches_change_no_calibration(seed, size):
    logits, label_ids, targets, sentences = words_of(seed)
    score = EntityScore(LABELS, confidence="fit")
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    for words in torch.cat([order, order[:7]]).split(size):
        columns = (column[words] for column in (label_ids, targets, sentences))
        score.update(words, *columns, len(targets), logits=logits[words])
    temperature = score.compute()["temperature"]
    assert score.calibration == calibrate(logits, label_ids, targets, sentences, LABELS)
    test = EntityScore(LABELS, confidence="measure")
    test.update(
        order, *(column[order] for column in (label_ids, targets, sentences)), len(targets), logits=logits[order]
    )
    before = test.compute()
    test.calibration, test._computed = score.calibration, None
    after = test.compute()
    assert "temperature" not in before
    assert after["temperature"] == temperature
    assert after["calibration_error_before"] == before["calibration_error"]
    assert after["f1"] == before["f1"]


def test_a_run_keeps_its_calibration_and_everything_uses_it(conll_files, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = [f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation", "test")]
    options = [f"--model.model_name_or_path={tiny_model}", "--data.max_seq_length=9", *files]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    fit = ["--model.learning_rate=5e-2", "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1"]
    assert main(["fit", *options, *quiet, *fit]) == 0
    checkpoint = read_checkpoint("runs/version_0/checkpoints/best.ckpt")
    known = Calibration(**checkpoint["calibration"])
    assert known.temperature == pytest.approx(checkpoint["validation_scores"]["val_temperature"])
    capsys.readouterr()
    assert main(["test", *quiet]) == 0
    assert f"before temperature {known.temperature:.2f}" in capsys.readouterr().out
    scores = json.loads(Path("runs/version_0/checkpoints/best.test.json").read_text())["scores"]
    assert {"calibration_error", "calibration_error_before", "temperature"} <= scores.keys()
    assert main(["export", "--output=exported"]) == 0
    assert json.loads(Path("exported/config.json").read_text())["calibration"] == checkpoint["calibration"]
    assert "Expected calibration error of entities" in Path("exported/README.md").read_text()
    words = [row.words for row in read(conll_files / "train.conll")]
    run, exported, strong = (
        Tagger.load(model, **more) for model, more in (("runs", {}), ("exported", {}), ("exported", {"min_score": 0.1}))
    )
    assert run(words) == exported(words)
    predict([str(conll_files / "train.conll")], model="runs", output="out.jsonl", format="jsonl", min_score=0.1)
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["entities"] for row in rows] == strong(words)
    assert all(entity["score"] >= 0.1 for row in rows for entity in row["entities"])
