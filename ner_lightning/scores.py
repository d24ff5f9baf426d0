"""Scores together with the data that they are of: those of validation in the checkpoint, those of a test beside it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ner_lightning.checkpoints import data_state
from ner_lightning.corpus import paths_of
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.files import digest, replacing
from ner_lightning.model import is_whole

log = logging.getLogger(__name__)


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


class TestRecord(Callback):
    """After `test`, write the scores beside the checkpoint (`best.test.json`), where its model card finds them."""

    __test__ = False  # no test, whatever pytest may think

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write them, unless only a part of the split was scored."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.ckpt_path is None or not trainer.is_global_zero or not is_whole(trainer.limit_test_batches):
            return
        if not isinstance(data, TokenClassificationDataModule):
            return
        path = Path(trainer.ckpt_path)
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        split = _split("test", values, dict(data.hparams), data.corpus.commit)
        try:
            with replacing(_beside(path)) as partial:
                record = {"checkpoint": digest(path), **asdict(split)}
                partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        except (OSError, ValueError) as error:  # a folder that cannot be written to is no reason to lose the table
            log.warning("the scores are not kept for a model card: %s", error)


def read_splits(ckpt_path: Path, checkpoint: dict[str, Any]) -> list[SplitScores]:
    """The data of a checkpoint, with what its weights scored as far as it is known."""
    splits = known_splits(checkpoint)
    path = _beside(ckpt_path)
    if path.is_file():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record.pop("checkpoint") == digest(ckpt_path):  # else of weights that were there before
                splits.append(SplitScores(**record))
        except (ValueError, TypeError, KeyError, AttributeError):  # whatever else is in it
            log.warning("%s is damaged: the scores of the test are left out; run `test` again", path)
    return splits


def known_splits(checkpoint: dict[str, Any]) -> list[SplitScores]:
    """The data that a checkpoint was trained and validated on, with the scores of its very weights, if it has any."""
    data = checkpoint.get("datamodule_hyper_parameters", {})
    commit = data_state(checkpoint).get("dataset_commit")
    if not data:  # trained with a datamodule of another kind
        return []
    splits = [_split("train", {}, data, commit)]
    if values := checkpoint.get("validation_scores"):
        splits.append(_split("validation", values, data, commit))
    return splits


def _split(name: str, values: dict[str, float], data: dict[str, Any], commit: str | None) -> SplitScores:
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


def _beside(ckpt_path: Path) -> Path:
    return ckpt_path.with_suffix(".test.json")
