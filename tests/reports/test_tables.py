"""What a run prints: the numbers are those that were scored, the columns are aligned, the words are counted right."""

import re
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar

from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.metrics import EntityScore
from ner_lightning.model import TokenClassificationModule
from ner_lightning.reports.tables import (
    RunSummary,
    ScoreTable,
    batch_text,
    corpus_text,
    description_text,
    score_table,
    table,
)
from ner_lightning.saving import LastCheckpoint

LABELS = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]

# of Lightning about torch and about loaders without workers, of the Hub client where its progress bars are off
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Cannot enable progress bars"),
]


@pytest.fixture
def make_data(conll_files, tiny_model):
    def make(**options):
        files = {f"{split}_file": str(conll_files / f"{split}.conll") for split in ("train", "validation", "test")}
        return TokenClassificationDataModule(**{**files, "model_name_or_path": str(tiny_model), **options})

    return make


@pytest.fixture
def model(tiny_model):
    return TokenClassificationModule(str(tiny_model), labels=LABELS, learning_rate=1e-2)


def trainer(folder, *callbacks, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, **options}
    return Trainer(accelerator="cpu", default_root_dir=folder, callbacks=list(callbacks), **quiet)


def scores_of(gold, predicted, labels, **options):
    score = EntityScore(labels, **options)
    columns = [torch.tensor([labels.index(tag) for tag in tags]) for tags in (predicted, gold)]
    words = torch.arange(len(gold))
    score.update(words, *columns, torch.zeros_like(words), len(gold))
    return {f"test_{name}": value for name, value in score.compute().items()} | {"test_loss": 0.12345}


def test_the_score_table_shows_what_was_scored():
    gold = "B-PER I-PER O B-PER O B-LOC O O B-ORG O".split()
    predicted = "B-PER I-PER O O O B-LOC O B-LOC B-LOC O".split()
    text = score_table(scores_of(gold, predicted, ["O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"]), "test")
    assert text.splitlines() == [
        "",
        "     precision  recall     f1  support",
        "---  ---------  ------  -----  -------",
        "LOC      33.33  100.00  50.00        1",
        "ORG       0.00    0.00   0.00        1",
        "PER     100.00   50.00  66.67        2",
        "all      50.00   50.00  50.00        4",
        "",
        "accuracy 70.00, loss 0.1235, 10 words scored",
    ]


def test_the_interval_stands_below_the_score_table():
    text = score_table(scores_of(["B-PER", "O"], ["B-PER", "O"], ["O", "B-PER", "I-PER"], interval=True), "test")
    assert text.splitlines()[-1] == "95 % interval of f1: 100.00 to 100.00, bootstrap over 1 sentences"


def test_the_calibration_error_stands_below_the_score_table():
    scores = scores_of(["B-PER", "O"], ["B-PER", "O"], ["O", "B-PER", "I-PER"]) | {"test_calibration_error": 0.0213}
    assert score_table(scores, "test").splitlines()[-1] == "calibration error of entities 2.13"
    scores |= {"test_calibration_error_before": 0.04751, "test_temperature": 1.334}
    assert score_table(scores, "test").splitlines()[-1] == (
        "calibration error of entities 2.13, 4.75 before temperature 1.33"
    )


def test_the_score_table_of_words_without_entities_has_a_row_for_each_label():
    text = score_table(scores_of(["DT", "NN", "NN"], ["DT", "NN", "VB"], ["DT", "NN", "VB"]), "test")
    assert [line.split() for line in text.splitlines()[3:7]] == [
        ["DT", "100.00", "100.00", "100.00", "1"],
        ["NN", "100.00", "50.00", "66.67", "2"],
        ["VB", "0.00", "0.00", "0.00", "0"],
        ["all", "66.67", "50.00", "55.56", "3"],
    ]


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_evaluation_prints_the_table_of_its_scores(make_data, model, tmp_path, capsys, stage):
    run = trainer(tmp_path, ScoreTable(), enable_checkpointing=False)
    (scores,) = getattr(run, stage)(model, make_data(), verbose=False)
    assert score_table(scores, {"validate": "val", "test": "test"}[stage]) in capsys.readouterr().out


def test_validation_within_training_prints_no_table(make_data, model, tmp_path, capsys):
    trainer(tmp_path, ScoreTable(), enable_checkpointing=False, max_epochs=1).fit(model, make_data())
    assert "support" not in capsys.readouterr().out


