"""A run that goes on from any step ends as the one that was never stopped: weights, optimizer, scores, logs."""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from lightning.pytorch import Callback
from lightning_utilities.core.rank_zero import rank_zero_only
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from ner_lightning.cli import main
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.loggers import CSVLog
from ner_lightning.model import TokenClassificationModule
from ner_lightning.saving import BestCheckpoint, LastCheckpoint
from ner_lightning.trainer import Trainer

LABELS = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint need to be provided"),
]


class Copies(LastCheckpoint):
    """Keep a copy of the checkpoint of each step."""

    def __init__(self):
        super().__init__(every_n_train_steps=1)
        self.paths = {}

    def _save_checkpoint(self, trainer, filepath):
        super()._save_checkpoint(trainer, filepath)
        self.paths[trainer.global_step] = Path(filepath).with_name(f"copy-{trainer.global_step}.ckpt")
        shutil.copy(filepath, self.paths[trainer.global_step])


@pytest.fixture
def train(conll_files, tiny_model, tmp_path):
    """Train on four sentences, one a batch, with dropout; gives the state at the end."""

    def fit(ckpt_path=None, *, callbacks=(), last=None, max_tokens=None, num_workers=0, **options):
        files = {f"{split}_file": str(conll_files / f"{split}.conll") for split in ("train", "validation")}
        size = {"batch_size": 1} if max_tokens is None else {"max_tokens": max_tokens}
        data = TokenClassificationDataModule(
            model_name_or_path=str(tiny_model), seed=0, num_workers=num_workers, **size, **files
        )
        torch.manual_seed(0)  # of the head
        model = TokenClassificationModule(model_name_or_path=str(tiny_model), labels=LABELS, learning_rate=1e-2)
        if ckpt_path is not None:  # nothing may hang on the state of a generator
            [seed(random.randrange(2**32)) for seed in (torch.manual_seed, np.random.seed, random.seed)]
        trainer = Trainer(
            accelerator="cpu",
            default_root_dir=tmp_path,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[last or LastCheckpoint(every_n_train_steps=1), *callbacks],
            **{"max_epochs": 2, **options},
        )
        trainer.fit(model, data, ckpt_path=None if ckpt_path is None else str(ckpt_path))
        return {
            **model.state_dict(),
            **{f"moment {i}": state["exp_avg"] for i, state in enumerate(trainer.optimizers[0].state.values())},
            # a run that ends within an epoch has not validated, if it went on within it
            "scores": trainer.is_last_batch and [trainer.callback_metrics[name] for name in ("val_loss", "val_f1")],
            "step": trainer.global_step,
            "epoch": trainer.current_epoch,
        }

    return fit


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name], name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate_grad_batches": 2},
        {"max_tokens": 48},
        {"val_check_interval": 2},
        {"max_steps": 7, "max_epochs": -1},
        {"num_workers": 2},
    ],
    ids=str,
)
def test_a_run_that_goes_on_from_any_step_ends_as_the_whole_one(train, monkeypatch, options):
    monkeypatch.setenv("PL_GLOBAL_SEED", "42")
    copies = Copies()
    whole = train(last=copies, **options)
    assert set(copies.paths) == set(range(1, whole["step"] + 1))
    # workers are slow to start: there one copy in an epoch, one at its end
    for step in (1, 4) if "num_workers" in options else range(1, whole["step"]):
        assert_same(train(copies.paths[step], **options), whole)


def of_two_processes(path):
    """Make a checkpoint of four batches, two a step, one of two processes with two batches each."""
    checkpoint = torch.load(path, weights_only=True)
    loop = checkpoint["loops"]["fit_loop"]
    loader, progress = loop["state_dict"]["combined_loader"][0], loop["epoch_loop.batch_progress"]["current"]
    assert (loader["position"], loader["num_replicas"]) == (2, 1)
    loader |= {"position": 1, "num_replicas": 2}
    progress |= dict.fromkeys(("ready", "started", "processed", "completed"), 1)
    torch.save(checkpoint, path)


