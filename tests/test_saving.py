"""Which checkpoints a run keeps, each whole or not at all."""

import os
import pickle
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from ner_lightning.checkpoints import newest_checkpoint, read_checkpoint
from ner_lightning.errors import InputError
from ner_lightning.saving import BestCheckpoint, LastCheckpoint, WholeCheckpointIO

# of Lightning about torch, and about loaders without workers
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


class Scripted(LightningModule):
    """One weight, four steps an epoch, and the scores that it is given."""

    def __init__(self, scores):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.scores = iter(scores)

    def training_step(self, batch, batch_idx):
        return (self.weight - batch).square().sum()

    def validation_step(self, batch, batch_idx):
        self.log("val_f1", next(self.scores), batch_size=1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def run(folder, scores, *, resume=None, callbacks=(), keep=None, **options):
    """Steps that best.ckpt and last.ckpt were saved at, and the trainer."""
    keep = keep or [BestCheckpoint(), LastCheckpoint(), *callbacks]
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=keep,
        **options,
    )
    train, validation = (DataLoader(torch.ones(size, 1), batch_size=None) for size in (4, 1))
    trainer.fit(Scripted(scores), train, validation, ckpt_path=resume)
    files = (folder / "checkpoints").glob("*")
    return {path.name: torch.load(path, weights_only=True)["global_step"] for path in files}, trainer


def test_the_last_checkpoint_moves_and_the_best_one_stays(tmp_path):
    steps, trainer = run(tmp_path, [0.5, 0.9, 0.1], max_epochs=3)
    assert steps == {"best.ckpt": 8, "last.ckpt": 12}
    assert Path(trainer.checkpoint_callback.best_model_path).name == "best.ckpt"


def test_the_last_checkpoint_holds_the_last_weights(tmp_path):
    _, trainer = run(tmp_path, [0.5, 0.4], max_epochs=2)
    kept = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(kept["weight"], trainer.lightning_module.weight)


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_a_run_that_ends_inside_its_first_epoch_keeps_its_last_state(tmp_path):
    assert run(tmp_path, [], max_steps=2)[0] == {"last.ckpt": 2}


def test_a_run_that_ends_inside_a_later_epoch_keeps_its_last_state(tmp_path):
    steps, _ = run(tmp_path, [0.5, 0.4], max_steps=6)
    assert steps["best.ckpt"] == 4
    assert steps["last.ckpt"] == 6


def test_a_run_that_validates_seldom_keeps_its_last_state(tmp_path):
    steps, _ = run(tmp_path, [0.5], max_epochs=3, check_val_every_n_epoch=2)
    assert steps == {"best.ckpt": 8, "last.ckpt": 12}


def test_a_run_that_validates_within_an_epoch_keeps_its_last_state(tmp_path):
    steps, _ = run(tmp_path, [0.1, 0.9, 0.2, 0.3], max_epochs=2, val_check_interval=2)
    assert steps == {"best.ckpt": 4, "last.ckpt": 8}


def test_a_try_run_keeps_nothing(tmp_path):
    assert run(tmp_path, [0.5], fast_dev_run=True)[0] == {}
    assert newest_checkpoint(tmp_path / "nothing") is None


def test_a_resumed_run_keeps_the_better_checkpoint_of_the_run_before(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    run(first, [0.5, 0.9], max_epochs=2)
    steps, trainer = run(second, [0.1], resume=first / "checkpoints" / "last.ckpt", max_epochs=3)
    assert steps == {"best.ckpt": 8, "last.ckpt": 12}
    assert float(trainer.checkpoint_callback.best_model_score) == pytest.approx(0.9)


def test_a_resumed_run_replaces_it_by_a_better_one(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    run(first, [0.5, 0.9], max_epochs=2)
    steps, _ = run(second, [0.95], resume=first / "checkpoints" / "last.ckpt", max_epochs=3)
    assert steps == {"best.ckpt": 12, "last.ckpt": 12}
    assert torch.load(first / "checkpoints" / "best.ckpt", weights_only=True)["global_step"] == 8


def test_a_run_that_was_moved_is_resumed_with_its_best_checkpoint(tmp_path):
    first, moved, second = tmp_path / "first", tmp_path / "moved", tmp_path / "second"
    run(first, [0.9, 0.5], max_epochs=2)
    first.rename(moved)
    steps, _ = run(second, [0.1], resume=moved / "checkpoints" / "last.ckpt", max_epochs=3)
    assert steps == {"best.ckpt": 4, "last.ckpt": 12}


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("val_loss", "min"), ("train_loss", "min"), ("val_f1", "max"), ("val_f1_PER", "max"), ("val_accuracy", "max")],
)
def test_the_better_number_of_a_known_score_is_known(monitor, mode):
    assert BestCheckpoint(monitor=monitor).mode == mode
    assert BestCheckpoint(monitor=monitor, mode="max").mode == "max"


