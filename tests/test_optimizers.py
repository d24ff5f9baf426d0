"""Optimizer and schedule of LightningCLI where the user names them, ours otherwise."""

from pathlib import Path

import pytest
import yaml

from ner_lightning.checkpoints import read_checkpoint
from ner_lightning.cli import main

LAST = "runs/version_{}/checkpoints/last.ckpt"


@pytest.fixture
def fit(tmp_path, monkeypatch, conll_files, tiny_model, capsys):
    """Train on the invented corpus with the tiny model, in an empty folder; gives the message of an error."""
    monkeypatch.chdir(tmp_path)
    files = [f"--data.{split}_file={conll_files / split}.conll" for split in ("train", "validation")]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]

    def call(*args, code=0):
        capsys.readouterr()
        given = [f"--model.model_name_or_path={tiny_model}", "--data.batch_size=2", *args]
        assert main(["fit", *files, *quiet, *given]) == code, capsys.readouterr().err
        return capsys.readouterr().err.strip().splitlines()[-1:]

    return call


def groups(number=0):
    (state,) = read_checkpoint(LAST.format(number))["optimizer_states"]
    return state["param_groups"]


def test_without_one_ours_is_used_with_weight_decay_groups_and_a_schedule_by_step(fit):
    fit("--trainer.max_epochs=1")
    assert sorted({group["weight_decay"] for group in groups()}) == [0.0, 0.01]
    assert {group["lr"] for group in groups()} == {0.0}  # which the last step has reached
    assert yaml.safe_load(Path("runs/version_0/config.yaml").read_text())["optimizer"] is None


def test_an_optimizer_that_is_named_has_all_parameters_and_keeps_its_learning_rate(fit):
    fit("--optimizer=AdamW", "--optimizer.lr=0.25", "--optimizer.weight_decay=0.5", "--trainer.max_epochs=1")
    (group,) = groups()
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.5)
    saved = yaml.safe_load(Path("runs/version_0/config.yaml").read_text())["optimizer"]
    assert saved["class_path"] == "torch.optim.AdamW"
    assert saved["init_args"]["lr"] == 0.25


SCHEDULE = ("--lr_scheduler=StepLR", "--lr_scheduler.step_size=1", "--lr_scheduler.gamma=0.5")


def test_a_schedule_steps_after_each_epoch(fit):
    fit("--optimizer=SGD", "--optimizer.lr=1", *SCHEDULE, "--trainer.max_epochs=2")
    assert [group["lr"] for group in groups()] == [0.25]  # four steps, two epochs


def test_a_resumed_run_has_its_optimizer_and_goes_on_in_its_schedule(fit):
    fit("--optimizer=SGD", "--optimizer.lr=1", "--optimizer.momentum=0.5", *SCHEDULE, "--trainer.max_epochs=1")
    fit("--ckpt_path=last", "--trainer.max_epochs=3")
    (group,) = groups(0)
    assert (group["lr"], group["momentum"]) == (0.125, 0.5)
    saved = yaml.safe_load(Path("runs/version_0/config.yaml").read_text())
    assert saved["optimizer"]["class_path"] == "torch.optim.SGD"
    assert saved["optimizer"]["init_args"]["momentum"] == 0.5
    assert saved["lr_scheduler"]["class_path"] == "torch.optim.lr_scheduler.StepLR"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (["--optimizer=SGD", "--optimizer.lr=1"], ["--optimizer=AdamW"]),
        (["--optimizer=SGD", "--optimizer.lr=1"], ["--optimizer=SGD", "--optimizer.lr=2"]),
        ([], ["--optimizer=SGD", "--optimizer.lr=1"]),
    ],
)
def test_another_optimizer_than_that_of_a_resumed_run_is_refused(fit, first, then):
    fit(*first, "--trainer.max_epochs=1")
    (message,) = fit("--ckpt_path=last", "--trainer.max_epochs=2", *then, code=1)
    assert message.startswith("error: --optimizer={'class_path': ")
    assert "a run is resumed with its own options" in message
    # the command of the run, typed again
    fit(*first, "--ckpt_path=last", "--trainer.max_epochs=2")


def test_a_schedule_that_watches_a_score_is_given_it(fit):
    plateau = ("--lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau", "--lr_scheduler.monitor=val_loss")
    fit("--optimizer=SGD", "--optimizer.lr=0", *plateau, "--lr_scheduler.patience=0", "--trainer.max_epochs=2")


def test_a_schedule_without_an_optimizer_is_refused(fit):
    (message,) = fit(*SCHEDULE, code=1)
    assert "--lr_scheduler is for an --optimizer: give one, such as --optimizer=AdamW --optimizer.lr=2e-5" in message
    assert not Path("runs").exists()


def test_options_of_our_optimizer_beside_another_one_are_told_of(fit, caplog):
    fit("--optimizer=SGD", "--optimizer.lr=1", "--model.learning_rate=0.5", "--trainer.max_epochs=1")
    assert "--model.learning_rate=0.5 has no effect beside --optimizer" in caplog.text
    assert "weight_decay" not in caplog.text
