"""Whole runs through `main([...])`, and what each wrong input is answered."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning_utilities.core.rank_zero import rank_zero_only

from ner_lightning.__main__ import main as program
from ner_lightning.cli import TokenClassificationCLI, main
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.hub import export
from ner_lightning.scores import known_splits


@pytest.fixture
def arguments(tmp_path, monkeypatch, conll_files, tiny_model):
    """Arguments of a subcommand on the invented corpus with the tiny model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    standard = {
        "--data.train_file": conll_files / "train.conll",
        "--data.validation_file": conll_files / "validation.conll",
        "--data.test_file": conll_files / "test.conll",
        "--model.model_name_or_path": tiny_model,
    }

    def make(subcommand, *args, without=(), alone=False):
        fixed = [] if alone else [f"{name}={value}" for name, value in standard.items() if name not in without]
        quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
        if subcommand == "fit":
            quiet.append("--trainer.log_every_n_steps=1")
        return [subcommand, *fixed, *quiet, *map(str, args)]

    return make


@pytest.fixture
def run(arguments, capsys):
    """Run a subcommand; gives (code, out, err)."""

    def call(*args, **options):
        capsys.readouterr()
        code = main(arguments(*args, **options))
        return code, *capsys.readouterr()

    return call


def fit(run, *args):
    code, out, err = run("fit", "--trainer.max_epochs=2", *args)
    assert code == 0, err
    return out


def error(result):
    """The sentence of an error: the last line, with no traceback before it."""
    code, _, err = result
    assert code == 1
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def test_fit_leaves_checkpoints_logs_and_config_and_says_what_comes_next(run):
    out = fit(run)
    folder = Path("runs/version_0")
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert [path.name for path in Path().iterdir()] == ["runs"]
    assert list(folder.glob("events.out.tfevents.*"))
    logged = set((folder / "metrics.csv").read_text().splitlines()[0].split(","))
    assert {"train_loss", "val_loss", "val_f1", "val_f1_PER", "val_precision", "val_recall", "val_accuracy"} <= logged
    assert any(name.startswith("lr-AdamW") for name in logged)
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_epochs"] == 2
    assert "best        val_f1" in out
    assert "words/s" in out
    assert "python -m ner_lightning test --ckpt_path runs/version_0/checkpoints/best.ckpt" in out


def test_a_config_whose_command_had_several_lines_can_be_read_again(run):
    fit(run, '--checkpoint={"mode":\n"max"}')
    text = Path("runs/version_0/config.yaml").read_text()
    assert text.startswith("# python -m ner_lightning fit ")
    assert yaml.safe_load(text)["checkpoint"]["mode"] == "max"


def test_an_int_is_no_float_where_another_library_made_the_union_first(run, monkeypatch):
    # what Optional[Union[int, float]] is after somebody's Optional[Union[float, int]]
    monkeypatch.setitem(LightningTrainer.__init__.__annotations__, "limit_train_batches", float | int | None)
    out = fit(run, "--data.batch_size=1", "--trainer.limit_train_batches=1")
    assert "step 2 " in out  # of two epochs
    assert "limit_train_batches: 1\n" in Path("runs/version_0/config.yaml").read_text()
    fit(run, "--data.batch_size=1", "--trainer.limit_train_batches=1.0")
    assert "limit_train_batches: 1.0\n" in Path("runs/version_1/config.yaml").read_text()