def test_another_number_of_processes_goes_on_with_as_many_batches_a_step(train, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "42")
    copies = Copies()
    whole = train(last=copies, accumulate_grad_batches=2)
    of_two_processes(copies.paths[3])
    assert_same(train(copies.paths[3], accumulate_grad_batches=2), whole)
    with pytest.raises(InputError, match=r"num_replicas must be 2 as before.*--trainer\.accumulate_grad_batches"):
        train(copies.paths[3])


class Saves(Callback):
    """Note the steps of checkpoints, and whether they are done."""

    def __init__(self):
        self.steps, self.done = [], []

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.steps.append(checkpoint["global_step"])
        self.done.append(checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["between_steps"])


def test_the_end_of_a_validation_is_not_the_end_of_its_step(train, tmp_path):
    options = {"last": LastCheckpoint(), "val_check_interval": 2, "max_epochs": -1}
    first, second = Saves(), Saves()
    train(callbacks=[BestCheckpoint(monitor="val_loss"), first], max_steps=5, **options)
    assert list(zip(first.steps, first.done, strict=True)) == [(2, False), (2, True), (4, False), (4, False), (5, True)]
    best = BestCheckpoint(monitor="val_loss")
    train(tmp_path / "checkpoints/last.ckpt", callbacks=[best, second], max_steps=6, **options)
    assert list(zip(second.steps, second.done, strict=True)) == [(6, False), (6, True)]


def test_dropout_hangs_on_seed_and_step(train, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "42")
    one = train()
    assert_same(train(), one)
    monkeypatch.setenv("PL_GLOBAL_SEED", "43")
    assert not torch.equal(train()["moment 0"], one["moment 0"])


def test_max_steps_within_an_epoch_leave_it_unfinished(train, tmp_path):
    train(max_steps=2, max_epochs=-1)
    loops = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["loops"]["fit_loop"]
    assert loops["epoch_progress"]["total"]["processed"] == 0
    assert loops["state_dict"]["combined_loader"][0]["position"] == 2


def test_a_checkpoint_is_saved_each_so_many_steps_and_at_ends_of_epochs(train):
    saves = Saves()
    train(callbacks=[saves], last=LastCheckpoint(every_n_train_steps=3))
    assert saves.steps == [3, 4, 6, 8]


