"""Runs that push: the Hub gets what was saved, and whatever it does, the run is as it would be without it.

The process that pushes is a real one, the client is the real one, the Hub is the fake one of `fake_hub.py`.
"""

import contextlib
import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fake_hub import READ, WRITE, FakeHub
from huggingface_hub import HfApi, constants, set_client_factory
from huggingface_hub.utils._http import default_client_factory
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import AutoModelForTokenClassification, AutoTokenizer

import ner_lightning.hub.push_to_hub as hub_module
from ner_lightning import PushToHub, TokenClassificationDataModule, TokenClassificationModule
from ner_lightning.__main__ import main
from ner_lightning.checkpoints import read_checkpoint
from ner_lightning.errors import InputError
from ner_lightning.hub.outbox import Outbox
from ner_lightning.saving import BestCheckpoint

MODES = {"lfs": {}, "regular": {"lfs_ext": ()}, "xet": {"xet": True}}
REPO = ("model", "user/ner")
# pytest.warns looks for one of them, and gives the others back
# of the client's own
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
several_warnings = pytest.mark.filterwarnings("ignore:PushToHub")


@pytest.fixture
def fit(tmp_path, monkeypatch, conll_files, tiny_model):
    """Fit the tiny model in an empty folder, by the command line; gives the exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*args, epochs=2):
        return main(["fit", *arguments(conll_files, tiny_model, epochs), *args])

    return call


def arguments(conll_files, tiny_model, epochs):
    return [
        *(f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation")),
        f"--model.model_name_or_path={tiny_model}",
        "--model.learning_rate=1e-2",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.log_every_n_steps=1",
        f"--trainer.max_epochs={epochs}",
    ]


def pushing(**options):
    options = {"repo_id": "ner", **options}
    flags = [f"--trainer.callbacks.{name}={json.dumps(value)}" for name, value in options.items()]
    return ["--trainer.callbacks+=ner_lightning.PushToHub", *(flag.replace('"', "") for flag in flags)]


@pytest.fixture
def served(tmp_path_factory, monkeypatch):
    """Start a fake Hub for the processes that push; this one stays offline."""
    with contextlib.ExitStack() as stack:

        def start(mode="lfs", token=WRITE):
            fake = stack.enter_context(FakeHub(**MODES[mode]))
            home = tmp_path_factory.mktemp("home")
            for name, value in fake.env(home, token=token, xet=mode != "lfs").items():
                monkeypatch.setenv(name, value)
            return fake

        yield start


def titles(fake):
    return [commit.title for commit in reversed(fake.repo(*REPO).log())][1:]  # the first is the Hub's own


def journal(run="runs/version_0"):
    return [json.loads(line) for line in Path(run, "hub/pushes.jsonl").read_text().splitlines()]


def at_head(fake, tmp_path):
    """The weights at the head of the repository, as transformers loads them."""
    return loaded(fake.repo(*REPO).head(), tmp_path / "head")


def loaded(tree, folder):
    folder.mkdir(exist_ok=True)
    for name, blob in tree.items():
        (folder / name).write_bytes(blob.data)
    AutoTokenizer.from_pretrained(folder)
    return AutoModelForTokenClassification.from_pretrained(folder).state_dict()


def saved(path):
    state = read_checkpoint(path)["state_dict"].items()
    return {name.removeprefix("model."): tensor for name, tensor in state}


def same(weights, others):
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


class Keep(Callback):
    """Keep the weights at the end of each epoch, and wait in each step until what was staged is pushed."""

    weights: dict = {}  # noqa: RUF012

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        state = pl_module.model.state_dict()
        self.weights[trainer.global_step] = {name: tensor.clone() for name, tensor in state.items()}

    def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
        sender = next(c for c in trainer.callbacks if isinstance(c, PushToHub))._sender
        if sender is not None:
            sender.wait()


@pytest.mark.parametrize("mode", ["lfs", "regular", pytest.param("xet", marks=pytest.mark.slow)])
def test_each_epoch_is_a_commit_with_the_very_weights(mode, served, fit, tmp_path, monkeypatch):
    fake, Keep.weights = served(mode), {}
    assert fit(*pushing(when="every"), f"--trainer.callbacks+={__name__}.Keep", epochs=3) == 0
    commits = list(reversed(fake.repo(*REPO).log()))[1:]
    assert [re.match(r"step \d+: val_f1 0\.\d{4}$", commit.title) is not None for commit in commits] == [True] * 3
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    client = HfApi(endpoint=fake.url, token=WRITE)
    for commit, weights in zip(commits, Keep.weights.values(), strict=True):
        folder = client.snapshot_download(REPO[1], revision=commit.oid, local_dir=tmp_path / commit.oid)
        AutoTokenizer.from_pretrained(folder)
        assert same(AutoModelForTokenClassification.from_pretrained(folder).state_dict(), weights)
    assert [record["event"] for record in journal()].count("pushed") == 3
    assert not [path for path in Path("runs/version_0/hub").iterdir() if path.is_dir()]


def test_a_run_that_is_pushed_ends_with_the_weights_of_one_that_is_not(served, fit):
    served()
    assert fit() == 0
    assert fit(*pushing(when="every", push_at_start=True)) == 0
    assert same(saved("runs/version_0/checkpoints/last.ckpt"), saved("runs/version_1/checkpoints/last.ckpt"))


@pytest.mark.parametrize(("when", "kind"), [("best", "best"), ("every", "last"), ("last", "last"), ("end", "best")])
def test_the_head_of_the_branch_is_the_model_that_was_asked_for(when, kind, served, fit, tmp_path):
    fake = served()
    assert fit(*pushing(when=when), epochs=3) == 0
    assert same(at_head(fake, tmp_path), saved(f"runs/version_0/checkpoints/{kind}.ckpt"))
    if when in ("last", "end"):
        assert len(titles(fake)) == 1


def test_the_summary_says_where_the_model_is(served, fit, capsys):
    fake = served()
    assert fit(*pushing()) == 0
    assert re.search(rf"on the Hub  step \d+: val_f1 [\d.]+: {fake.url}/user/ner/commit/\w+", capsys.readouterr().out)


def test_the_model_can_be_pushed_before_training(served, fit, tmp_path):
    fake = served()
    assert fit(*pushing(push_at_start=True, when="end"), f"--trainer.callbacks+={__name__}.Keep") == 0
    first = list(reversed(fake.repo(*REPO).log()))[1]
    assert first.title == "before training"
    loaded(first.tree, tmp_path / "first")
    assert b"model-index" not in first.tree["README.md"].data
    assert b"seed_everything: 42" in first.tree["README.md"].data


def test_branch_and_visibility_are_those_that_were_asked_for(served, fit):
    fake = served()
    assert fit(*pushing(revision="trial", private=True)) == 0
    assert fake.repo(*REPO).private
    assert [path for path in fake.repo(*REPO).head("trial") if path == "model.safetensors"]
    assert "model.safetensors" not in fake.repo(*REPO).head()


@several_warnings
@pytest.mark.parametrize("revision", [None, "trial"])
def test_a_public_repository_that_is_there_gets_no_model_that_is_to_be_private(served, fit, revision):
    fake = served()
    fake.add_repo(*REPO)
    with pytest.warns(UserWarning, match="user/ner is there already and is public, and a private one was asked for"):
        assert fit(*pushing(private=True, **({"revision": revision} if revision else {}))) == 0
    assert titles(fake) == []
    assert list(fake.repo(*REPO).refs) == ["main"]
    assert {path.name for path in Path("runs/version_0/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


@several_warnings
def test_a_token_that_may_not_write_is_known_before_the_first_save(served, fit):
    fake = served(token=READ)
    fake.add_repo(*REPO)
    with pytest.warns(UserWarning, match="ner cannot be written to: 403: the token has no right to write there"):
        assert fit(*pushing(), f"--trainer.callbacks+={__name__}.Keep") == 0
    assert titles(fake) == []
    assert journal()[0]["event"] == "failed"


@several_warnings
def test_what_could_not_be_pushed_is_sent_later(served, fit, tmp_path, monkeypatch, capsys):
    fake = served(token=READ)
    fake.add_repo(*REPO)
    with pytest.warns(UserWarning, match="is not on the Hub yet: `python -m ner_lightning push runs/version_0`"):
        assert fit(*pushing()) == 0
    again = [sys.executable, "-m", "ner_lightning", "push", "runs/version_0"]
    monkeypatch.setenv("HF_TOKEN", WRITE)
    told = subprocess.run(again, capture_output=True, text=True, check=True).stdout
    assert re.match(r"pushed 0\d+-step-\d+ \(step \d+: val_f1 [\d.]+\): http", told)
    assert same(at_head(fake, tmp_path), saved("runs/version_0/checkpoints/best.ckpt"))
    told = subprocess.run(again, capture_output=True, text=True, check=True).stdout
    assert re.match(r"nothing to send: the last push was http", told)


@several_warnings
def test_strict_fails_at_the_end_with_the_checkpoints_saved(served, fit, capsys):
    fake = served(token=READ)
    fake.add_repo(*REPO)
    with pytest.warns(UserWarning, match="is not on the Hub yet"):
        assert fit(*pushing(strict=True)) == 1
    out, err = capsys.readouterr()
    assert "best        val_f1" in out
    assert re.search(
        r"error: PushToHub: the model of this run is not on the Hub; its checkpoints are saved, and `python", err
    )
    assert {path.name for path in Path("runs/version_0/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


@several_warnings
def test_what_a_full_disk_kept_back_is_pushed_once_there_is_room(served, fit, tmp_path, monkeypatch):
    write, calls = hub_module.write_model, []

    def full_at_first(*args, **kwargs):
        calls.append(args)
        if len(calls) < 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*args, **kwargs)

    fake = served()
    monkeypatch.setattr(hub_module, "write_model", full_at_first)
    assert fit(*pushing(), epochs=3) == 0
    assert same(at_head(fake, tmp_path), saved("runs/version_0/checkpoints/best.ckpt"))


@several_warnings
def test_a_full_disk_costs_the_push_and_nothing_else(served, fit, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    fake = served()
    monkeypatch.setattr(hub_module, "write_model", full)
    with pytest.warns(UserWarning, match="not pushed: it could not be written: .*No space left on device. Training"):
        assert fit(*pushing()) == 0
    assert titles(fake) == []
    assert {path.name for path in Path("runs/version_0/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not [path for path in Path("runs/version_0/hub").iterdir() if path.is_dir()]


class Fail(Callback):
    """Fail in the middle of the third epoch."""

    def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
        if trainer.current_epoch == 2:
            raise RuntimeError("out of luck")


def test_after_an_exception_the_newest_model_is_pushed(served, fit, tmp_path):
    fake = served()
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(*pushing(when="last"), f"--trainer.callbacks+={__name__}.Fail", epochs=5)
    assert same(at_head(fake, tmp_path), saved("runs/version_0/checkpoints/last.ckpt"))


@several_warnings
def test_a_hub_that_hangs_holds_the_end_up_for_the_time_that_it_is_given(served, fit):
    fake = served()
    fake.fail("*", "/api/", 0, times=99, delay=20)
    started = time.monotonic()
    with pytest.warns(UserWarning, match="the push to ner was stopped: not finished within 1 s"):
        assert fit(*pushing(drain_timeout=1)) == 0
    assert time.monotonic() - started < 15
    assert journal()[-1]["event"] == "stopped"
    assert len([path for path in Path("runs/version_0/hub").iterdir() if path.is_dir()]) == 1


def test_a_save_asks_the_hub_nothing_in_the_process_that_trains(served, fit, monkeypatch):
    """What could wait for an answer would make training wait."""
    served()
    asked = []
    load = AutoTokenizer.from_pretrained
    monkeypatch.setattr(
        AutoTokenizer, "from_pretrained", lambda *args, **options: asked.append(args) or load(*args, **options)
    )
    assert fit(*pushing(when="every", push_at_start=True), epochs=3) == 0
    assert len(asked) == 2  # for the data, and once for all pushes


@several_warnings
def test_a_broken_process_is_told_with_its_last_words(served, fit, monkeypatch, tmp_path):
    served()
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such module' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.warns(UserWarning, match="the process that pushes broke: no such module"):
        assert fit(*pushing()) == 0


@several_warnings
def test_without_a_process_to_push_the_run_goes_on(served, fit, monkeypatch, tmp_path):
    served()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.warns(UserWarning, match="no process can be started that pushes: .*No such file"):
        assert fit(*pushing()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_run_that_is_stopped_pushes_its_newest_model(number, served, tmp_path, conll_files, tiny_model, monkeypatch):
    fake = served()
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "ner_lightning", "fit", *arguments(conll_files, tiny_model, 100_000)]
    with subprocess.Popen(
        [*command, *pushing(when="last")],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    ) as process:
        try:
            while not list(tmp_path.glob("runs/version_0/checkpoints/last.ckpt")):
                time.sleep(0.1)
                assert process.poll() is None
            process.send_signal(number)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "on the Hub  step" in out
    assert same(at_head(fake, tmp_path), saved("runs/version_0/checkpoints/last.ckpt"))


@pytest.mark.long
def test_of_two_processes_only_the_first_speaks(served, tmp_path, conll_files, tiny_model, monkeypatch):
    fake = served()
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "ner_lightning", "fit", *arguments(conll_files, tiny_model, 2), *pushing()]
    subprocess.run([*command, "--trainer.devices=2", "--trainer.strategy=ddp"], check=True, timeout=100)
    assert [record["event"] for record in journal()].count("checked") == 1
    assert len(titles(fake)) == [record["event"] for record in journal()].count("pushed") > 0
    assert same(at_head(fake, tmp_path), saved("runs/version_0/checkpoints/best.ckpt"))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_run_that_is_killed_in_pushes_ends_as_one_in_one_go(served, tmp_path, conll_files, tiny_model, monkeypatch):
    fake = served()
    fake.fail("*", "", 0, times=100_000, delay=0.2)  # a push takes its time
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "ner_lightning", "fit", *arguments(conll_files, tiny_model, 40)]
    # a model of random labels learns slowly, so that nearly each validation finds a better one
    command += ["--model.learning_rate=1e-5", "--checkpoint.monitor=val_loss", "--checkpoint.every_n_train_steps=3"]
    command += ["--data.batch_size=1"]
    subprocess.run([*command, "--trainer.default_root_dir=whole"], check=True)
    whole, cut = Path("whole/version_0"), Path("cut/version_0")
    command += [*pushing(), "--trainer.default_root_dir=cut"]
    for kill in range(10):
        with subprocess.Popen([*command, *["--ckpt_path=last"] * (kill > 0)]) as process:
            assert wait_for_a_push(process, cut)
            time.sleep(random.uniform(0, 1))
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.kill()
            if kill % 2:  # otherwise the process that pushes outlives the run
                for child in children:
                    os.kill(int(child), signal.SIGKILL)
    subprocess.run([*command, "--ckpt_path=last"], check=True)
    assert (cut / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    for name in ("best", "last"):
        assert same(*(saved(run / f"checkpoints/{name}.ckpt") for run in (whole, cut)))
    assert same(at_head(fake, tmp_path), saved(cut / "checkpoints/best.ckpt"))
    assert len(set(titles(fake))) == len(titles(fake))


def wait_for_a_push(process, run):
    """Wait until a push has begun since the call."""
    before = len(journal(run)) if (run / "hub/pushes.jsonl").is_file() else 0
    while process.poll() is None:
        if (run / "hub/pushes.jsonl").is_file() and "started" in [r["event"] for r in journal(run)[before:]]:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.long
def test_a_run_without_the_callback_can_be_pushed_too(served, fit, tmp_path):
    fake = served()
    assert fit() == 0
    subprocess.run([sys.executable, "-m", "ner_lightning", "push", "runs/version_0", "--repo_id=ner"], check=True)
    assert same(at_head(fake, tmp_path), saved("runs/version_0/checkpoints/best.ckpt"))
    assert b'model="user/ner"' in fake.repo(*REPO).head()["README.md"].data


@pytest.mark.long
def test_after_a_test_its_scores_are_pushed_into_the_card(served, fit, tmp_path, conll_files):
    fake = served()
    assert fit(*pushing(license="mit")) == 0
    assert b"test.conll" not in fake.repo(*REPO).head()["README.md"].data
    assert main(["test", "--trainer.accelerator=cpu", f"--data.test_file={conll_files / 'test.conll'}"]) == 0
    subprocess.run([sys.executable, "-m", "ner_lightning", "push", "runs/version_0", "--repo_id=ner"], check=True)
    card = fake.repo(*REPO).head()["README.md"].data
    assert b"test.conll" in card
    assert b"license: mit" in card


@pytest.fixture
def notebook(conll_files, tiny_model, tmp_path, monkeypatch):
    """Fit in an empty folder as a notebook does; gives the weights and the Trainer."""
    monkeypatch.chdir(tmp_path)
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "max_epochs": 1}

    def call(seed=0, **options):
        files = {f"{split}_file": str(conll_files / f"{split}.conll") for split in ("train", "validation")}
        data = TokenClassificationDataModule(**files, model_name_or_path=str(tiny_model))
        torch.manual_seed(seed)
        model, trainer = TokenClassificationModule(str(tiny_model), labels=data.labels), Trainer(**quiet, **options)
        trainer.fit(model, data)
        return model.model.state_dict(), trainer

    return call


def test_in_a_notebook_it_needs_no_command_line(served, notebook, tmp_path):
    fake = served()
    weights, _ = notebook(callbacks=[PushToHub("ner")])
    assert same(at_head(fake, tmp_path), weights)


@pytest.mark.parametrize("first", [True, False])
def test_of_several_checkpoints_the_one_of_validation_is_followed(first, tmp_path):
    """Whatever the order, and not the best training loss."""
    other, best = ModelCheckpoint(monitor="train_loss"), BestCheckpoint()
    other.best_model_path, best.best_model_path = "other.ckpt", "best.ckpt"
    callbacks = [other, best] if first else [best, other]
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=callbacks)
    assert hub_module._checkpoint(trainer, best=True) == "best.ckpt"


def test_the_newest_state_is_found_among_all_that_are_kept(tmp_path):
    kept = ModelCheckpoint(monitor="val_loss", save_top_k=-1)
    for age, name in enumerate(("newest", "older", "best")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    kept.best_model_path = str(tmp_path / "best")
    kept.best_k_models = {str(tmp_path / name): torch.tensor(0.0) for name in ("older", "newest", "best")}
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[kept])
    assert hub_module._checkpoint(trainer, best=False) == str(tmp_path / "newest")


class Watch(Callback):
    """Before each step, note which saves are staged; it is asked before PushToHub is."""

    steps: list = []  # noqa: RUF012

    def on_train_batch_start(self, trainer: Trainer, *args: object) -> None:
        last = Path("runs/version_0/checkpoints/last.ckpt")
        if last.is_file():
            staged = [record["name"] for record in journal() if record["event"] == "staged"]
            assert staged[-1].endswith(f"-step-{read_checkpoint(last)['global_step']}")
            self.steps.append(trainer.global_step)


def test_a_save_is_staged_when_it_is_finished(served, fit):
    served()
    Watch.steps.clear()
    options = pushing(when="every")
    assert fit(f"--trainer.callbacks+={__name__}.Watch", *options, epochs=3) == 0
    assert len(Watch.steps) > 1


def test_checkpoints_are_saved_by_the_plugin_that_is_there(served, notebook):
    """Which the run has again at its end."""

    class Counting(TorchCheckpointIO):
        saves = 0

        def save_checkpoint(self, *args, **options):
            super().save_checkpoint(*args, **options)
            self.saves += 1

    served()
    plugin = Counting()
    _, trainer = notebook(callbacks=[PushToHub("ner")], plugins=[plugin])
    assert trainer.strategy.checkpoint_io is plugin
    assert plugin.saves == 1


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_callback_that_is_used_again_pushes_the_second_model(served, notebook, tmp_path):
    fake, callback = served(), PushToHub("ner", strict=True)
    for seed in (1, 2):
        checkpoints = ModelCheckpoint(tmp_path / "kept", "best", enable_version_counter=False)
        weights, _ = notebook(seed, callbacks=[checkpoints, callback])
        assert same(at_head(fake, tmp_path), weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repo_id": "a/b/c"}, "PushToHub: repo_id='a/b/c' is no id of a repository"),
        ({}, "PushToHub: give repo_id, the id of the model on the Hub"),
        ({"repo_id": "ner", "drain_timeout": -1}, "drain_timeout=-1: give a number of seconds from 0"),
    ],
)
def test_an_option_out_of_its_range_is_named(options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        PushToHub(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "PushToHub: give repo_id, the id of the model on the Hub (`name` or `namespace/name`)"),
        (["repo_id=null"], "PushToHub: give repo_id, the id of the model on the Hub (`name` or `namespace/name`)"),
        (["repo_id=a/b/c"], "PushToHub: repo_id='a/b/c' is no id of a repository: Repo id must be in the form"),
        (["repo_id=ner", "drain_timeout=-1"], "PushToHub: drain_timeout=-1.0: give a number of seconds from 0"),
    ],
)
@pytest.mark.parametrize("name", ["PushToHub", "ner_lightning.PushToHub"])
def test_on_the_command_line_a_wrong_option_is_one_sentence(fit, capsys, name, options, message):
    assert fit(f"--trainer.callbacks+={name}", *(f"--trainer.callbacks.{option}" for option in options)) == 1
    told = capsys.readouterr().err.removeprefix("INFO: Seed set to 42\n")
    assert told.startswith(f"error: {message}")
    assert told.count("\n") == 1
    assert not os.path.exists("runs")


def test_a_language_may_be_one_word_and_the_callback_has_a_short_name(served, fit):
    fake = served()
    options = ["--trainer.callbacks+=PushToHub", "--trainer.callbacks.repo_id=ner", "--trainer.callbacks.language=en"]
    assert fit(*options, epochs=1) == 0
    assert b"language:\n- en\n" in fake.repo(*REPO).head()["README.md"].data


def test_without_checkpoints_strict_does_not_say_that_they_are_saved(served, fit, capsys):
    served()
    options = [*pushing(strict=True), "--trainer.enable_checkpointing=false"]
    assert fit(*options, epochs=1) == 1
    told = capsys.readouterr().err
    assert told.endswith("error: PushToHub: the model of this run is not on the Hub; no checkpoint of it is saved\n")


@several_warnings
def test_at_the_end_of_a_run_no_further_training_is_promised(served, fit, recwarn):
    fake = served(token=READ)
    fake.add_repo(*REPO)
    assert fit(*pushing(when="end"), epochs=1) == 0
    told = [str(warning.message) for warning in recwarn if "403" in str(warning.message)]
    assert told
    assert not [text for text in told if "raining goes on" in text]


class Diverge(Callback):
    """Make the weights infinite in the second epoch."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        if trainer.current_epoch == 1:
            pl_module.model.classifier.bias.data.fill_(float("inf"))