def test_every_checkpoint_of_a_run_loads_without_running_code(run):
    fit(run)
    for path in Path("runs").glob("**/*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        assert "model.classifier.weight" in checkpoint["state_dict"]


def test_the_saved_config_runs_again(run):
    fit(run)
    code, _, err = run("fit", "--config=runs/version_0/config.yaml", "--trainer.max_steps=1", alone=True)
    assert code == 0, err


def test_test_after_fit_uses_the_best_checkpoint_of_the_newest_run(run, caplog):
    fit(run)
    fit(run)
    code, out, _ = run("test")
    assert code == 0
    assert "using runs/version_1/checkpoints/best.ckpt" in caplog.text
    assert "support" in out
    assert "11 words scored" in out  # the test split has two sentences of five and six words
    again = run("test", "--ckpt_path=runs/version_1/checkpoints/best.ckpt")[1]
    assert again == out


def test_a_checkpoint_alone_says_on_what_it_is_tested(run):
    fit(run)
    named = run("test")[1]
    assert run("test", alone=True)[1] == named
    assert run("test", "--ckpt_path=best", alone=True)[1] == named


def test_validate_of_the_best_checkpoint_repeats_the_score_of_fit(run):
    out = fit(run)
    best = next(line for line in out.splitlines() if line.startswith("best"))
    table = run("validate")[1]
    score = next(line for line in table.splitlines() if line.startswith("all")).split()[3]
    assert f"{float(score) / 100:.4f}" in best


def test_a_run_resumes_from_its_last_checkpoint_with_its_own_options(run):
    fit(run, "--model.learning_rate=0.003")
    code, out, err = run("fit", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert code == 0, err
    config = yaml.safe_load(Path("runs/version_0/config.yaml").read_text())
    assert config["model"]["learning_rate"] == 0.003
    assert [line.split()[0] for line in out.splitlines() if line[:1].isdigit()] == ["2"]  # the third epoch alone


def test_an_option_of_the_command_line_beats_the_checkpoint(run, arguments):
    fit(run)
    cli = TokenClassificationCLI(arguments("test", "--data.eval_batch_size=1", "--model.score_mode=strict"))
    assert cli.datamodule.eval_batch_size == 1
    assert cli.model.test_score.mode == "strict"


def test_a_resumed_run_may_compute_the_same_in_another_way(run):
    assert run("fit", "--trainer.max_epochs=1")[0] == 0
    other = ["--model.compact_embedding=false", "--model.onednn=false", "--model.unpadded=true", "--keep_memory=false"]
    assert run("fit", "--ckpt_path=last", "--trainer.max_epochs=2", *other)[0] == 0


def test_an_option_that_a_resumed_optimizer_would_override_is_refused(run):
    fit(run)
    message = error(run("fit", "--ckpt_path=last", "--model.learning_rate=0.25"))
    assert "--model.learning_rate=0.25, but" in message
    assert "was trained with 2e-05" in message


def test_a_run_that_max_steps_ends_inside_an_epoch_can_be_tested(run):
    code, out, err = run("fit", "--trainer.max_steps=1", "--data.batch_size=1")
    assert code == 0, err
    assert "checkpoints/last.ckpt" in out
    assert run("test")[0] == 0


def test_fit_without_validation_keeps_the_last_epoch(run):
    code, out, err = run("fit", "--trainer.max_epochs=1", without=["--data.validation_file"])
    assert code == 0, err
    assert "best.ckpt" in out


def test_fast_dev_run_writes_nothing(run):
    code, _, err = run("fit", "--trainer.fast_dev_run=true")
    assert code == 0, err
    assert not list(Path().glob("**/*.ckpt"))


def test_inspect_shows_device_corpus_alignment_and_batch(run):
    code, out, err = run("inspect")
    assert code == 0, err
    assert "device          cpu" in out
    assert re.search(r"B-PER +2 +1 +1\n", out)
    assert "##olm" in out  # Arvenholm in pieces
    assert "word_index" in out
    assert "worry   4 of 4 (100.0 %) types have less than 50 entities in train" in out
    told = json.loads(run("inspect", "--json")[1])
    assert told["splits"]["train"]["sentences"] == 4
    rare = next(one for one in told["checks"] if one["check"] == "rare types")
    assert (rare["count"], rare["worry"]) == (4, "yes")
    assert re.fullmatch(r".*/train.conll:\d+", rare["examples"][0]["place"])
    assert not Path("runs").exists()


def test_conllu_and_part_of_speech_run_the_same_way(run, tmp_path):
    line = "{n}\t{word}\t_\t{upos}\t_\t_\t0\troot\t_\t_\n"
    words = ["The DET", "river VERB"], ["A DET", "Bird NOUN", "sang VERB"]
    text = "".join(
        "# text\n" + "".join(line.format(n=i, word=w.split()[0], upos=w.split()[1]) for i, w in enumerate(s, 1)) + "\n"
        for s in words
    )
    path = tmp_path / "some.conllu"
    path.write_text(text)
    files = [f"--data.{split}_file={path}" for split in ("train", "validation", "test")]
    without = [f"--data.{split}_file" for split in ("train", "validation", "test")]
    code, out, err = run("fit", "--trainer.max_epochs=1", *files, without=without)
    assert code == 0, err
    out = run("test", alone=True)[1]
    assert {line.split()[0] for line in out.splitlines() if line} >= {"DET", "NOUN", "VERB", "all"}


class Unusable(Callback):
    """It needs what is not installed."""

    def setup(self, trainer, pl_module, stage):
        import nowhere  # noqa: F401


class NoFolder(Logger):
    """A logger that writes elsewhere, such as to a service: it has neither a `log_dir` nor a `save_dir`."""

    name = "service"
    version = "1"

    @property
    @rank_zero_experiment
    def experiment(self):
        return None

    def log_hyperparams(self, params, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        pass


@pytest.mark.parametrize(
    "logger",
    [
        "false",
        "{class_path: CSVLogger, init_args: {save_dir: logs}}",
        "{class_path: TensorBoardLogger, init_args: {save_dir: runs, name: null}}",
        "{class_path: test_cli.NoFolder}",
    ],
)
def test_every_run_has_its_own_folder_whatever_its_loggers_are(run, caplog, logger):
    before = None
    for number in (0, 1):
        fit(run, f"--trainer.logger={logger}")
        folder = max(Path("runs").glob("version_*/config.yaml"), key=lambda path: path.stat().st_mtime_ns).parent
        assert folder != before
        assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
        assert run("test", f"--trainer.logger={logger}", alone=True)[0] == 0
        assert f"using {folder}/checkpoints/best.ckpt" in caplog.text
        assert len(list(Path().glob("**/config.yaml"))) == number + 1
        before = folder
    # what a logger of the user's writes stands where it says
    assert {path.name for path in Path().iterdir()} <= {"runs", "logs"}


def test_what_is_tested_uses_up_no_run_and_writes_beside_its_checkpoint_alone(run):
    fit(run)
    before = set(Path().glob("**/*"))
    assert run("validate")[0] == run("test")[0] == 0
    assert run("test", "--ckpt_path=runs/version_0/checkpoints/last.ckpt")[0] == 0
    beside = Path("runs/version_0/checkpoints")
    assert set(Path().glob("**/*")) - before == {beside / "best.test.json", beside / "last.test.json"}
    fit(run)
    assert Path("runs/version_1").is_dir()


def test_a_run_says_which_data_it_uses_and_where_it_writes(run, conll_files):
    labels = "labels      O B-LOC I-LOC B-MISC I-MISC B-ORG I-ORG B-PER I-PER, scheme IOB2"
    train, validation, test = (conll_files / f"{split}.conll" for split in ("train", "validation", "test"))
    assert fit(run).splitlines()[:3] == [
        f"data        train {train} (4 sentences), validation {validation} (2 sentences)",
        labels,
        "run         runs/version_0",
    ]
    assert run("validate")[1].splitlines()[:2] == [f"data        validation {validation} (2 sentences)", labels]
    assert run("test")[1].splitlines()[:2] == [f"data        test {test} (2 sentences)", labels]


def test_output_to_a_file_is_a_line_an_epoch_and_no_bar(run, caplog):
    out = fit(run, "--trainer.enable_progress_bar=null")
    lines = [re.sub(r"[01]\.\d{4}|[2-9]\.\d{4}", "N", line) for line in out.splitlines() if line.startswith("epoch ")]
    assert [line.rpartition("  ")[0] for line in lines[:2]] == [
        f"epoch {epoch}  step {epoch + 1}  train_loss N  val_loss N  val_f1 N" for epoch in (0, 1)
    ]
    assert "━━ " not in out
    for chatter in ("litlogger", "Loading `train_dataloader`", "TPU", "stopped:"):
        assert chatter not in caplog.text
    assert run("test", "--trainer.enable_progress_bar=null")[0] == 0
    bar = "{class_path: TQDMProgressBar}"
    assert run("test", "--trainer.enable_progress_bar=null", f"--trainer.callbacks=[{bar}]")[0] == 0


def test_tensorboard_shows_no_number_that_nobody_measured(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(run)
    events = EventAccumulator("runs/version_0").Reload()
    assert "val_f1" in events.Tags()["scalars"]
    assert "hp_metric" not in events.Tags()["scalars"]


def early_stopping(monitor):
    return f"--trainer.callbacks={{class_path: EarlyStopping, init_args: {{monitor: {monitor}}}}}"


@pytest.mark.parametrize("monitor", ["val_f1_GOD", "test_f1"])
@pytest.mark.parametrize("more", [[], ["--trainer.num_sanity_val_steps=0"]])
def test_a_monitor_that_nothing_logs_is_named_with_those_that_are(run, monitor, more):
    message = error(run("fit", early_stopping(monitor), *more))
    assert f"EarlyStopping: monitor={monitor} is not logged; give one of train_loss, val_accuracy, val_f1," in message
    assert f"BestCheckpoint: monitor={monitor} is not logged" in error(run("fit", f"--checkpoint.monitor={monitor}"))


def test_early_stopping_without_a_validation_is_refused(run):
    message = "EarlyStopping: monitor=val_f1, but nothing is validated"
    assert message in error(run("fit", early_stopping("val_f1"), without=["--data.validation_file"]))
    assert message in error(run("fit", early_stopping("val_f1"), "--trainer.limit_val_batches=0"))
    assert not Path("runs").exists()


@pytest.mark.filterwarnings("ignore:Early stopping conditioned on metric `val_f1` which is not available")
def test_a_run_that_ends_before_its_first_validation_is_not_lost_to_early_stopping(run):
    steps = ["--trainer.max_steps=1", "--data.batch_size=1", "--trainer.num_sanity_val_steps=0"]
    code, _, err = run("fit", early_stopping("val_f1"), *steps)
    assert code == 0, err
    assert Path("runs/version_0/checkpoints/last.ckpt").is_file()


def test_early_stopping_stops(run):
    # the score stays as it is: the third epoch is the last
    stop = "--trainer.callbacks={class_path: EarlyStopping, init_args: {monitor: val_f1, mode: max, patience: 2}}"
    code, out, err = run("fit", stop, "--trainer.max_epochs=9", "--model.learning_rate=0")
    assert code == 0, err
    assert len([line for line in out.splitlines() if line[:1].isdigit()]) == 3


def test_a_path_that_a_checkpoint_recorded_is_told_from_one_that_was_given(run, conll_files, tmp_path, monkeypatch):
    shutil.copytree(conll_files, "corpus")
    files = [f"--data.{split}_file=corpus/{split}.conll" for split in ("train", "validation", "test")]
    fit(run, *files)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = tmp_path / "runs/version_0/checkpoints/best.ckpt"
    message = error(run("test", f"--ckpt_path={path}", alone=True))
    assert f"corpus/train.conll: no such file here; {path} records it" in message
    assert "give --data.train_file, or start there" in message
    monkeypatch.chdir(tmp_path)
    shutil.rmtree("runs")
    fit(run, "--data.dataset_name=corpus", *(f"--data.{split}_file=null" for split in ("train", "validation", "test")))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "corpus: no such file here; " in error(run("test", f"--ckpt_path={path}", alone=True))


def test_a_dataset_that_files_have_replaced_is_not_looked_for(run):
    fit(run, "--data.dataset_name=lhoestq/conll2003")  # as of a config, with our files beside it
    code, _, err = run("test", alone=True)
    assert code == 0, err


def test_several_files_and_a_share_for_validation_are_those_of_the_checkpoint(run, conll_files, tmp_path, monkeypatch):
    shutil.copytree(conll_files, "corpus")
    files = "[corpus/train.conll, corpus/validation.conll]"
    fit(run, f"--data.train_file={files}", "--data.validation_file=null", "--data.validation_split=0.5")
    path = tmp_path / "runs/version_0/checkpoints/best.ckpt"
    code, _, err = run("validate", f"--ckpt_path={path}", alone=True)
    assert code == 0, err
    splits = known_splits(torch.load(path, weights_only=True))
    assert [split.file for split in splits] == ["train.conll, validation.conll"] * 2
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    message = error(run("validate", f"--ckpt_path={path}", alone=True))
    assert f"corpus/train.conll: no such file here; {path} records it" in message


@pytest.mark.parametrize("kind", ["last", "best"])
@pytest.mark.parametrize("limit", ["--trainer.max_epochs=2", "--trainer.max_steps=2"])
def test_a_run_that_is_finished_says_so(run, kind, limit):
    code, _, err = run("fit", limit, "--trainer.max_epochs=2", "--model.learning_rate=0.01")
    assert code == 0, err
    # the best one may be of the first epoch, after which there is something to do
    shutil.copyfile("runs/version_0/checkpoints/last.ckpt", "runs/version_0/checkpoints/best.ckpt")
    message = error(run("fit", f"--ckpt_path={kind}", limit))
    assert f"runs/version_0/checkpoints/{kind}.ckpt: the run has done " in message
    assert limit.split("=")[0] in message
    assert not Path("runs/version_1").exists()


def test_the_folder_of_a_run_is_taken_where_a_checkpoint_is(run, caplog, capsys):
    fit(run)
    fit(run)
    for command in ("validate", "test"):
        code, _, err = run(command, "--ckpt_path=runs/version_0", alone=True)
        assert code == 0, err
        assert "using runs/version_0/checkpoints/best.ckpt" in caplog.text
        caplog.clear()
    assert run("fit", "--ckpt_path=runs/version_0", "--trainer.max_epochs=3")[0] == 0
    assert "using runs/version_0/checkpoints/last.ckpt" in caplog.text
    capsys.readouterr()
    assert program(["export", "--ckpt_path=runs/version_0"]) == 0
    assert capsys.readouterr().out == "exported: runs/version_0/model\n"
    Path("runs/version_0/checkpoints/best.ckpt").unlink()
    caplog.clear()
    assert run("test", "--ckpt_path=runs/version_0/checkpoints", alone=True)[0] == 0
    assert "using runs/version_0/checkpoints/last.ckpt" in caplog.text
    caplog.clear()
    fit(run)
    assert run("test", "--ckpt_path=runs", alone=True)[0] == 0
    assert "using runs/version_2/checkpoints/best.ckpt" in caplog.text  # of the newest run in it


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data.train_file=nowhere.conll"], r"nowhere.conll: no such file"),
        (["--data.train_file=."], r"\.: .*directory"),
        (["--data.train_file=empty.conll"], r"empty.conll: .*empty"),
        (["--data.train_file=short.conll"], r"short.conll:2: .*column"),
        (["--data.label_column_name=7"], r"train.conll: .*column"),
        (["--data.max_seq_length=65"], r"--data.max_seq_length=65 .*64"),
        (["--data.max_seq_length=2"], r"--data.max_seq_length=2 leaves no room"),
        (["--data.batch_size=0"], r"--data.batch_size=0"),
        (["--data.eval_batch_size=-1"], r"--data.eval_batch_size=-1"),
        (["--data.num_workers=-1"], r"--data.num_workers=-1"),
        (["--model.learning_rate=-1"], r"--model.learning_rate=-1"),
        (["--trainer.default_root_dir=/proc/x"], r"/proc/x"),
        (["--model.warmup_ratio=2"], r"--model.warmup_ratio=2"),
        (["--model.freeze_layers=9"], r"--model.freeze_layers=9: the model has 1 layers"),
        (["--model.model_name_or_path=no/where"], r"--model.model_name_or_path=no/where: .*offline"),
        (["--trainer.max_epochs=-1"], r"--trainer.max_epochs"),
        (["--trainer.overfit_batches=1"], r"--trainer.overfit_batches .*limit_train_batches"),
        (["--trainer.default_root_dir=s3://bucket"], r"--trainer.default_root_dir=s3://bucket: give a folder of this"),
        (["--trainer.accumulate_grad_batches=0"], r"--trainer.accumulate_grad_batches=0: give a number from 1"),
        (["--trainer.check_val_every_n_epoch=0"], r"--trainer.check_val_every_n_epoch=0: give a number from 1"),
        (["--trainer.val_check_interval=9"], r"--trainer.val_check_interval=9: an epoch has 1 batches"),
        (["--trainer.val_check_interval=9", "--data.batch_size=2"], r"=9: an epoch has 2 batches"),
        (["--trainer.strategy=nonsense"], r"invalid strategy name: `strategy='nonsense'`"),
        (["--trainer.logger={class_path: CometLogger}"], r"comet-ml.*pip install"),
        (["--trainer.callbacks=test_cli.Unusable"], r"No module named 'nowhere'"),
        (["--seed_everything=-1"], r"--seed_everything=-1: give a number from 0 to 4294967295"),
        (["--data=\0"], r"an option or a config file has a value that cannot be read: embedded null byte"),
        (["--ckpt_path=."], r"error: \.: no best.ckpt and no last.ckpt in this folder"),
        (["--config=empty.ckpt"], r"--config=empty.ckpt: not a text file.*--ckpt_path"),
        (["--config=conl"], r"--config=conl: no such file, and no config of the package: chunking, conll-\w+, "),
        (["--ckpt_path=nowhere.ckpt"], r"nowhere.ckpt: expected a checkpoint, found no such file"),
        (["--ckpt_path=best"], r"no checkpoint below runs"),
    ],
)
def test_wrong_input_gets_one_sentence_and_leaves_nothing(run, tmp_path, args, message):
    (tmp_path / "empty.conll").touch()
    (tmp_path / "empty.ckpt").write_bytes(b"PK\x03\x04\x80")
    (tmp_path / "short.conll").write_text("Mira B-PER\nToll\n")
    replaced = [arg.split("=")[0] for arg in args]
    assert re.search(message, error(run("fit", *args, without=replaced)))
    assert not list(Path().glob("runs/**/*.ckpt"))


def test_no_network_for_a_dataset_says_what_works_offline(run):
    without = [f"--data.{split}_file" for split in ("train", "validation", "test")]
    message = error(run("fit", "--data.dataset_name=lhoestq/conll2003", without=without))
    assert "ner_lightning/quickstart" in message


def test_a_checkpoint_cut_short_is_named(run):
    fit(run)
    path = Path("runs/version_0/checkpoints/best.ckpt")
    path.write_bytes(path.read_bytes()[:-200])
    assert "best.ckpt: not a whole checkpoint" in error(run("test", f"--ckpt_path={path}"))


def test_labels_that_the_checkpoint_does_not_know_are_named_with_their_place(run, tmp_path):
    fit(run)
    (tmp_path / "more.conll").write_text("Mira NNP I-NP O\n\nToll NNP I-NP B-GOD\n")
    message = error(run("test", "--data.test_file=more.conll", alone=True))
    assert "more.conll:3" in message
    assert "B-GOD" in message


def test_other_labels_than_those_of_the_checkpoint_are_an_error_with_both_lists(run, conll_files):
    fit(run)
    message = error(run("test", "--data.labels=[O,B-LOC,I-LOC,B-PER,I-PER,B-ORG,I-ORG,B-MISC,I-MISC]"))
    assert "['O', 'B-LOC', 'I-LOC', 'B-MISC'" in message
    assert "['O', 'B-LOC', 'I-LOC', 'B-PER'" in message


@pytest.mark.parametrize("form", ["--data={path}", "--data {path}", "--data={{eval_batch_size: 7}}"])
def test_options_of_a_file_named_on_the_command_line_beat_the_checkpoint(run, arguments, tmp_path, form):
    fit(run)
    path = tmp_path / "data.yaml"
    path.write_text("eval_batch_size: 7")
    given = form.format(path=path)
    args = [given] if "{" in given else given.split(" ")
    assert TokenClassificationCLI(arguments("test", *args, alone=True)).datamodule.eval_batch_size == 7


def test_abbreviated_options_are_not_taken(run):
    with pytest.raises(SystemExit) as exit_info:
        run("test", "--data.eval_batch=9")
    assert exit_info.value.code == 2


def test_names_of_numbers_are_remembered_for_the_test_file(run, tmp_path):
    names = "[O,B-PER,E-PER,I-PER,S-PER]"
    rows = [{"tokens": ["Mira", "de", "Toll", "left"], "ner_tags": [1, 3, 2, 0]}, {"tokens": ["Jon"], "ner_tags": [4]}]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = [f"--data.{split}_file={split}.jsonl" for split in ("train", "validation", "test")]
    without = [f"--data.{split}_file" for split in ("train", "validation", "test")]
    code, _, err = run("fit", "--trainer.max_epochs=1", f"--data.labels={names}", *files, without=without)
    assert code == 0, err
    for more in ([], ["--data.test_file=test.jsonl"]):
        code, out, err = run("test", *more, alone=True)
        assert code == 0, err
        assert next(line for line in out.splitlines() if line.startswith("PER")).split()[-1] == "2"


def test_a_fine_tuned_model_is_used_as_it_is_without_a_checkpoint(run, tmp_path):
    fit(run)
    scores = run("test")[1]
    export(output=str(tmp_path / "tuned"))
    shutil.rmtree("runs")
    tuned = f"--model.model_name_or_path={tmp_path / 'tuned'}"
    assert run("test", tuned, without=["--model.model_name_or_path"])[1] == scores
    (tmp_path / "other.conll").write_text("Mira B-GOD\n")
    message = error(run("test", tuned, "--data.train_file=other.conll", "--data.test_file=other.conll", alone=True))
    assert "B-GOD" in message
    assert "label list O, B-LOC" in message


def test_a_resumed_run_has_its_seed_and_refuses_another(run):
    fit(run, "--seed_everything=7")
    assert run("fit", "--ckpt_path=last", "--trainer.max_epochs=3")[0] == 0
    assert yaml.safe_load(Path("runs/version_0/config.yaml").read_text())["seed_everything"] == 7
    message = error(run("fit", "--ckpt_path=last", "--seed_everything=8"))
    assert "--seed_everything=8, but" in message


def test_a_seed_of_the_data_alone_is_not_taken_for_that_of_the_run(run):
    fit(run, "--data.seed=7")
    code, _, err = run("fit", "--ckpt_path=last", "--trainer.max_epochs=3", "--seed_everything=42")
    assert code == 0, err
    config = yaml.safe_load(Path("runs/version_0/config.yaml").read_text())
    assert (config["seed_everything"], config["data"]["seed"]) == (42, 7)


def test_a_share_for_validation_is_that_of_the_run(run, tmp_path):
    (tmp_path / "many.conll").write_text("".join("Mira B-PER\n" + "left O\n" * i + "\n" for i in range(20)))
    data = ["--data.train_file=many.conll", "--data.validation_split=0.3", "--seed_everything=1"]
    others = [f"--data.{split}_file" for split in ("train", "validation", "test")]
    code, _, err = run("fit", *data, "--trainer.max_epochs=1", without=others)
    assert code == 0, err
    shares = [
        TokenClassificationCLI(["validate", "--trainer.accelerator=cpu", *seed]).datamodule.corpus.splits["validation"]
        for seed in ([], ["--data.seed=1"], ["--data.seed=2"])
    ]
    words = [share.to_dict() for share in shares]
    assert words[0] == words[1] != words[2]


def test_a_saved_config_tests_another_file(run, conll_files):
    fit(run)
    file = f"--data.test_file={conll_files / 'validation.conll'}"
    code, out, err = run("test", "--config=runs/version_0/config.yaml", file, "--data.train_file=null", alone=True)
    assert code == 0, err
    assert "12 words scored" in out


def test_weights_alone_do_not_resume(run):
    fit(run, "--checkpoint.save_weights_only=true")
    message = error(run("fit", "--ckpt_path=best"))
    assert "holds weights alone" in message


def test_a_test_file_without_entities_is_scored(run, tmp_path):
    fit(run)
    (tmp_path / "o.conll").write_text("Rain O\nfell O\n")
    assert "2 words scored" in run("test", "--data.test_file=o.conll", alone=True)[1]


def test_a_broken_checkpoint_of_another_run_is_passed_over(run, caplog):
    fit(run)
    broken = Path("runs/version_1/checkpoints/best.ckpt")
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"cut")
    assert run("test")[0] == 0
    assert "version_0/checkpoints/best.ckpt is used in its place" in caplog.text


def test_a_refused_test_leaves_no_folder(run):
    fit(run)
    error(run("test", "--data.labels=[O,B-LOC,I-LOC,B-PER,I-PER,B-ORG,I-ORG,B-MISC,I-MISC]"))
    error(run("test", without=["--data.test_file"]))
    assert [path.name for path in Path("runs").iterdir()] == ["version_0"]


def test_a_run_without_checkpoints_runs(run):
    code, _, err = run("fit", "--trainer.max_epochs=1", "--trainer.enable_checkpointing=false")
    assert code == 0, err
    assert not list(Path().glob("**/*.ckpt"))


def test_debug_shows_the_traceback(run):
    from ner_lightning.errors import InputError

    with pytest.raises(InputError, match="batch_size=0"):
        run("fit", "--data.batch_size=0", "--debug")


@pytest.mark.parametrize("args", [["fit", "--model.learning_rte=1"], ["fit", "--config=nowhere.yaml"], ["fly"], []])
def test_wrong_usage_exits_with_2_and_a_short_text(capsys, args):
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    assert exit_info.value.code == 2
    err = capsys.readouterr().err
    assert "error" in err
    assert len(err.splitlines()) < 12


def test_help_imports_no_heavy_library_that_lightning_does_not_import_itself():
    code = (
        "import sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "import lightning.pytorch.cli\n"
        "before = set(sys.modules)\n"
        "from ner_lightning.cli import main\n"
        "try: main(['fit', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'datasets', 'pandas', 'pyarrow', 'seqeval', 'sklearn', 'transformers.modeling_utils'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    for text in ("--data.train_file", "--model.learning_rate", "Peak of the learning rate"):
        assert text in out


def test_the_epoch_with_the_smallest_loss_is_kept_where_the_loss_is_monitored(run):
    out = fit(run, "--checkpoint.monitor=val_loss", "--model.learning_rate=0.01")
    losses = [float(line.split()[1]) for line in out.splitlines() if line[:1].isdigit()]
    best = torch.load("runs/version_0/checkpoints/best.ckpt", weights_only=True)
    assert best["validation_scores"]["val_loss"] == pytest.approx(min(losses), abs=1e-4)
    assert max(losses) > min(losses)


def test_a_run_that_diverges_ends_at_once_and_keeps_no_such_weights(run):
    message = error(run("fit", "--model.learning_rate=1e30", "--data.batch_size=1"))
    assert "the training loss is nan at step " in message
    assert "nothing was saved before" in message
    assert not list(Path("runs").glob("**/*.ckpt"))


def test_weights_that_are_not_finite_are_never_kept(run):
    options = ["--model.learning_rate=1e30", "--model.terminate_on_nan=false", "--data.batch_size=1"]
    message = error(run("fit", *options))
    assert "are not finite at step " in message
    assert not list(Path("runs").glob("**/*.ckpt"))


def test_of_a_run_that_diverges_later_the_last_good_state_stays(run):
    fit(run)
    message = error(run("fit", "--ckpt_path=last", "--trainer.max_epochs=3", "--trainer.callbacks+=test_cli.Blow"))
    assert "runs/version_0/checkpoints/best.ckpt is the last good checkpoint" in message
    best = torch.load("runs/version_0/checkpoints/best.ckpt", weights_only=True)
    assert all(weights.isfinite().all() for weights in best["state_dict"].values())


class Blow(Callback):
    """Make a weight infinite, as an overflow would."""

    def on_train_start(self, trainer, pl_module):
        """The bias of the classifier."""
        pl_module.model.classifier.bias.data[0] = torch.inf


def test_labels_of_all_splits_are_those_of_the_model_its_checkpoint_and_every_later_test(run):
    Path("test.conll").write_text("Mira B-RARE\nleft O\n")
    fit(run, "--data.labels=all", "--data.test_file=test.conll")
    labels = torch.load("runs/version_0/checkpoints/best.ckpt", weights_only=True)["hyper_parameters"]["labels"]
    assert labels[-2:] == ["B-RARE", "I-RARE"]
    files = ("--data.train_file", "--data.validation_file")
    for without in ((), files):  # a test file alone has fewer labels
        code, _, err = run("test", "--data.test_file=test.conll", without=without)
        assert code == 0, err
    code, _, err = run(
        "fit",
        "--config=runs/version_0/config.yaml",
        "--ckpt_path=runs/version_0/checkpoints/last.ckpt",
        "--trainer.max_epochs=3",
        alone=True,
    )
    assert code == 0, err


def test_the_type_of_tags_without_one_goes_with_the_checkpoint(run):
    Path("one.conll").write_text("Mira B\nToll I\nleft O\n")
    files = [f"--data.{split}_file=one.conll" for split in ("train", "validation", "test")]
    fit(run, "--data.entity_type=Taxon", *files)
    code, out, err = run("test", "--data.test_file=one.conll", without=("--data.train_file", "--data.validation_file"))
    assert code == 0, err
    assert "Taxon" in out


@pytest.mark.parametrize(("rank", "tokenised"), [(0, {"train"}), (1, set())])
def test_of_processes_that_a_launcher_starts_together_one_tokenises(arguments, monkeypatch, rank, tokenised):
    class Stopped(TokenClassificationCLI):
        def fit(self, **arguments):
            """Nothing."""

    monkeypatch.setattr(rank_zero_only, "rank", rank)
    encoded = []
    encode = TokenClassificationDataModule._encode
    monkeypatch.setattr(
        TokenClassificationDataModule, "_encode", lambda data, split: encoded.append(split) or encode(data, split)
    )
    Stopped(arguments("fit"))
    assert set(encoded) == tokenised


@pytest.mark.parametrize(("option", "kept"), [([], [True]), (["--keep_memory=false"], [])])
def test_memory_is_kept_in_training_unless_it_is_not_wanted(run, monkeypatch, option, kept):
    calls = []
    monkeypatch.setattr("ner_lightning.cli.keep_memory", lambda: calls.append(True))
    assert run("fit", "--trainer.max_steps=1", *option)[0] == 0
    assert calls == kept
