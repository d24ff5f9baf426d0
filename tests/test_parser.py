"""What a user reads who asks for help or mistypes an option."""

import os
import sys
from inspect import cleandoc
from pathlib import Path
from subprocess import run

import pytest
from lightning.pytorch import Callback

from ner_lightning.cli import main
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import suggestion
from ner_lightning.model import TokenClassificationModule
from ner_lightning.parser import Parser


@pytest.fixture
def answer(capsys, monkeypatch):
    """Run a command that ends at once; gives (code, out, err)."""
    monkeypatch.setenv("COLUMNS", "100")

    def call(*args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main([str(arg) for arg in args])
        return exit_info.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "inspect"])
def test_our_options_come_first_and_those_of_the_trainer_on_request(answer, subcommand):
    code, out, _ = answer(subcommand, "--help")
    assert code == 0
    order = ["--data.train_file", "--model.learning_rate", "--checkpoint.monitor", "--config", "--seed_everything"]
    places = [out.index(f"  {option} ") if option != "--config" else out.index(f"{option} CONFIG") for option in order]
    assert places == sorted(places)
    assert out.splitlines().index("Words with labels, from files or the Hub, as batches for a token classifier:") < 8
    assert "  --trainer.max_epochs " not in out
    assert "--help.trainer" in out
    code, out, _ = answer(subcommand, "--help.trainer")
    assert code == 0
    assert "  --trainer.max_epochs " in out
    assert "--data.train_file" not in out


def test_the_help_of_fit_stays_short():
    # in a process of its own: it lists the known schedules, and other tests import packages that have more of them
    command = [sys.executable, "-m", "ner_lightning", "fit", "--help"]
    shown = run(command, env=os.environ | {"COLUMNS": "100"}, capture_output=True, text=True, check=True).stdout
    assert 200 < len(shown.splitlines()) < 280


def test_the_help_of_each_option_is_its_whole_docstring(answer):
    out = " ".join(answer("fit", "--help")[1].replace("sub-\n", "sub-").split()).replace("sub- words", "sub-words")
    for documented in (TokenClassificationDataModule, TokenClassificationModule):
        arguments = cleandoc(documented.__doc__).split("Args:\n")[1].split("\n\n")[0]
        entries = [" ".join(entry.split()) for entry in arguments.replace("\n        ", " ").splitlines()]
        assert len(entries) > 10
        for entry in entries:
            name, _, text = entry.partition(": ")
            if name != "labels" and not (documented is TokenClassificationDataModule and name in LINKED):
                assert text in out, name


LINKED = (
    "model_name_or_path",
    "model_revision",
    "trust_remote_code",
    "keep_case",
)  # of the model, with another sentence


def test_each_subcommand_and_its_checkpoint_are_told_in_our_words(answer):
    out = answer("--help")[1]
    for line in ("fit                 Train a model.", "test                Score a model on the test split."):
        assert line in out
    out = " ".join(answer("fit", "--help")[1].split())
    assert "--ckpt_path CKPT_PATH Go on from this checkpoint, with the options of its run where no others" in out
    out = " ".join(answer("test", "--help")[1].split())
    assert "which are those of the newest run; by default `best`." in out
    for option in ("--weights_only", "--verbose"):
        assert option not in out


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--data.trian_file=x", "--data.train_file"),
        ("--data.eval_batch=9", "--data.eval_batch_size"),
        ("--model.learning_rte=1", "--model.learning_rate"),
        ("--max_epochs=3", "--trainer.max_epochs"),
        ("--trainer.max_epoch=3", "--trainer.max_epochs"),
    ],
)
def test_a_misspelt_option_is_answered_with_the_one_it_is_like(answer, typed, meant):
    code, _, err = answer("fit", typed)
    assert code == 2
    assert err.splitlines()[-1] == f"error: unrecognized arguments: {typed}; did you mean {meant}?"
    assert len(err.splitlines()) == 3


def test_an_option_like_no_other_is_answered_without_a_guess(answer):
    code, _, err = answer("fit", "--zzz=1")
    assert (code, err.splitlines()[-1]) == (2, "error: unrecognized arguments: --zzz=1")


