"""Which checkpoints a run keeps, and what is made of files that are none."""

import os
import pickle
import random
import re
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
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from ner_lightning.checkpoints import (
    BestCheckpoint,
    LastCheckpoint,
    WholeCheckpointIO,
    newest_checkpoint,
    read_checkpoint,
)
from ner_lightning.errors import InputError

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


def run(folder, scores, *, resume=None, callbacks=(), **options):
    """Steps that best.ckpt and last.ckpt were saved at, and the trainer."""
    keep = [BestCheckpoint(), LastCheckpoint(), *callbacks]
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


@pytest.fixture
def whole(tmp_path):
    """A checkpoint as this program writes it, in what a reader asks of it."""
    path = tmp_path / "whole.ckpt"
    torch.save({"state_dict": {"w": torch.arange(1000.0)}, "hyper_parameters": {"labels": ["O", "B-X"]}}, path)
    return path


def test_a_whole_checkpoint_is_read(whole):
    checkpoint = read_checkpoint(str(whole))
    assert checkpoint["hyper_parameters"] == {"labels": ["O", "B-X"]}
    assert torch.equal(checkpoint["state_dict"]["w"], torch.arange(1000.0))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.ckpt: expected a checkpoint, found no such file"):
        read_checkpoint(tmp_path / "nothing.ckpt")


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r": expected a checkpoint, found a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("part", [0, 1, 10, 100, 0.25, 0.5, 0.9, -100, -1])
def test_a_checkpoint_cut_short_is_refused(whole, part):
    content = whole.read_bytes()
    whole.write_bytes(content[: int(part * len(content)) if isinstance(part, float) else part])
    with pytest.raises(InputError, match=r"whole\.ckpt: not a whole checkpoint of this program"):
        read_checkpoint(whole)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=80) | st.binary(max_size=40).map(lambda rest: b"\x80\x02" + rest))
def test_garbage_is_refused_whatever_it_is(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "garbage.ckpt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a whole checkpoint|a file of another program"):
        read_checkpoint(path)


class Touch:
    """Pickled code that leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_code_in_a_checkpoint_does_not_run(tmp_path, save):
    trace = tmp_path / "trace"
    save({"state_dict": {}, "hyper_parameters": {"labels": Touch(trace)}}, tmp_path / "code.ckpt")
    with pytest.raises(InputError, match="not a whole checkpoint"):
        read_checkpoint(tmp_path / "code.ckpt")
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"w": torch.zeros(2)},  # the weights of a Hugging Face folder
        {"state_dict": {}},  # Lightning without hyperparameters
        {"state_dict": {}, "hyper_parameters": {"lr": 0.1}},
        {"epoch": 1, "hyper_parameters": {"labels": ["O"]}},
        torch.zeros(2),
        [1, 2],
    ],
)
def test_a_checkpoint_of_other_software_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="a file of another program, without the labels"):
        read_checkpoint(tmp_path / "other.ckpt")


@pytest.fixture
def runs(tmp_path):
    """Make a run's folder with some checkpoints; later ones are newer."""
    made = []

    def make(name, *kinds, model="a"):
        folder = tmp_path / name / "checkpoints"
        folder.mkdir(parents=True)
        for kind in kinds:
            content = {"state_dict": {}, "hyper_parameters": {"labels": ["O"], "model_name_or_path": model}}
            torch.save(content, folder / f"{kind}.ckpt")
        made.append(name)
        for path in (*folder.iterdir(), folder):
            os.utime(path, (1e9 + len(made), 1e9 + len(made)))
        return folder

    return make


def test_the_newest_run_is_found_at_any_depth(tmp_path, runs):
    runs("z", "best", "last")
    newest = runs("b/a", "best", "last")
    assert newest_checkpoint(tmp_path) == newest / "best.ckpt"
    assert newest_checkpoint(tmp_path, kind="last") == newest / "last.ckpt"


def test_a_run_without_a_best_checkpoint_gives_its_last(tmp_path, runs):
    runs("a", "best", "last")
    assert newest_checkpoint(tmp_path) == tmp_path / "a" / "checkpoints" / "best.ckpt"
    newest = runs("b", "last")
    assert newest_checkpoint(tmp_path) == newest / "last.ckpt"


def test_a_folder_with_neither_is_passed_over(tmp_path, runs):
    older = runs("a", "best")
    runs("b", "epoch=1")
    assert newest_checkpoint(tmp_path) == older / "best.ckpt"


def test_runs_of_other_models_are_passed_over(tmp_path, runs):
    older = runs("a", "best", model="one")
    runs("b", "best", model="two")
    assert newest_checkpoint(tmp_path, model_name_or_path="one") == older / "best.ckpt"
    assert newest_checkpoint(tmp_path, model_name_or_path="three") is None


def test_a_run_that_writes_over_its_checkpoint_is_the_newest(tmp_path, runs):
    older = runs("a", "best", "last")
    runs("b", "best", "last")
    os.utime(older / "last.ckpt", (2e9, 2e9))  # in place, the folder stays as it was
    assert newest_checkpoint(tmp_path) == older / "best.ckpt"


def test_without_runs_there_is_none(tmp_path):
    assert newest_checkpoint(tmp_path) is None
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
@pytest.mark.parametrize("kills", [5, pytest.param(60, marks=pytest.mark.slow)])
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


def torn(path):
    path.write_bytes(path.read_bytes()[:-100])
    return path


@pytest.mark.parametrize(("kind", "other"), [("last", "best"), ("best", "last")])
def test_a_torn_checkpoint_is_passed_over_for_another_one_of_its_run(tmp_path, runs, caplog, kind, other):
    runs("a", "best", "last")
    folder = runs("b", "best", "last")
    torn(folder / f"{kind}.ckpt")
    assert newest_checkpoint(tmp_path, kind=kind) == folder / f"{other}.ckpt"
    assert re.search(rf"passing over a checkpoint: .*{kind}\.ckpt: not a whole checkpoint", caplog.text)


def test_where_both_are_torn_the_newest_other_one_is_taken_and_then_the_run_before(tmp_path, runs):
    older = runs("a", "best", "last")
    folder = runs("b", "best", "last", "epoch=1", "epoch=2")
    for name in ("best", "last"):
        torn(folder / f"{name}.ckpt")
    os.utime(folder / "epoch=1.ckpt", (2e9, 2e9))
    assert newest_checkpoint(tmp_path, kind="last") == folder / "epoch=1.ckpt"
    torn(folder / "epoch=1.ckpt")
    torn(folder / "epoch=2.ckpt")
    assert newest_checkpoint(tmp_path, kind="last") == older / "last.ckpt"


def test_a_run_that_has_no_last_checkpoint_gives_its_best(tmp_path, runs):
    folder = runs("a", "best")
    assert newest_checkpoint(tmp_path, kind="last") == folder / "best.ckpt"