class Steps(Callback):
    """What the summary should have counted: the words and sentences of every training step."""

    def __init__(self):
        self.words, self.sentences, self.scores = 0, set(), []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.words += int((batch["word_index"] >= 0).sum())
        self.sentences |= {
            (trainer.current_epoch, number) for number in batch["sentence_index"].unique().tolist() if number >= 0
        }

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.scores.append(float(trainer.callback_metrics["val_f1"]))


@pytest.fixture
def fit(make_data, model, tmp_path, capsys):
    """Train and return the summary, the steps and the trainer."""

    def fit(*callbacks, data=None, **options):
        steps, summary = Steps(), RunSummary()
        run = trainer(tmp_path, steps, summary, *callbacks, **options)
        run.fit(model, data or make_data())
        return capsys.readouterr().out, steps, run

    return fit


def test_the_summary_names_the_best_epoch_and_its_checkpoint(fit, tmp_path):
    best = ModelCheckpoint(filename="best", monitor="val_f1", mode="max")
    # whichever of the two comes first
    out, steps, _ = fit(LastCheckpoint(), best, max_epochs=4)
    first = steps.scores.index(max(steps.scores))
    path = tmp_path / "checkpoints" / "best.ckpt"
    assert len(steps.scores) == 4
    assert f"best        val_f1 {max(steps.scores):.4f}, epoch {first}\n" in out
    assert f"checkpoint  {path}\n" in out
    assert f"next        python -m ner_lightning test --ckpt_path {path}\n" in out
    assert torch.load(path, weights_only=True)["epoch"] == first
    rows = [line.split() for line in out.splitlines() if re.match(r"\s*\d+  ", line)]
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert [row[-1] for row in rows] == [f"{score:.4f}" for score in steps.scores]


def test_the_summary_follows_a_monitor_that_falls(fit):
    out, _, run = fit(ModelCheckpoint(filename="best", monitor="val_loss", mode="min"), max_epochs=3)
    score = float(run.checkpoint_callback.best_model_score)
    epoch = torch.load(run.checkpoint_callback.best_model_path, weights_only=True)["epoch"]
    assert f"best        val_loss {score:.4f}, epoch {epoch}\n" in out


def test_without_a_monitor_the_summary_names_the_last_checkpoint(fit, tmp_path):
    out, _, _ = fit(LastCheckpoint(), max_epochs=1, limit_val_batches=0)
    assert "best " not in out
    assert f"checkpoint  {tmp_path / 'checkpoints' / 'last.ckpt'}\n" in out


def test_without_checkpoints_there_is_no_next_command(fit):
    out, _, _ = fit(max_epochs=1, enable_checkpointing=False)
    assert "checkpoint" not in out
    assert "next" not in out
    assert "best        val_f1" in out


class Reader(Callback):
    """What was printed before each epoch began."""

    def __init__(self, capsys):
        self.capsys, self.read = capsys, []

    def on_train_epoch_start(self, trainer, pl_module):
        self.read.append(self.capsys.readouterr().out)


def test_each_epoch_is_a_line_at_once_with_the_mean_loss_of_its_steps(fit, make_data, capsys):
    losses = []

    class Losses(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            losses.append(float(trainer.callback_metrics["train_loss"]))

    reader = Reader(capsys)
    fit(reader, Losses(), data=make_data(batch_size=2), max_epochs=2, accumulate_grad_batches=2)
    assert reader.read[0] == ""
    assert re.fullmatch(
        rf"epoch 0  step 1  train_loss {sum(losses[:2]) / 2:.4f}  val_loss \d\.\d{{4}}  val_f1 \d\.\d{{4}}  0:\d\d\n",
        reader.read[1],
    )


def test_each_validation_is_a_line_and_so_are_steps_that_none_follows(fit, make_data):
    options = {"data": make_data(batch_size=1), "enable_checkpointing": False}
    validated = fit(max_epochs=1, val_check_interval=2, **options)[0].splitlines()
    assert [line.split("  ")[1] for line in validated if line.startswith("epoch 0  ")] == ["step 2", "step 4"]
    alone = fit(max_steps=3, **options)[0].splitlines()
    assert re.fullmatch(r"epoch 0  step 3  train_loss \d\.\d{4}  0:\d\d", alone[0])


def test_where_there_is_a_progress_bar_it_ends_before_the_summary_and_there_are_no_lines(fit):
    class Bar(ProgressBar):
        def teardown(self, trainer, pl_module, stage):
            print("bar ends")

    out, _, _ = fit(Bar(), max_epochs=1, enable_progress_bar=True)
    assert "train_loss" not in out
    assert out.index("bar ends") < out.index("val_precision")


def test_many_labels_are_counted(make_data):
    types = "LOC MISC ORG PER W X Y".split()
    data = make_data(labels=["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")])
    assert corpus_text(data, ["test"]).splitlines()[-1] == (
        "labels      O B-LOC I-LOC B-MISC I-MISC B-ORG I-ORG B-PER I-PER B-W I-W B-X ... (15 in all), scheme IOB2"
    )


