"""`report` from a checkpoint to its files: the predictions of `test`, the options, and what is refused."""

import json
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from ner_lightning.__main__ import main
from ner_lightning.checkpoints import read_checkpoint
from ner_lightning.errors import InputError
from ner_lightning.predict import Tagger
from ner_lightning.pretrained import load_tokenizer
from ner_lightning.readers import ReadOptions, read
from ner_lightning.reports.predictions import predictions_of
from ner_lightning.reports.report import numbers_of, report

from .made import predictions

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, conll_files, tiny_model):
    """A folder with a tested run whose windows hold 16 sub-words, and one with other weights."""
    folder = tmp_path_factory.mktemp("runs")
    files = [f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation", "test")]
    options = [f"--model.model_name_or_path={tiny_model}", f"--trainer.default_root_dir={folder}", *files, *QUIET]
    fit = ["--model.learning_rate=5e-2", "--data.max_seq_length=16", "--trainer.max_epochs=4"]
    assert main(["fit", *options, *fit, "--trainer.log_every_n_steps=1"]) == 0
    assert main(["test", *options]) == 0
    path = folder / "version_0/checkpoints/best.ckpt"

    def worse(checkpoint):
        generator = torch.Generator().manual_seed(0)
        weights = checkpoint["state_dict"]["model.classifier.weight"]
        weights += torch.randn(weights.shape, generator=generator)

    changed(path, folder / "version_1/checkpoints/best.ckpt", worse)
    return folder


@pytest.fixture(scope="module")
def checkpoint(runs):
    return runs / "version_0/checkpoints/best.ckpt"


@pytest.fixture(scope="module")
def found(checkpoint):
    return predictions_of(checkpoint, split="test", device="cpu")


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    """A page against the other run, and its numbers."""
    folder = tmp_path_factory.mktemp("written")
    run, other = (str(runs / f"version_{number}") for number in (0, 1))
    options = ["--against", other, f"--output={folder / 'page.html'}", "--json", "--device=cpu"]
    options += [f"--suspects={folder / 'tasks.jsonl'}", "--suspects_format=doccano"]
    assert main(["report", run, *options]) == 0
    return folder


def changed(path, target, change):
    """A copy of a checkpoint in which something is different."""
    checkpoint = read_checkpoint(path)
    change(checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, target)
    return target


def test_the_scores_are_those_of_the_test(checkpoint, found, written):
    record = json.loads(checkpoint.with_suffix(".test.json").read_text())
    numbers = json.loads((written / "page.json").read_text())
    assert 0 < numbers["scores"]["accuracy"] < 1
    assert numbers["scores"] == pytest.approx(record["scores"], rel=1e-5)
    assert {name: counts.tolist() for name, counts in found.counts.items()} == record["counts"]
    assert numbers["split"]["file"] == "test.conll"


def test_the_labels_are_those_of_the_tagger(checkpoint, found):
    sentences = [found.words[start:end] for start, end in zip(found.sentences, found.sentences[1:], strict=False)]
    tagged = [word for words in Tagger.load(checkpoint, device="cpu").tags(sentences) for word in words]
    assert [found.labels[label] for label in found.predicted] == [word.label for word in tagged]
    own = found.probabilities[np.arange(len(found.words)), found.predicted]
    assert own == pytest.approx([word.score for word in tagged], abs=1e-5)


def test_suspects_are_tasks_in_the_order_of_the_page(written):
    listed = json.loads((written / "page.json").read_text())["suspects"]
    tasks = [json.loads(line) for line in (written / "tasks.jsonl").read_text().splitlines()]
    assert [task["text"] for task in tasks] == [" ".join(row["words"]) for row in listed]
    assert all(task["suspect"].startswith(f"{row['place']}: ") for task, row in zip(tasks, listed, strict=True))


def test_words_places_and_what_training_has(conll_files, tiny_model, found):
    rows = list(read(conll_files / "test.conll", options=ReadOptions()))
    assert found.words == list(chain.from_iterable(row.words for row in rows))
    assert [found.labels[label] for label in found.gold] == list(chain.from_iterable(row.tags for row in rows))
    assert found.places == [f"{conll_files / 'test.conll'}:3", f"{conll_files / 'test.conll'}:11"]
    tokenizer = load_tokenizer(str(tiny_model))
    assert found.pieces.tolist() == [len(tokenizer.tokenize(word)) for word in found.words]
    assert found.seen["Ostric Cup"] == {"MISC"}
    assert len(found.seen) == 6


def test_another_split_and_another_file(checkpoint, conll_files, tmp_path):
    validation = predictions_of(checkpoint, split="validation", device="cpu")
    assert validation.words[:2] == ["Edda", "Voss"]
    assert validation.split.name == "validation"
    other = tmp_path / "other.conll"
    other.write_text("Edda B-PER\nwon O\n")
    elsewhere = predictions_of(checkpoint, split="test", file=str(other), device="cpu")
    assert elsewhere.words == ["Edda", "won"]
    assert elsewhere.split.file == "other.conll"
    assert elsewhere.seen == predictions_of(checkpoint, split="test", device="cpu").seen

    def moved(checkpoint):
        named = {f"{split}_file": f"/elsewhere/{split}.conll" for split in ("train", "validation", "test")}
        of_training = {"annotated_types": {"/elsewhere/train.conll": ["PER"]}, "validation_split": 0.1}
        checkpoint["datamodule_hyper_parameters"] |= {**named, **of_training}

    from_elsewhere = changed(checkpoint, tmp_path / "moved.ckpt", moved)
    there = predictions_of(from_elsewhere, split="test", file=str(other), device="cpu")
    assert there.predicted.tolist() == elsewhere.predicted.tolist()
    assert there.seen is None
    with pytest.raises(InputError, match=r"/elsewhere/train.conll: no such file"):
        predictions_of(from_elsewhere, split="test", device="cpu")


def test_a_share_of_the_training_data_is_that_of_the_run(checkpoint, tmp_path):
    def drawn(checkpoint):
        checkpoint["datamodule_hyper_parameters"] |= {"validation_file": None, "validation_split": 0.4}
        checkpoint["TokenClassificationDataModule"]["seed"] = 5

    path = changed(checkpoint, tmp_path / "drawn.ckpt", drawn)
    found = predictions_of(path, split="validation", device="cpu")
    names = {" ".join(found.words[span.start : span.end]) for span in found.spans("gold")}
    assert names
    assert not names & found.seen.keys()  # which training had, without this share
    assert found.places == []


def test_all_files_are_written_and_the_page_stands_beside_the_run(runs, written, capsys):
    page = (written / "page.html").read_text()
    numbers = json.loads((written / "page.json").read_text())
    assert numbers["against"] in page
    assert numbers["difference"]["verdict"].split(":")[0] in page
    assert numbers["learning"]["val_f1"][0][0] < numbers["learning"]["val_f1"][-1][0]
    assert main(["report", str(runs), "--split=validation", "--device=cpu"]) == 0  # the newest
    assert capsys.readouterr().out.endswith(f"reported: {runs / 'version_1/report-validation.html'}\n")
    beside = (runs / "version_1/report-validation.html").read_text()
    assert "There is no metrics.csv" in beside
    assert 'href="#difference"' not in beside
    assert main(["report", str(runs), "--split=validation", "--device=cpu"]) == 0  # a report is replaced


@pytest.mark.slow
def test_figures(runs, written, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "figures"
    options = [f"--output={tmp_path / 'page.html'}", f"--figures={folder}", "--device=cpu"]
    assert main(["report", str(runs / "version_0"), *options]) == 0
    names = {path.name for path in folder.iterdir()}
    wanted = {"loss", "scores", "reliability", "thresholds", "kinds", "confusion", "seen", "words"}
    assert {f"{name}{suffix}" for name in wanted for suffix in (".png", ".svg")} <= names
    from ner_lightning.reports.figures import write_figures

    numbers = json.loads((written / "page.json").read_text())
    (folder / "kinds.svg").write_text("<svg/>")
    with pytest.raises(InputError, match=r"figures: kinds.svg is there already and is no figure of a report"):
        write_figures(numbers, folder)
    (folder / "kinds.svg").unlink()
    write_figures(numbers, folder)  # its own are replaced


def test_what_was_logged_is_read_as_far_as_it_is_there(tmp_path):
    split = predictions([["B-PER"]], [["B-PER"]])
    (tmp_path / "metrics.csv").write_text("step,train_loss,val_f1\n5,1.5,\n10,nan,\n10,,0.5\n15")
    learning = numbers_of(split, metrics=tmp_path / "metrics.csv")["learning"]
    assert learning == {"train_loss": [(5, 1.5)], "val_f1": [(10, 0.5)]}
    assert numbers_of(split, metrics=tmp_path / "none.csv")["learning"] == {}


def test_labels_that_mark_no_entities(checkpoint, tmp_path, capsys):
    def plain(checkpoint):
        labels = ["NNP", "VBD", "VBZ", ".", "DT"]
        checkpoint["hyper_parameters"] |= {"labels": labels, "decoding": "argmax"}
        checkpoint["datamodule_hyper_parameters"] |= {"label_column_name": 1, "scheme": "plain"}
        checkpoint["state_dict"] |= {
            name: weights[:5] for name, weights in checkpoint["state_dict"].items() if "classifier" in name
        }
        del checkpoint["calibration"]

    path = changed(checkpoint, tmp_path / "plain.ckpt", plain)
    page, numbers = tmp_path / "page.html", tmp_path / "page.json"
    assert main(["report", str(path), f"--output={page}", "--json", "--device=cpu", "--against", str(path)]) == 0
    found = json.loads(numbers.read_text())
    assert not found["marks_entities"]
    assert found["slices"] == {}
    words = sum(row["kinds"]["right"] + row["kinds"]["wrong type"] for row in found["types"])
    assert words == found["scores"]["words"] == 11
    assert sum(row["kinds"]["right"] for row in found["types"]) / words == found["scores"]["accuracy"]
    text = page.read_text()
    assert "mean of labels" in text
    assert "Kinds of errors" not in text
    assert "without an interval" in text


def test_a_split_without_entities_or_without_words(checkpoint, tmp_path):
    (tmp_path / "none.conll").write_text("Nothing O\nhere O\n")
    page = report(str(checkpoint), file=str(tmp_path / "none.conll"), output=str(tmp_path / "none.html"), device="cpu")
    assert "accuracy of words" in page.read_text()
    (tmp_path / "empty.jsonl").write_text('{"tokens": [], "ner_tags": []}\n')
    page = report(
        str(checkpoint), file=str(tmp_path / "empty.jsonl"), output=str(tmp_path / "empty.html"), device="cpu"
    )
    assert "nothing was scored" in page.read_text()
    (tmp_path / "untagged.txt").write_text("No tags here.\n")
    with pytest.raises(InputError, match=r"untagged.txt:1: expected tags or entities, found none"):
        report(str(checkpoint), file=str(tmp_path / "untagged.txt"), output=str(tmp_path / "page.html"), device="cpu")


def test_what_is_refused(checkpoint, runs, tmp_path, monkeypatch):
    page = {"output": str(tmp_path / "page.html"), "device": "cpu"}

    def refused(change, split="test"):
        return str(changed(checkpoint, tmp_path / "changed.ckpt", change)), {**page, "split": split}

    def own_decode(checkpoint):
        checkpoint["decode"] = "theirs.Module.decode"

    def no_data(checkpoint):
        del checkpoint["datamodule_hyper_parameters"]

    def no_test(checkpoint):
        checkpoint["datamodule_hyper_parameters"]["test_file"] = None

    for change, told in (
        (own_decode, r"was scored with theirs.Module.decode, which is not known here"),
        (no_data, r"changed.ckpt does not record its data"),
        (no_test, r"changed.ckpt records no test data: give it as --file, or another --split"),
    ):
        run, options = refused(change)
        with pytest.raises(InputError, match=told):
            report(run, **options)
    with pytest.raises(InputError, match=r"--device=quantum cannot be used"):
        report(str(checkpoint), output=page["output"], device="quantum")
    with pytest.raises(InputError, match=r"--output=page.txt: give a name that ends in .html"):
        report(str(checkpoint), output="page.txt")
    Path(page["output"]).write_text("my thesis")
    with pytest.raises(InputError, match=r"--suspects=.*page.html is there already: give the name of a new file"):
        report(str(checkpoint), suspects=page["output"])
    with pytest.raises(InputError, match=r"page.html is there already and is no report"):
        report(str(checkpoint), **page)
    with pytest.raises(InputError, match=r"no best.ckpt and no last.ckpt"):
        report(str(tmp_path))
    (tmp_path / "other.conll").write_text("Edda B-PER\nwon O\n")

    def other_test(checkpoint):
        checkpoint["datamodule_hyper_parameters"]["test_file"] = str(tmp_path / "other.conll")

    other = changed(checkpoint, tmp_path / "other.ckpt", other_test)
    with pytest.raises(InputError, match=r"--against: the runs have other test data, test.conll and other.conll"):
        report(str(checkpoint), against=str(other), output=str(tmp_path / "against.html"), device="cpu")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "ner_lightning.reports.figures", raising=False)
    with pytest.raises(InputError, match=r"--figures needs matplotlib: pip install"):
        report(str(checkpoint), figures=str(tmp_path / "figures"), output=str(tmp_path / "new.html"))
