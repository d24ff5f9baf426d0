"""A checkpoint becomes a folder that transformers loads without this package, whole or not at all."""

import errno
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from ner_lightning import export as export_module
from ner_lightning.__main__ import main
from ner_lightning.checkpoints import read_checkpoint
from ner_lightning.conll import read_sentences
from ner_lightning.errors import InputError
from ner_lightning.export import export

FILES = {"README.md", "config.json", "model.safetensors", "scores.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, conll_files, tiny_model):
    """A folder with a run of two epochs on the invented corpus, its best checkpoint tested."""
    folder = tmp_path_factory.mktemp("trained")
    common = [
        *(f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation", "test")),
        f"--model.model_name_or_path={tiny_model}",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.log_every_n_steps=1",
        f"--trainer.default_root_dir={folder}",
    ]
    assert main(["fit", *common, "--model.learning_rate=1e-2", "--trainer.max_epochs=2"]) == 0
    assert main(["test", *common]) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    return export(ckpt_path=str(trained / "version_0/checkpoints/best.ckpt"), output=str(tmp_path / "model"))


def test_the_command_writes_a_folder_with_all_that_a_model_needs(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", f"--default_root_dir={trained}", "--output=mine"]) == 0
    assert capsys.readouterr() == ("exported: mine\n", "")
    assert {path.name for path in Path("mine").iterdir()} == FILES
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]
    assert len({path.stat().st_mode for path in Path("mine").iterdir()}) == 1  # who may read one file may read all


def test_transformers_loads_the_weights_bit_by_bit(trained, folder):
    model = AutoModelForTokenClassification.from_pretrained(folder)
    weights = model.state_dict()
    state = read_checkpoint(trained / "version_0/checkpoints/best.ckpt")["state_dict"]
    assert {f"model.{name}" for name in weights} == set(state)
    assert all(torch.equal(weights[name], state[f"model.{name}"]) for name in weights)
    assert all(weights[name].dtype == state[f"model.{name}"].dtype for name in weights)


def test_the_configuration_names_the_labels_in_iob2(folder):
    config = json.loads((folder / "config.json").read_text())
    labels = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    assert config["id2label"] == {str(number): label for number, label in enumerate(labels)}
    assert config["label2id"] == {label: number for number, label in enumerate(labels)}


def test_the_tokenizer_splits_as_in_training(folder, tiny_model):
    text = "Mira Toll visited Arvenholm ."
    assert (
        AutoTokenizer.from_pretrained(folder)(text).input_ids
        == AutoTokenizer.from_pretrained(tiny_model)(text).input_ids
    )


def test_a_pipeline_runs_on_the_folder_alone(folder):
    find = pipeline("token-classification", model=str(folder), aggregation_strategy="simple")
    entities = find("Mira Toll visited Arvenholm .")
    assert {entity["entity_group"] for entity in entities} <= {"PER", "LOC", "ORG", "MISC"}


def test_predict_and_pipeline_find_the_same_entities_in_the_folder(folder, conll_files, tmp_path):
    """Over sentences that fit in one window; `first` reads what is scored."""
    texts = [" ".join(s.words) for split in ("train", "test") for s in read_sentences(conll_files / f"{split}.conll")]
    texts += ["My name is Mira Toll and I work at Quill Works in Arvenholm.", "U.S. (Ostric-Cup): e.g. 4-2!"]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    options = [f"--data.predict_file={tmp_path / 'texts.txt'}", f"--prediction.output={tmp_path / 'out.jsonl'}"]
    assert main(["predict", f"--model.model_name_or_path={folder}", "--trainer.accelerator=cpu", *options]) == 0
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in found] == texts
    assert sum(len(row["entities"]) for row in found) > 10
    find = pipeline("token-classification", model=str(folder), aggregation_strategy="first")
    for row in found:
        ours = [(entity["type"], entity["start"], entity["end"]) for entity in row["entities"]]
        theirs = find(row["text"])
        assert ours == [(entity["entity_group"], entity["start"], entity["end"]) for entity in theirs]
        scores = [entity["score"] for entity in row["entities"]]
        assert scores == pytest.approx([float(entity["score"]) for entity in theirs], abs=1e-5)


def test_no_file_tells_where_the_model_came_from_on_this_machine(folder, tiny_model):
    """The card shows the user's own config; what transformers writes must not add to it."""
    for path in folder.iterdir():
        text = path.read_bytes()
        if path.name == "README.md":
            text = text.partition(b"## How it was trained")[0]
        assert str(tiny_model).encode() not in text, path.name


def test_scores_of_validation_and_test_are_those_that_were_printed(trained, folder):
    facts = json.loads((folder / "scores.json").read_text())
    metrics = (trained / "version_0/metrics.csv").read_text().splitlines()
    columns = metrics[0].split(",")
    rows = [dict(zip(columns, line.split(","), strict=True)) for line in metrics[1:]]
    validated = [float(row["val_f1"]) for row in rows if row["val_f1"]]
    assert [split["name"] for split in facts["splits"]] == ["validation", "test"]
    assert facts["splits"][0]["scores"]["f1"] == pytest.approx(max(validated))
    assert facts["splits"][0]["scores"]["words"] == 12
    assert facts["splits"][1]["file"] == "test.conll"
    assert facts["epoch"] == facts["step"] / 1  # one batch an epoch


def test_the_card_shows_scores_command_and_config(folder):
    from huggingface_hub import ModelCard

    card = ModelCard((folder / "README.md").read_text())
    data = card.data.to_dict()
    assert data["pipeline_tag"] == "token-classification"
    assert "base_model" not in data  # a folder of this machine
    assert re.search(r"python -m ner_lightning fit .*--trainer.max_epochs=2", card.text)
    assert "learning_rate: 0.01" in card.text
    results = data["model-index"][0]["results"]
    assert {result["dataset"]["split"] for result in results} == {"validation", "test"}


def test_scores_of_other_weights_are_left_out(trained, tmp_path):
    """A test record beside a checkpoint that was replaced since is not one of it."""
    record = trained / "version_0/checkpoints/best.test.json"
    before = record.read_text()
    record.write_text(json.dumps({**json.loads(before), "checkpoint": "of other weights"}))
    try:
        folder = export(ckpt_path=str(trained / "version_0/checkpoints/best.ckpt"), output=str(tmp_path / "model"))
    finally:
        record.write_text(before)
    facts = json.loads((folder / "scores.json").read_text())
    assert [split["name"] for split in facts["splits"]] == ["validation"]


@pytest.mark.parametrize("part", ["--trainer.limit_test_batches=1", "--trainer.fast_dev_run=true"])
def test_the_scores_of_a_part_of_the_test_are_not_kept(trained, tmp_path, monkeypatch, part):
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained / "version_0/checkpoints/best.ckpt", "best.ckpt")
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert main(["test", "--ckpt_path=best.ckpt", part, *quiet]) == 0
    assert not Path("best.test.json").exists()
    assert main(["test", "--ckpt_path=best.ckpt", *quiet]) == 0
    assert Path("best.test.json").exists()


