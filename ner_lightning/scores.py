"""Scores together with the data that they are of: those of validation in the checkpoint, those of a test beside it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ner_lightning.checkpoints import data_state
from ner_lightning.corpus import paths_of
from ner_lightning.files import digest, replacing

log = logging.getLogger(__name__)

# by type: entities of each document (or sentence) that are right, predicted and gold, (units, 3); empty for labels
Counts = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class SplitScores:
    """One split of a corpus: where it comes from (the Hub or a file), and what a model scores on it."""

    name: str  # train, validation or test
    dataset: str | None = None  # on the Hub
    config: str | None = None
    commit: str | None = None
    file: str | None = None  # its name, without its folder
    # as `EntityScore` gives them (`f1`, `f1_PER`, `words`), and `loss`; empty where nothing was scored
    scores: dict[str, float] = field(default_factory=dict)


def read_splits(ckpt_path: Path, checkpoint: dict[str, Any]) -> list[SplitScores]:
    """The data of a checkpoint, with what its weights scored as far as it is known."""
    tested, _ = read_test(ckpt_path)
    return [*known_splits(checkpoint), *([tested] if tested else [])]


def read_test(ckpt_path: Path) -> tuple[SplitScores | None, Counts]:
    """What a test of a checkpoint scored, and the counts that it kept; None where these weights were not tested."""
    path = beside(ckpt_path)
    if path.is_file():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            kept = record.pop("counts", {}).items()
            if record.pop("checkpoint") == digest(ckpt_path):  # else of weights that were there before
                counts = {name: np.array(rows, dtype=np.int64).reshape(-1, 3) for name, rows in kept}
                return SplitScores(**record), counts
        except (ValueError, TypeError, KeyError, AttributeError):  # whatever else is in it
            log.warning("%s is damaged: the scores of the test are left out; run `test` again", path)
    return None, {}


def write_test(ckpt_path: Path, split: SplitScores, counts: Counts) -> None:
    """Write beside a checkpoint what a test of it scored, with what tells these weights from later ones."""
    rows = {name: of_type.tolist() for name, of_type in counts.items()}
    record = {"checkpoint": digest(ckpt_path), **asdict(split), "counts": rows}
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in record.items())  # no line for each number
    with replacing(beside(ckpt_path)) as partial:
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def known_splits(checkpoint: dict[str, Any]) -> list[SplitScores]:
    """The data that a checkpoint was trained and validated on, with the scores of its very weights, if it has any."""
    data = checkpoint.get("datamodule_hyper_parameters", {})
    commit = data_state(checkpoint).get("dataset_commit")
    if not data:  # trained with a datamodule of another kind
        return []
    splits = [scores_of("train", {}, data, commit)]
    if values := checkpoint.get("validation_scores"):
        splits.append(scores_of("validation", values, data, commit))
    return splits


def scores_of(name: str, values: dict[str, float], data: dict[str, Any], commit: str | None) -> SplitScores:
    """A split of a corpus and its scores.

    Args:
        name: `train`, `validation` or `test`.
        values: What was logged, of this split and of others.
        data: The options of the datamodule.
        commit: The commit of the Hub dataset that was loaded; None for files.
    """
    prefix = {"train": "train_", "validation": "val_", "test": "test_"}[name]
    # the validation split may be a share of the training data
    files = data.get(f"{name}_file") or data.get("dataset_name") or data.get("train_file") or name
    return SplitScores(
        name,
        dataset=data.get("dataset_name") if commit else None,
        config=data.get("dataset_config_name") if commit else None,
        commit=commit,
        file=None if commit else ", ".join(path.name for path in paths_of(files)),
        # what is not finite was not measured, and no JSON
        scores={key.removeprefix(prefix): n for key, n in values.items() if key.startswith(prefix) and isfinite(n)},
    )


def beside(ckpt_path: Path) -> Path:
    """Where the scores of a test of this checkpoint stand."""
    return ckpt_path.with_suffix(".test.json")
