"""Subclasses of module and datamodule on the command line: their options, their state, their loss and decoding."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from custom_run import FocalModule, LargerBatches

from ner_lightning import Tagger
from ner_lightning.__main__ import main as program
from ner_lightning.checkpoints import data_state, read_checkpoint
from ner_lightning.cli import TokenClassificationCLI, main
from ner_lightning.data import TokenClassificationDataModule

LAST = "runs/version_0/checkpoints/last.ckpt"


@pytest.fixture
def arguments(tmp_path, monkeypatch, conll_files, tiny_model):
    """Arguments of a subcommand on the invented corpus with the tiny model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    files = [f"--data.{split}_file={conll_files / split}.conll" for split in ("train", "validation", "test")]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    fit = ["--trainer.log_every_n_steps=1", "--trainer.max_epochs=1", f"--model.model_name_or_path={tiny_model}"]

    def make(subcommand, *args):
        return [subcommand, *quiet, *([*fit, *files] if subcommand == "fit" else []), *args]

    return make


@pytest.fixture
def run(arguments, capsys):
    """Run a subcommand with the subclasses; gives its standard output."""

    def call(*args, code=0):
        capsys.readouterr()
        found = main(arguments(*args), model_class=FocalModule, datamodule_class=LargerBatches)
        out, err = capsys.readouterr()
        assert found == code, err
        return err if code else out

    return call


def test_options_of_their_own_are_parsed_saved_and_resumed(run, arguments):
    run("fit", "--model.gamma=1", "--data.factor=2")
    config = yaml.safe_load(Path("runs/version_0/config.yaml").read_text())
    assert (config["model"]["gamma"], config["data"]["factor"]) == (1.0, 2)
    checkpoint = read_checkpoint(LAST)
    assert checkpoint["hyper_parameters"]["gamma"] == 1.0
    assert checkpoint["datamodule_hyper_parameters"]["factor"] == 2
    run("fit", "--ckpt_path=last", "--trainer.max_epochs=2")
    config = yaml.safe_load(Path("runs/version_0/config.yaml").read_text())
    assert (config["model"]["gamma"], config["data"]["factor"]) == (1.0, 2)
    message = run("fit", "--ckpt_path=last", "--trainer.max_epochs=3", "--model.gamma=3", code=1)
    assert "--model.gamma=3.0, but" in message
    cli = TokenClassificationCLI(arguments("test"), model_class=FocalModule, datamodule_class=LargerBatches)
    assert (cli.model.gamma, cli.datamodule.batch_size) == (1.0, 16)


def test_the_loss_of_a_subclass_is_what_training_minimises(run):
    weights = []
    for number, gamma in enumerate((0, 5)):
        run("fit", f"--model.gamma={gamma}", "--model.learning_rate=0.01")
        weights.append(read_checkpoint(f"runs/version_{number}/checkpoints/last.ckpt")["state_dict"])
    assert not torch.equal(*(each["model.classifier.weight"] for each in weights))


def test_the_decoding_of_a_subclass_is_what_is_scored_and_what_a_tagger_with_it_finds(run, caplog):
    run("fit", "--model.bonus=1000")
    table = run("test", f"--ckpt_path={LAST}")
    assert next(line for line in table.splitlines() if line.startswith("all")).split()[1:4] == ["0.00"] * 3
    model = FocalModule.load_from_checkpoint(LAST)
    assert model.bonus == 1000
    loaded = Tagger.load(LAST)
    assert f"{LAST} was scored with custom_run.FocalModule.decode, which is not known here" in caplog.text
    caplog.clear()
    assert Tagger.load(LAST, decode=model.decode)("Mira Toll left Arvenholm.") == []
    assert not caplog.text
    tagger = Tagger(model.model, loaded.encoder, decode=model.decode)
    assert tagger("Mira Toll left Arvenholm.") == []
    assert tagger.labels == loaded.labels


def test_the_decoding_of_a_subclass_is_used_whatever_the_option(run, conll_files, tiny_model, tmp_path, caplog):
    run("fit", "--model.decoding=constrained", "--model.learning_rate=0.05", "--data.max_seq_length=9")
    assert "--model.decoding=constrained: what FocalModule.decode gives is used as it is" in caplog.text
    tables = [run("test", f"--ckpt_path={LAST}", *args) for args in ([], ["--model.decoding=argmax"])]
    assert tables[0] == tables[1]


def test_the_state_of_the_data_is_found_under_the_name_of_a_subclass(run, tmp_path):
    Path("test.conll").write_text("Mira B-RARE\nleft O\n")
    run("fit", "--seed_everything=7", "--data.labels=all", "--data.test_file=test.conll")
    checkpoint = read_checkpoint(LAST)
    assert TokenClassificationDataModule.__qualname__ not in checkpoint
    assert data_state(checkpoint)["given_labels"][-2:] == ["B-RARE", "I-RARE"]
    message = run("fit", "--ckpt_path=last", "--trainer.max_epochs=2", "--seed_everything=8", code=1)
    assert "--seed_everything=8, but" in message
    assert "RARE" in run("test", f"--ckpt_path={LAST}")  # a test file alone has fewer labels
    done = run("fit", "--ckpt_path=last", code=1)
    assert "the run has done 1 epochs" in done


def test_a_checkpoint_of_a_notebook_has_no_such_state():
    assert data_state({"state_dict": {}, "epoch": 1, "hyper_parameters": {"labels": ["O"]}}) == {}


def test_what_a_subclass_trained_is_exported_and_predicted_without_it(run, conll_files, capsys):
    run("fit", "--model.gamma=1")
    assert program(["export", f"--ckpt_path={LAST}", "--output=exported"]) == 0
    assert json.loads(Path("exported/config.json").read_text())["id2label"]["0"] == "O"
    words = str(conll_files / "test.conll")
    for model, output in ((LAST, "one.conll"), ("exported", "other.conll")):
        assert program(["predict", words, f"--model={model}", f"--output={output}"]) == 0, capsys.readouterr().err
    assert Path("one.conll").read_text() == Path("other.conll").read_text()


def test_the_lines_to_type_next_name_the_script(run, monkeypatch):
    monkeypatch.setattr("sys.argv", ["my_run.py"])
    out = run("fit")
    assert "next        python my_run.py test --ckpt_path runs/version_0/checkpoints/best.ckpt" in out
    assert Path("runs/version_0/config.yaml").read_text().startswith("# python my_run.py fit ")


@pytest.mark.long
def test_a_script_of_ten_lines_has_the_errors_and_the_help_of_the_package(arguments):
    def script(*args):
        path = Path(__file__).parent / "custom_run.py"
        return subprocess.run([sys.executable, path, *args], capture_output=True, text=True)

    done = script(*arguments("fit", "--data.batch_size=0"))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "\nerror: --data.batch_size=0: a batch holds at least one window\n" in done.stderr
    shown = script("fit", "--help").stdout
    assert "--model.gamma" in shown
    assert "How much less a word counts that is right already" in shown
    assert "--data.factor" in shown
    assert script(*arguments("fit", "--trainer.max_steps=1")).returncode == 0
