"""The command line, then config files, then what the checkpoint records, then the defaults; also for equal values."""

import pytest
import yaml

from ner_lightning.cli import TokenClassificationCLI, main

# (option, its default, two other values)
OPTIONS = [
    ("model.score_mode", "default", "strict", "strict"),
    ("model.subword_weight", 0.1, 0.5, 0.7),
    ("data.eval_batch_size", None, 7, 9),
    ("data.label_all_tokens", False, True, True),
    ("trainer.max_epochs", 3, 2, 4),
    ("trainer.gradient_clip_val", None, 1.5, 2.5),
    ("checkpoint.monitor", "val_f1", "val_accuracy", "val_recall"),
]
MORE = {
    "trainer.accumulate_grad_batches": 2,
    "trainer.callbacks+": "EarlyStopping",
    "trainer.callbacks.monitor": "val_f1",
}


class Parsed(TokenClassificationCLI):
    """A command line that stops where the work would begin."""

    def fit(self, **arguments):
        """Nothing."""

    test = fit


QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, conll_files, tiny_model):
    """The checkpoint of a run with the defaults, and of one with the first of the other values."""
    files = [f"--data.{split}_file={conll_files / split}.conll" for split in ("train", "validation", "test")]
    found = {}
    for kind, options in (("defaults", {}), ("others", {name: one for name, _, one, _ in OPTIONS} | MORE)):
        root = tmp_path_factory.mktemp(kind)
        start = ["fit", *files, f"--model.model_name_or_path={tiny_model}", f"--trainer.default_root_dir={root}"]
        assert main([*start, *QUIET, "--trainer.max_steps=1", *flags(options)]) == 0
        found[kind] = root / "version_0/checkpoints/last.ckpt"
    return found


@pytest.fixture
def parse(checkpoints, tmp_path):
    """The options of a subcommand as they are used, with a checkpoint, a config file and a command line."""

    def call(subcommand, recorded, config, typed):
        (tmp_path / "given.yaml").write_text(yaml.safe_dump(nested(config)))
        more = ["--trainer.max_steps=9"] if subcommand == "fit" else []  # else there is nothing left to do
        given = [*more, f"--ckpt_path={checkpoints[recorded]}", f"--config={tmp_path / 'given.yaml'}", *QUIET]
        return Parsed([subcommand, *given, f"--trainer.default_root_dir={tmp_path}", *flags(typed)]).config[subcommand]

    return call


def flags(options):
    return [f"--{name}={value}" for name, value in options.items()]


def typed(value):
    return "null" if value is None else value


def nested(options):
    groups = {}
    for name, value in options.items():
        group, _, option = name.partition(".")
        groups.setdefault(group, {})[option] = value
    return groups


@pytest.mark.parametrize(("option", "default", "one", "other"), OPTIONS)
def test_the_strongest_source_decides_in_a_resumed_run(parse, option, default, one, other):
    assert parse("fit", "defaults", {}, {})[option] == default
    assert parse("fit", "others", {}, {})[option] == one
    if not option.startswith("model."):  # of which a resumed run refuses other ones
        assert parse("fit", "others", {option: default}, {})[option] == default
        assert parse("fit", "others", {option: other}, {option: typed(default)})[option] == default
        assert parse("fit", "others", {option: default}, {option: other})[option] == other


@pytest.mark.parametrize(("option", "default", "one", "other"), [row for row in OPTIONS if row[0][0] in "md"])
def test_the_strongest_source_decides_in_a_test(parse, option, default, one, other):
    assert parse("test", "others", {}, {})[option] == one
    assert parse("test", "others", {option: default}, {})[option] == default
    assert parse("test", "others", {option: other}, {option: typed(default)})[option] == default
    assert parse("test", "others", {option: default}, {option: other})[option] == other


def test_a_test_takes_no_options_of_the_trainer_from_the_machine_that_trained(parse):
    config = parse("test", "others", {}, {})
    assert (config["trainer.max_epochs"], config["trainer.gradient_clip_val"]) == (3, None)


def test_a_resumed_run_needs_no_config(parse):
    config = parse("fit", "others", {}, {})
    assert config["trainer.accumulate_grad_batches"] == 2
    assert [callback["init_args"]["monitor"] for callback in config["trainer.callbacks"]] == ["val_f1"]


def test_the_command_of_a_run_typed_again_adds_no_callback_to_itself(parse):
    config = parse(
        "fit", "others", {}, {name: MORE[name] for name in ("trainer.callbacks+", "trainer.callbacks.monitor")}
    )
    assert len(config["trainer.callbacks"]) == 1


@pytest.mark.parametrize("named", [[], ["--model.model_name_or_path=bert-base-cased"]])
def test_a_new_run_has_the_default_model_named_or_not(named, monkeypatch, conll_files, tiny_model):
    monkeypatch.setattr(TokenClassificationCLI, "instantiate_classes", lambda cli: None)
    monkeypatch.setattr(TokenClassificationCLI, "_run_subcommand", lambda cli, subcommand: None)
    config = TokenClassificationCLI(["fit", f"--data.train_file={conll_files / 'train.conll'}", *named]).config["fit"]
    assert config["model.model_name_or_path"] == config["data.model_name_or_path"] == "bert-base-cased"
