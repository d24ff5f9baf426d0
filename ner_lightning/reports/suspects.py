"""Words whose true label may be wrong: those for which another label is confidently more probable.

Confident learning (Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70,
2021), word by word as cleanlab does for token classification (Wang and Mueller, Detecting Label Errors in Token
Classification Data, 2022): its `find_label_issues(filter_by="confident_learning")`, which tests compare with.

They are shown on the page, and written as tasks for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ner_lightning.files import replacing
from ner_lightning.predict.entities import EntityReader, LabelledRow
from ner_lightning.predict.forms import TaskFormat, write_tasks
from ner_lightning.readers import Row
from ner_lightning.readers.label_studio import is_task
from ner_lightning.reports.predictions import Predictions

_ROUNDING = 1e-6  # cleanlab's, below a threshold


def suspects(split: Predictions) -> list[dict[str, Any]]:
    """Sentences with words whose label may be wrong, that with the least probable label first.

    Of each such word there are its number, its label, the label that is more probable, and how probable both are.
    """
    found: dict[int, dict[str, Any]] = {}
    for word in label_issues(split.gold, split.probabilities).tolist():
        number = split.sentence_of[word]
        start, end = split.sentences[number : number + 2].tolist()
        place = split.places[number] if split.places else ""
        row = {"sentence": number + 1, "place": place, "words": split.words[start:end], "suspects": []}
        given, instead = int(split.gold[word]), int(split.probabilities[word].argmax())
        both = (round(float(split.probabilities[word, each]), 6) for each in (given, instead))
        labels = split.labels[given], split.labels[instead]
        found.setdefault(number, row)["suspects"].append([word - start, *labels, *both])
    return list(found.values())


def write_suspects(split: Predictions, path: Path, *, form: TaskFormat) -> None:
    """Write these sentences, in the same order, as tasks with the predicted entities.

    A field `suspect` tells where the sentence stands, its suspicious labels, and what is more probable.

    Args:
        split: What a run predicts.
        path: The file.
        form: Of the tasks.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        write_tasks(_labelled(split), file, form=form, entities=EntityReader(split.labels))


def _labelled(split: Predictions) -> Iterator[LabelledRow]:
    for sentence in suspects(split):
        number, words = sentence["sentence"] - 1, sentence["words"]
        start, end = split.sentences[number : number + 2].tolist()
        told = [
            f"{words[word]}: {given} ({100 * own:.0f} %), or rather {instead} ({100 * other:.0f} %)"
            for word, given, instead, own, other in sentence["suspects"]
        ]
        row = split.rows[number] if split.rows else Row(words, None, None, None, None, "", None, {})
        ids = split.predicted[start:end]
        scores = split.probabilities[np.arange(start, end), ids].tolist()
        suspect = ": ".join([*filter(None, [sentence["place"]]), "; ".join(told)])
        yield LabelledRow(_with_field(row, suspect), [split.labels[each] for each in ids], scores)


def _with_field(row: Row, suspect: str) -> Row:
    if is_task(row.record):
        return row._replace(record={**row.record, "data": {**row.record["data"], "suspect": suspect}})
    record = {} if row.lines is not None else row.record  # of a table with one word a row it has columns
    return row._replace(lines=None, record={**record, "suspect": suspect})


def label_issues(label_ids: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Numbers of the words with a suspicious label, the least probable label first.

    A word counts for the labels that are at least as probable as they are on average where they are given, of several
    for the most probable one. Where that is not its own label, and its own is not the most probable one, it is listed.

    Args:
        label_ids: Given label of each word, (words,).
        probabilities: Of each label, by a model that was not trained on these words, (words, labels).
    """
    own = probabilities[np.arange(len(label_ids)), label_ids].astype(np.float64)
    times = np.bincount(label_ids, minlength=probabilities.shape[1])
    sums = np.bincount(label_ids, weights=own, minlength=probabilities.shape[1])
    average = np.where(times > 0, sums / np.maximum(times, 1), np.inf)  # nothing is known of a label that is not given
    confident = probabilities >= average - _ROUNDING  # (words, labels)
    several = confident.sum(1) > 1
    meant = np.where(several, probabilities.argmax(1), confident.argmax(1))
    issue = confident.any(1) & (meant != label_ids) & (probabilities.argmax(1) != label_ids)
    numbers = np.flatnonzero(issue)
    return numbers[own[numbers].argsort(kind="stable")]