def test_a_checkpoint_is_saved_when_its_minutes_are_over(train, monkeypatch):
    seconds = iter(range(0, 1000, 40))  # at each look at the clock: when it is made, at each step, and when it saves
    monkeypatch.setattr("ner_lightning.saving.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    saves = Saves()
    train(callbacks=[saves], last=LastCheckpoint(every_minutes=1))
    assert saves.steps == [2, 4, 6, 8]


@pytest.mark.parametrize("name", ["every_n_train_steps", "every_minutes"])
def test_an_interval_has_to_be_positive(name):
    with pytest.raises(InputError, match=rf"--checkpoint\.{name}=0: give a number above 0"):
        BestCheckpoint(**{name: 0})


# the folder and the logs of a run


@pytest.fixture
def arguments(tmp_path, monkeypatch, conll_files, tiny_model):
    """Arguments of `fit` for two epochs of four steps, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return [
        "fit",
        f"--data.train_file={conll_files / 'train.conll'}",
        f"--data.validation_file={conll_files / 'validation.conll'}",
        f"--model.model_name_or_path={tiny_model}",
        "--data.batch_size=1",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.log_every_n_steps=1",
        "--trainer.max_epochs=2",
        "--checkpoint.every_n_train_steps=3",
    ]


def scalars(run):
    """What TensorBoard shows of a run."""
    files = sorted(run.glob("events.out.tfevents.*"))
    events = [event for file in files for event in LegacyEventFileLoader(str(file)).Load()]
    return [(value.tag, event.step, value.simple_value) for event in events for value in event.summary.value]


@pytest.mark.parametrize("interval", ["1.0", "0.5"])
def test_a_run_goes_on_in_its_folder_and_its_logs_are_those_of_one_in_one_go(arguments, monkeypatch, interval):
    arguments = [*arguments, f"--trainer.val_check_interval={interval}"]
    assert main([*arguments, "--trainer.default_root_dir=whole"]) == 0
    with monkeypatch.context() as patch:
        # after step 6, where validation and its row may have been
        patch.setattr(TokenClassificationModule, "on_before_optimizer_step", fail)
        assert main([*arguments, "--trainer.default_root_dir=cut"]) == 1
        assert main([*arguments, "--trainer.default_root_dir=cut", "--ckpt_path=last"]) == 1
    assert main([*arguments, "--trainer.default_root_dir=cut", "--ckpt_path=cut"]) == 0
    whole, cut = Path("whole/version_0"), Path("cut/version_0")
    assert [path.name for path in Path("cut").iterdir()] == ["version_0"]
    assert (cut / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert scalars(cut) == scalars(whole)
    for name in ("best", "last"):
        one, other = (torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True) for run in (whole, cut))
        assert_same(one["state_dict"], other["state_dict"])
    commands = [line for line in (cut / "config.yaml").read_text().splitlines() if line.startswith("# python")]
    assert [command.split("--ckpt_path=")[1:] for command in commands] == [[], ["last"], ["cut"]]


def fail(model, optimizer, step=6):
    if model.trainer.global_step == step:
        raise InputError("as if it was killed here")


def test_a_run_that_another_process_trains_is_refused(arguments, capsys):
    assert main([*arguments, "--trainer.max_epochs=1"]) == 0
    with FileLock("runs/version_0/.lock"):
        assert main([*arguments, "--ckpt_path=last"]) == 1
    assert "runs/version_0: another process trains this run; wait for it, or end it" in capsys.readouterr().err


def test_processes_but_the_first_one_write_no_log(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    log = CSVLog(str(tmp_path), "", 0)
    log.log_metrics({"train_loss": 1.0}, step=0)
    log.save()
    log.finalize("success")
    assert not list(tmp_path.iterdir())


def test_a_run_keeps_its_config_where_it_cannot_go_on_with_other_options(arguments, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(TokenClassificationModule, "on_before_optimizer_step", fail)
        assert main(arguments) == 1
    before = Path("runs/version_0/config.yaml").read_bytes()
    assert main([*arguments, "--ckpt_path=last", "--data.batch_size=2"]) == 1
    assert "to go on within an epoch, batch_size must be 1 as before, not 2" in capsys.readouterr().err
    assert Path("runs/version_0/config.yaml").read_bytes() == before


def test_a_run_goes_on_in_a_new_folder_from_its_best_checkpoint_or_elsewhere(arguments):
    assert main([*arguments, "--trainer.max_epochs=1"]) == 0
    before = Path("runs/version_0/metrics.csv").read_bytes()
    assert main([*arguments, "--ckpt_path=best"]) == 0
    assert main([*arguments, "--ckpt_path=runs/version_0", "--trainer.default_root_dir=other"]) == 0
    assert Path("runs/version_1/metrics.csv").is_file()
    assert Path("other/version_0/metrics.csv").is_file()
    assert Path("runs/version_0/metrics.csv").read_bytes() == before


def test_a_run_within_an_epoch_goes_on_with_its_training_data_alone(arguments, conll_files, capsys):
    assert main([*arguments, "--trainer.max_steps=3"]) == 0
    text = (conll_files / "train.conll").read_text()
    Path("other.conll").write_text(text.replace("Mira", "Vela"))  # as many sentences
    other = [*arguments, "--ckpt_path=last", "--data.train_file=other.conll", "--trainer.max_steps=8"]
    assert main(other) == 1
    assert "last.ckpt was saved within an epoch of other training data: give that data" in capsys.readouterr().err
    assert [path.name for path in Path("runs").iterdir()] == ["version_0"]


def test_a_run_goes_on_where_it_is_whatever_folder_it_was_begun_in(arguments):
    assert main([*arguments, "--trainer.max_epochs=1", "--trainer.default_root_dir=begun"]) == 0
    Path("begun").rename("moved")
    before = Path("moved/version_0/metrics.csv").read_bytes()
    assert main([*arguments, "--ckpt_path=moved/version_0"]) == 0
    assert len(Path("moved/version_0/metrics.csv").read_bytes()) > len(before)
    assert not Path("runs").exists()


def test_a_run_goes_on_in_a_new_folder_with_other_data_or_another_monitor(arguments, conll_files, caplog):
    caplog.set_level("INFO")
    assert main([*arguments, "--trainer.max_epochs=1"]) == 0
    before = {path: path.read_bytes() for path in Path("runs/version_0").rglob("*") if path.is_file()}
    for run, told, more in (
        ("version_1", "other data than", f"--data.validation_file={conll_files / 'train.conll'}"),
        ("version_2", "another --checkpoint.monitor or mode than", "--checkpoint.monitor=val_loss"),
    ):
        assert main([*arguments, "--ckpt_path=runs/version_0", more]) == 0
        assert f"{told} that of runs/version_0/checkpoints/last.ckpt: the run goes on in a new folder" in caplog.text
        best = torch.load(f"runs/{run}/checkpoints/best.ckpt", weights_only=True)
        assert best["global_step"] == 8  # and not a copy of the former one
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_processes_go_on_with_what_one_has_begun(arguments, tiny_model, monkeypatch):
    shutil.copytree(tiny_model, "model")
    config = json.loads(Path("model/config.json").read_text())
    dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)  # it depends on the process
    Path("model/config.json").write_text(json.dumps(config | dropout))
    arguments = [*arguments, "--model.model_name_or_path=model", "--model.learning_rate=1e-2"]
    one = [*arguments, "--trainer.accumulate_grad_batches=2"]
    assert main([*one, "--trainer.default_root_dir=whole"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(TokenClassificationModule, "on_before_optimizer_step", lambda model, _: fail(model, _, step=3))
        assert main([*one, "--trainer.default_root_dir=cut"]) == 1
    two = [*arguments, "--trainer.accumulate_grad_batches=1", "--trainer.devices=2", "--trainer.strategy=ddp"]
    two += ["--trainer.default_root_dir=cut", "--ckpt_path=cut"]
    subprocess.run([sys.executable, "-m", "ner_lightning", *two], check=True)
    whole, cut = (torch.load(f"{run}/version_0/checkpoints/last.ckpt", weights_only=True) for run in ("whole", "cut"))
    assert cut["global_step"] == whole["global_step"] == 4
    for name, weights in whole["state_dict"].items():
        torch.testing.assert_close(cut["state_dict"][name], weights)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_run_that_is_killed_twenty_times_ends_as_one_in_one_go(arguments):
    command = [sys.executable, "-m", "ner_lightning", *arguments, "--trainer.max_epochs=400"]
    command.append("--trainer.val_check_interval=0.5")
    subprocess.run([*command, "--trainer.default_root_dir=whole"], check=True)
    whole, cut = Path("whole/version_0"), Path("cut/version_0")
    last, kills = cut / "checkpoints/last.ckpt", 0
    while True:
        goes_on = ["--ckpt_path=last"] if last.is_file() else []
        process = subprocess.Popen([*command, "--trainer.default_root_dir=cut", *goes_on])
        if kills == 20 or ended_before_a_kill(process, last):
            break
        kills += 1
    assert process.wait() == 0
    assert kills == 20
    assert (cut / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert scalars(cut) == scalars(whole)
    one, other = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, cut))
    assert_same(one["state_dict"], other["state_dict"])


def ended_before_a_kill(process, last):
    """Kill a run at a random moment after it has saved: within a save, a validation, the last batch of an epoch."""
    before = last.stat().st_mtime_ns if last.is_file() else 0
    while not last.is_file() or last.stat().st_mtime_ns == before:
        if process.poll() is not None:
            return True
        time.sleep(0.01)
    time.sleep(random.uniform(0, 2))
    process.kill()
    return process.wait() == 0