def test_what_only_its_author_knows_stands_in_the_card(trained, tmp_path):
    folder = export(
        ckpt_path=str(trained / "version_0/checkpoints/best.ckpt"),
        output=str(tmp_path / "model"),
        repo_id="me/ner",
        language=["en"],
        license="mit",
        widget_examples=["Quill Works hired Mira Toll."],
    )
    text = (folder / "README.md").read_text()
    for line in ("license: mit", "- en", "text: Quill Works hired Mira Toll.", 'model="me/ner"'):
        assert line in text


def test_a_folder_that_is_there_is_replaced_only_when_told_to(trained, folder):
    (folder / "notes.txt").write_text("mine")
    best = str(trained / "version_0/checkpoints/best.ckpt")
    with pytest.raises(InputError, match=r"--output=.*model is there already: give another folder, or --overwrite"):
        export(ckpt_path=best, output=str(folder))
    assert (folder / "notes.txt").is_file()
    export(ckpt_path=best, output=str(folder), overwrite=True)
    assert {path.name for path in folder.iterdir()} == FILES


def test_a_folder_of_something_else_is_never_replaced(trained, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    best = str(trained / "version_0/checkpoints/best.ckpt")
    with pytest.raises(InputError, match="holds no exported model, and is not replaced"):
        export(ckpt_path=best, output=str(tmp_path), overwrite=True)
    assert (tmp_path / "thesis.tex").is_file()


def test_a_config_that_no_run_has_written_is_not_published(trained, tmp_path):
    shutil.copy(trained / "version_0/checkpoints/best.ckpt", tmp_path / "best.ckpt")
    (tmp_path / "config.yaml").write_text("password: rosebud\n")
    folder = export(ckpt_path=str(tmp_path / "best.ckpt"), output=str(tmp_path / "model"))
    assert "rosebud" not in (folder / "README.md").read_text()


def test_an_error_on_the_way_leaves_nothing(trained, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export_module, "model_card", full)
    with pytest.raises(OSError, match="No space left"):
        export(ckpt_path=str(trained / "version_0/checkpoints/best.ckpt"), output=str(tmp_path / "model"))
    assert list(tmp_path.iterdir()) == []


def test_without_a_run_the_command_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export"]) == 1
    assert capsys.readouterr().err == "error: no checkpoint below runs: run `fit` first, or give --ckpt_path\n"


def test_what_is_no_checkpoint_is_named(tmp_path, capsys):
    assert main(["export", f"--ckpt_path={tmp_path / 'none.ckpt'}"]) == 1
    assert re.search(r"error: --ckpt_path=.*none.ckpt: no such file", capsys.readouterr().err)
