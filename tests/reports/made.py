"""Predictions without a model, for what is made of them."""

from itertools import chain

import numpy as np
import torch

from ner_lightning.metrics import EntityScore
from ner_lightning.readers import Row
from ner_lightning.reports.page import MARK, render
from ner_lightning.reports.predictions import Predictions
from ner_lightning.reports.report import numbers_of
from ner_lightning.scores import SplitScores
from ner_lightning.tags import label_list


def predictions(gold, predicted, *, words=None, probabilities=None, seen=None, labels=None):
    """Predictions for sentences of tags; a predicted tag has the probability 0.9 where nothing else is given."""
    labels = labels or label_list(chain(["O"], *gold, *predicted))
    ids = [
        np.array([labels.index(tag) for tag in chain.from_iterable(tags)], dtype=np.int64) for tags in (gold, predicted)
    ]
    lengths = [len(tags) for tags in gold]
    words = words or np.split([f"w{number}" for number in range(len(ids[0]))], np.cumsum(lengths))[:-1]
    if probabilities is None:
        probabilities = np.full((len(ids[0]), len(labels)), 0.1 / max(len(labels) - 1, 1), dtype=np.float32)
        probabilities[np.arange(len(ids[1])), ids[1]] = 0.9
    score = EntityScore(labels, interval=True, confidence="measure")
    scores, counts = {}, {}
    if len(ids[0]):
        sentence = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        targets, guesses = map(torch.from_numpy, ids)
        words_of = {"word_index": torch.arange(len(sentence)), "sentence_index": sentence, "num_words": len(sentence)}
        score.update(predictions=guesses, targets=targets, logits=torch.from_numpy(probabilities).log(), **words_of)
        scores, counts = score.compute(), score.counts
    return Predictions(
        split=SplitScores("test", file="test.conll", scores=scores),
        labels=labels,
        words=list(map(str, chain.from_iterable(words))),
        pieces=np.ones(len(ids[0]), dtype=np.int64),
        sentences=np.cumsum([0, *lengths]),
        rows=[
            Row(list(map(str, words[number])), gold[number], None, None, None, f"test.conll:{number}", None, {})
            for number in range(len(lengths))
        ],
        gold=ids[0],
        predicted=ids[1],
        probabilities=probabilities,
        counts=counts,
        seen=seen,
    )


def random_tags(generator, sentences, *, types=("LOC", "ORG", "PER"), length=12):
    """Sentences of well-formed IOB2 tags with many entities."""
    drawn = []
    for _ in range(sentences):
        tags = []
        while len(tags) < length:
            size, type_ = int(generator.integers(1, 4)), generator.choice(["", *types])
            tags += [f"B-{type_}", *[f"I-{type_}"] * (size - 1)] if type_ else ["O"] * size
        drawn.append(tags[:length])
    return drawn


def page_of(split, other=None):
    """The page of predictions."""
    about = {"made_by": MARK, "run": "runs/<b>0</b>", "checkpoint": "best.ckpt", "against": "runs/1" if other else None}
    return render(about | numbers_of(split, other, against="runs/1"))