def test_weights_that_are_not_finite_are_not_pushed(served, fit, tmp_path):
    fake = served()
    options = [*pushing(when="every"), f"--trainer.callbacks+={__name__}.Diverge"]
    assert fit(*options, epochs=2) == 1
    assert len(titles(fake)) == 1
    assert all(tensor.isfinite().all() for tensor in at_head(fake, tmp_path).values())


class InTheWay(Callback):
    """Put a file where the outbox of the run should be."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        (Path(trainer.log_dir) / "hub").touch()


def test_a_folder_that_cannot_be_written_to_is_told_at_the_start(fit, capsys):
    assert fit(*pushing(), f"--trainer.callbacks+={__name__}.InTheWay", "--trainer.logger=false") == 1
    assert "error: PushToHub: runs/version_0/hub cannot be written to: File exists" in capsys.readouterr().err


@pytest.fixture
def waits(fit, tmp_path, monkeypatch, hub, capsys):
    """A run whose best model waits for user/secret, as there was no token."""
    assert fit() == 0
    monkeypatch.setenv("HF_TOKEN", "")
    capsys.readouterr()
    assert main(["push", "runs/version_0", "--repo_id=user/secret"]) == 1
    assert "401: no valid token" in capsys.readouterr().out
    monkeypatch.setenv("HF_TOKEN", WRITE)
    yield Outbox("runs/version_0")
    set_client_factory(default_client_factory)


def test_what_is_asked_last_holds_for_a_model_that_waits(waits, hub, capsys):
    """The first call asked for no private repository, and for no branch."""
    (first,) = waits.waiting()
    assert main(["push", "runs/version_0", "--repo_id=user/secret", "--private", "--revision=dev"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"given up: {first.name} ({first.message}), which waited for user/secret\npushed 000002-")
    repo = hub.repo("model", "user/secret")
    assert repo.private
    assert "model.safetensors" in repo.head("dev")
    assert [commit.title for commit in repo.log("main")] == ["initial commit"]
    assert waits.waiting() == []


def test_another_id_is_not_refused_where_a_model_waits(waits, hub, tmp_path):
    assert main(["push", "runs/version_0", "--repo_id=user/ner"]) == 0
    assert b'model="user/ner"' in hub.repo(*REPO).head()["README.md"].data
    assert list(hub.repos) == [REPO]
    assert waits.waiting() == []


def test_nothing_is_put_in_while_another_process_sends(waits, hub, capsys):
    before = [staged.name for staged in waits.waiting()]
    with waits.sender():
        assert main(["push", "runs/version_0", "--repo_id=user/ner"]) == 1
    assert "another process pushes from this run at the moment" in capsys.readouterr().err
    assert [staged.name for staged in waits.waiting()] == before


@pytest.mark.parametrize("options", [[], ["--repo_id=user/secret"]])
def test_a_model_that_waits_is_sent_with_the_scores_of_a_test_since(waits, hub, conll_files, options):
    test = f"--data.test_file={conll_files / 'test.conll'}"
    assert main(["test", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", test]) == 0
    assert main(["push", "runs/version_0", *options]) == 0
    repo = hub.repo("model", "user/secret")
    assert b"test.conll" in repo.head()["README.md"].data
    assert len(repo.log()) == 2
    assert waits.waiting() == []


def test_scores_of_other_weights_do_not_touch_a_model_that_waits(waits, hub, tmp_path):
    """Of a checkpoint that is not the one that waits, though its test is newer."""
    path = Path("runs/version_0/checkpoints/best.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "global_step": 99}, path)
    path.with_name("best.test.json").write_text("{}")
    names = [staged.name for staged in waits.waiting()]
    assert main(["push", "runs/version_0"]) == 0
    assert [record["name"] for record in waits.records() if record["event"] == "pushed"] == names


def test_a_run_without_a_checkpoint_cannot_be_pushed(tmp_path, capsys):
    assert main(["push", str(tmp_path), "--repo_id=user/b"]) == 1
    assert "no checkpoint below this folder; give the folder of a run" in capsys.readouterr().err


def test_another_module_is_refused():
    with pytest.raises(InputError, match="expected a TokenClassificationModule, found LightningModule"):
        PushToHub("ner").setup(Trainer(accelerator="cpu", logger=False), LightningModule(), "fit")


def test_a_model_in_parts_is_refused(tiny_model):
    model = TokenClassificationModule(str(tiny_model), labels=["O", "B-PER"])
    trainer = Trainer(accelerator="cpu", logger=False)
    trainer.strategy.__class__ = type("FSDPStrategy", (trainer.strategy.__class__.__mro__[1],), {})
    with pytest.raises(InputError, match="with FSDPStrategy each process holds a part of the model"):
        PushToHub("ner").setup(trainer, model, "fit")


def test_no_argument_takes_a_token(fit, capsys):
    with pytest.raises(SystemExit):
        fit(*pushing(token="hf_" + "x" * 30))
    assert "token" in capsys.readouterr().err


def test_what_looks_like_a_token_is_refused_before_it_is_saved(fit, capsys):
    assert fit(*pushing(license="hf_" + "x" * 30)) == 1
    assert "an option holds what looks like a token of the Hub" in capsys.readouterr().err
    assert not os.path.exists("runs")