def test_for_another_number_the_mode_is_asked_for():
    with pytest.raises(InputError, match=r"--checkpoint.monitor=my_cost: say which number is better"):
        BestCheckpoint(monitor="my_cost")
    assert BestCheckpoint(monitor="my_cost", mode="min").mode == "min"


# whole or not at all


def save_until_killed(path):
    """In a process of its own, which ends in no other way."""
    number = 0
    while True:
        number += 1
        weights = torch.full((2_000_000,), float(number))
        WholeCheckpointIO().save_checkpoint({"state_dict": {"w": weights}, "hyper_parameters": {"labels": ["O"]}}, path)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("kills", [5, pytest.param(60, marks=pytest.mark.long)])
def test_a_kill_while_it_is_written_leaves_a_checkpoint_whole(tmp_path, monkeypatch, kills):
    shared = Path("/dev/shm")  # of another file system, where there is one: what is moved from there is copied
    random.seed(0)
    path = tmp_path / "last.ckpt"
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as elsewhere:
        monkeypatch.setattr(tempfile, "tempdir", elsewhere)
        for _ in range(kills):
            child = os.fork()
            if not child:
                try:
                    save_until_killed(path)
                finally:
                    os._exit(1)
            while not path.exists():
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
            weights = read_checkpoint(path)["state_dict"]["w"]
            assert len(weights) == 2_000_000
            assert (weights == weights[0]).all()
            path.unlink()
        assert os.listdir(elsewhere) == []
    assert len(list(tmp_path.iterdir())) <= 1  # each clears what the one before it left
    WholeCheckpointIO().save_checkpoint({}, path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_checkpoints_as_they_were(tmp_path):
    for name in ("best", "last"):
        WholeCheckpointIO().save_checkpoint({"step": 1}, tmp_path / f"{name}.ckpt")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        message = r"last\.ckpt: cannot be written: File too large; kept in .*: best\.ckpt, last\.ckpt$"
        with pytest.raises(InputError, match=message):
            WholeCheckpointIO().save_checkpoint({"w": torch.zeros(1_000_000)}, tmp_path / "last.ckpt")
        with pytest.raises(InputError, match="cannot be written: File too large; no checkpoint was saved before"):
            WholeCheckpointIO().save_checkpoint({"w": torch.zeros(1_000_000)}, tmp_path / "new" / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"step": 1}
    assert not list(tmp_path.glob("**/*.partial"))


@pytest.mark.parametrize("monitor", ["val_f1", None])
def test_a_checkpoint_is_removed_for_a_better_one_when_that_stands(tmp_path, monkeypatch, monitor):
    kept = ModelCheckpoint(filename="{step}", monitor=monitor, mode="max", save_top_k=1)
    there = []

    def remove(self, path):
        there.append({file.name for file in Path(path).parent.glob("step=*")})
        Path(path).unlink()

    monkeypatch.setattr(WholeCheckpointIO, "remove_checkpoint", remove)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Full(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))

    try:
        with pytest.raises(InputError, match=r"cannot be written: File too large; kept in \S+: step=8\.ckpt$"):
            run(tmp_path, [0.5, 0.7, 0.9], max_epochs=3, keep=[kept, Full()], plugins=[WholeCheckpointIO()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert there == [{"step=4.ckpt", "step=8.ckpt"}]


def test_what_cannot_be_saved_is_no_full_disk(tmp_path):
    with pytest.raises((AttributeError, pickle.PicklingError)):
        WholeCheckpointIO().save_checkpoint({"code": lambda: None}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_every_checkpoint_of_a_trainer_is_written_beside_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "mkstemp", None)  # nothing is written elsewhere
    kept = ModelCheckpoint(filename="{step}", every_n_train_steps=2, save_top_k=-1)
    steps, _ = run(tmp_path, [0.5], max_epochs=1, callbacks=[kept], plugins=[WholeCheckpointIO()])
    assert steps == {"best.ckpt": 4, "last.ckpt": 4, "step=2.ckpt": 2, "step=4.ckpt": 4}


def test_a_place_that_is_not_on_a_disk_is_left_to_lightning(tmp_path):
    WholeCheckpointIO().save_checkpoint({"step": 1}, "memory://there/last.ckpt")
    assert WholeCheckpointIO().load_checkpoint("memory://there/last.ckpt") == {"step": 1}


def test_a_run_clears_what_killed_runs_were_writing(tmp_path):
    folder = tmp_path / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    host = socket.gethostname()
    stays = [f"last.ckpt.{host}-{os.getpid()}.partial", f"last.ckpt.another-{gone.pid}.partial", "notes.partial"]
    for name in (f"best.ckpt.{host}-{gone.pid}.partial", *stays):
        (folder / name).touch()
    run(tmp_path / "version_1", [0.5], max_epochs=1)
    assert sorted(path.name for path in folder.iterdir()) == sorted(stays)