def test_a_misspelt_option_of_a_config_file_is_answered_the_same_way(answer, tmp_path):
    (tmp_path / "some.yaml").write_text("data:\n  trian_file: x\n")
    code, _, err = answer("fit", f"--config={tmp_path / 'some.yaml'}")
    assert code == 2
    assert err.splitlines()[-1].endswith("does not accept option 'data.trian_file'; did you mean data.train_file?")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--trainer.callbacks=EarlyStopping"], "trainer.callbacks: EarlyStopping needs monitor"),
        (["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.patience=2"], "EarlyStopping needs monitor"),
        (["--trainer.callbacks=[RichProgressBar, {class_path: EarlyStopping}]"], "EarlyStopping needs monitor"),
        (["--trainer.logger=CSVLogger"], "--trainer.logger: CSVLogger needs save_dir: give it in its init_args, or "),
        (["--trainer.logger+={class_path: lightning.pytorch.loggers.CSVLogger}"], "CSVLogger needs save_dir"),
        (["--optimizer=SGD", "--lr_scheduler=StepLR"], "or after its name as --lr_scheduler.step_size=..."),
        (["--trainer.plugins=MixedPrecision"], "--trainer.plugins.precision=... --trainer.plugins.device=..."),
        (["--config=some.yaml"], "--trainer.callbacks: EarlyStopping needs monitor"),
    ],
)
def test_what_a_class_needs_is_named_in_a_sentence(answer, args, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("some.yaml").write_text("trainer: {callbacks: [{class_path: EarlyStopping, init_args: {patience: 2}}]}\n")
    code, _, err = answer("fit", *args)
    assert code == 2
    assert len(err.splitlines()) == 3
    assert told in err.splitlines()[-1]


PATIENC = "--trainer.callbacks.patienc: EarlyStopping has no such option; did you mean patience?"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--model.decoding=viterbi"], "--model.decoding=viterbi: expected argmax, constrained or null"),
        (["--data.batch_size=many"], "--data.batch_size=many: expected int or null"),
        (["--keep_memory=perhaps"], "--keep_memory=perhaps: expected bool"),
        (["--data.annotated_types={a: 3}"], "--data.annotated_types={'a': 3}: expected dict[str, list[str]] or null"),
        (["--model.lora.rank=x"], "--model.lora=x: expected int"),
        (["--config=some.yaml"], "--data.scheme=BIO: expected IOB1, IOB2, BIOES, IOBES, BILOU, IO, plain or null"),
        (["--trainer.callbacks+=Foo"], "--trainer.callbacks=Foo: expected list[Callback], Callback or null"),
        (["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.patienc=3"], PATIENC),
        (["--trainer.callbacks=[{class_path: EarlyStopping, init_args: {patienc: 3}}]"], PATIENC),
        (["--optimizer=AdamW", "--optimizer.lr=x"], "--optimizer.lr=x: expected float or Tensor"),
    ],
)
def test_a_wrong_value_is_told_in_a_sentence(answer, args, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("some.yaml").write_text("data: {scheme: BIO}\n")
    code, _, err = answer("fit", *args)
    assert (code, err.splitlines()[-1]) == (2, f"error: {told}")
    assert len(err.splitlines()) == 3


def test_no_kind_of_a_value_is_named_twice(answer):
    _, _, err = answer("fit", "--trainer.precision=bf17")
    told, _, expected = err.splitlines()[-1].partition(": expected ")
    assert told == "error: --trainer.precision=bf17"
    names = expected.replace(" or ", ", ").split(", ")
    assert len(names) == len(set(names))
    assert {"bf16-mixed", "32-true", "auto"} < set(names)


def test_a_suggestion_is_the_closest_of_the_known_words_or_nothing():
    assert suggestion("tst", ["test", "fit"]) == "; did you mean test?"
    assert suggestion("tst", ["inspect"]) == ""


class Limited(Callback):
    def __init__(self, *, limit: float | int | None = None):
        super().__init__()
        self.limit = limit


class HandsItOn(Limited):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)


def test_an_int_stays_one_in_options_that_a_class_hands_on():
    parser = Parser()
    parser.add_lightning_class_args(HandsItOn, "callback")
    for text, value in (("1", 1), ("1.0", 1.0), ("null", None)):
        limit = parser.parse_args([f"--callback.limit={text}"]).callback.limit
        assert (limit, type(limit)) == (value, type(value))