def test_several_files_and_rows_in_memory_are_told_apart(make_data, conll_files, tiny_model):
    one, two = (str(conll_files / f"{split}.conll") for split in ("train", "validation"))
    data = make_data(train_file=[one, two], validation_file=None, validation_split=0.5)
    said = f"data        train {one} {two} (3 sentences), validation (3 sentences)"
    assert corpus_text(data, ["train", "validation"]).splitlines()[0] == said
    rows = [{"tokens": ["Mira"], "ner_tags": ["B-PER"]}]
    data = TokenClassificationDataModule.from_rows(train=rows, model_name_or_path=str(tiny_model))
    assert corpus_text(data, ["train"]).splitlines()[0] == "data        train (1 sentences)"


@pytest.fixture
def clock(monkeypatch):
    """A clock that is one second later each time that it is looked at."""
    monkeypatch.setattr("ner_lightning.reports.tables.time", SimpleNamespace(monotonic=count().__next__))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("options", [{}, {"max_seq_length": 14, "batch_size": 2}])
def test_the_speed_counts_each_word_and_sentence_of_training_once(fit, make_data, options):
    out, steps, _ = fit(data=make_data(**options), max_epochs=2, enable_checkpointing=False, limit_val_batches=0)
    assert steps.words == 40
    assert len(steps.sentences) == 8
    assert "speed       4 sentences/s, 20 words/s in training on 1 x cpu\n" in out
    assert "0:02 of it training\n" in out


@pytest.mark.usefixtures("clock")
def test_the_clock_of_training_stands_still_in_validation(fit):
    out, _, _ = fit(max_epochs=1, enable_checkpointing=False, num_sanity_val_steps=0)
    # it is looked at when fit, its epoch and validation begin and end, and for the line of the epoch: of six seconds,
    # one is before validation and one after it
    assert "time        0:06, 0:02 of it training\n" in out


def test_a_try_run_is_summed_up_too(fit):
    out, _, _ = fit(fast_dev_run=True)
    assert "words/s" in out


def test_a_table_is_aligned():
    assert table(["name", "n"], [["a", "1,000"], ["longer", "2"]]).splitlines() == [
        "name        n",
        "------  -----",
        "a       1,000",
        "longer      2",
    ]


def test_a_table_aligns_as_many_columns_to_the_left_as_asked():
    assert table(["a", "b"], [["1", "22"], ["333", "4"]], left=2).splitlines()[2:] == ["1    22", "333  4"]
    assert table(["a", "b"], [], left=2).splitlines() == ["a  b", "-  -"]


def test_a_row_of_another_length_is_no_table():
    with pytest.raises(ValueError, match="zip"):
        table(["a", "b"], [["1"]])


def test_a_description_shows_splits_labels_and_the_first_sentence(make_data, tiny_model):
    lines = [line.split() for line in description_text(make_data().describe()).splitlines()]
    assert ["tokenizer", str(tiny_model)] in lines
    assert ["train", "4", "20", "2", "4", "6"] in lines
    assert ["B-PER", "2", "1", "1"] in lines
    assert "first sentence: Mira Toll visited Arvenholm .".split() in lines
    assert ["M", "Mira", "B-PER"] in lines
    assert ["##i", "Mira", "-"] in lines


def test_a_description_goes_without_a_sentence(make_data):
    text = description_text({**make_data().describe(), "first_row": None, "alignment": []})
    assert "first sentence" not in text


def test_a_batch_is_shown_position_by_position(make_data):
    data = make_data(eval_batch_size=2)
    batch = next(iter(data.test_dataloader()))
    tokens = data.encoder.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
    lines = [line.split() for line in batch_text(batch, tokens, LABELS).splitlines()]
    windows, length = batch["input_ids"].shape
    assert ["input_ids", str(windows), "x", str(length), "torch.int64"] in lines
    assert ["0", "[CLS]", "1", "-100", "-1"] in lines
    first = int(batch["word_index"][0][1])
    assert ["1", tokens[1], "1", LABELS[batch["labels"][0][1]], str(first)] in lines


def test_the_path_of_the_checkpoint_exists(fit):
    out, _, _ = fit(ModelCheckpoint(filename="best", monitor="val_f1", mode="max"), max_epochs=1)
    (path,) = re.findall(r"checkpoint  (.*)", out)
    assert Path(path).is_file()
