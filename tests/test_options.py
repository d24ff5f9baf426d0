"""The command line, then config files, then what the checkpoint records, then the defaults; also for equal values."""

from pathlib import Path

import pytest
import yaml

from ner_lightning.cli import TokenClassificationCLI, main

# (option, its default, two other values)
OPTIONS = [
    ("model.score_mode", "default", "strict", "strict"),
    ("model.subword_weight", 0.1, 0.5, 0.7),
    ("data.eval_batch_size", 32, 7, 9),
    ("data.label_all_tokens", False, True, True),
    ("trainer.max_epochs", 3, 2, 4),
    ("trainer.gradient_clip_val", None, 1.5, 2.5),
    ("checkpoint.monitor", "val_f1", "val_accuracy", "val_recall"),
]


class Parsed(TokenClassificationCLI):
    """A command line that stops where the work would begin."""

    def fit(self, **arguments):
        """Nothing."""

    test = fit


@pytest.fixture
def parse(tmp_path, monkeypatch, conll_files, tiny_model):
    """Options of a subcommand as they are used, for a run that was trained with `recorded`."""
    files = [f"--data.{split}_file={conll_files / split}.conll" for split in ("train", "validation", "test")]

    def call(subcommand, recorded, config, typed):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        monkeypatch.chdir(folder)
        quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]
        start = ["fit", *files, f"--model.model_name_or_path={tiny_model}", "--trainer.max_steps=1", *quiet]
        assert main([*start, *(f"--{name}={value}" for name, value in recorded.items())]) == 0
        Path("given.yaml").write_text(yaml.safe_dump(nested(config)))
        checkpoint = "--ckpt_path=runs/version_0/checkpoints/last.ckpt"
        command = [subcommand, checkpoint, "--config=given.yaml", *quiet]
        return Parsed([*command, *(f"--{name}={value}" for name, value in typed.items())]).config[subcommand]

    return call


def nested(options):
    groups = {}
    for name, value in options.items():
        group, _, option = name.partition(".")
        groups.setdefault(group, {})[option] = value
    return groups


@pytest.mark.parametrize(("option", "default", "one", "other"), OPTIONS)
def test_the_strongest_source_decides_in_a_resumed_run(parse, option, default, one, other):
    plain = {} if default is None else {option: default}
    assert parse("fit", {}, {}, {})[option] == default
    assert parse("fit", {option: one}, {}, {})[option] == one
    if not option.startswith("model."):  # of which a resumed run refuses other ones
        assert parse("fit", {option: one}, plain, {})[option] == (one if default is None else default)
        assert parse("fit", {option: one}, {option: other}, plain)[option] == (other if default is None else default)
        assert parse("fit", {option: one}, plain, {option: other})[option] == other


@pytest.mark.parametrize(("option", "default", "one", "other"), [row for row in OPTIONS if row[0][0] in "md"])
def test_the_strongest_source_decides_in_a_test(parse, option, default, one, other):
    assert parse("test", {option: one}, {}, {})[option] == one
    assert parse("test", {option: one}, {option: default}, {})[option] == default
    assert parse("test", {option: one}, {option: other}, {option: default})[option] == default
    assert parse("test", {option: one}, {option: default}, {option: other})[option] == other


def test_a_test_takes_no_options_of_the_trainer_from_the_machine_that_trained(parse):
    assert parse("test", {"trainer.limit_test_batches": 1, "trainer.max_epochs": 9}, {}, {})["trainer.max_epochs"] == 3


def test_a_resumed_run_needs_no_config(parse):
    callbacks = {"trainer.callbacks+": "EarlyStopping", "trainer.callbacks.monitor": "val_f1"}
    config = parse("fit", {"trainer.gradient_clip_val": 1.5, "trainer.accumulate_grad_batches": 2, **callbacks}, {}, {})
    assert (config["trainer.gradient_clip_val"], config["trainer.accumulate_grad_batches"]) == (1.5, 2)
    assert [callback["init_args"]["monitor"] for callback in config["trainer.callbacks"]] == ["val_f1"]
