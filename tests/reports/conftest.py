"""Runs without training: a checkpoint with its options and scores, and what a test leaves beside it."""

import numpy as np
import pytest
import torch
import yaml

from ner_lightning.intervals import f1_interval
from ner_lightning.scores import scores_of, write_test


def f1(counts):
    right, predicted, gold = np.reshape(counts, (-1, 3)).sum(0)
    return 2 * right / max(predicted + gold, 1)


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Write a run and give its folder; the current one is that above all."""
    monkeypatch.chdir(tmp_path)

    def make(folder, *, seed=42, val=0.9, counts=None, labels=None, test_file="data/test.conll", config=None):
        """`counts`: by type, (units, 3), of a test over documents; `labels`: scores of words that are no entities."""
        path = tmp_path / folder / "checkpoints" / "best.ckpt"
        path.parent.mkdir(parents=True)
        options = {"seed_everything": seed, "trainer": {"max_epochs": 3, "default_root_dir": "runs"}, **(config or {})}
        data = {"train_file": "train.conll", "test_file": test_file}
        checkpoint = {
            "state_dict": {"seed": torch.tensor(float(seed))},  # two files do not hold the same
            "hyper_parameters": {"labels": ["O", "B-PER", "I-PER"]},
            "datamodule_hyper_parameters": data,
            "validation_scores": {"val_f1": val},
            "config": yaml.safe_dump(options),
        }
        torch.save(checkpoint, path)
        if counts is not None:
            counts = {name: np.array(rows) for name, rows in counts.items()}
            whole = np.sum(list(counts.values()), axis=0)
            low, high = f1_interval(whole)
            found = {"f1": f1(whole), "interval_low": low, "interval_high": high, "interval_documents": len(whole)}
            found |= {f"f1_{name}": f1(rows) for name, rows in counts.items()}
        if counts or labels:
            split = scores_of("test", {f"test_{name}": n for name, n in (labels or found).items()}, data, None)
            write_test(path, split, counts or {})
        return str((tmp_path / folder).relative_to(tmp_path))

    return make
