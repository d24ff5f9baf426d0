"""Every shipped config runs as it stands, through `main([...])`, against a Hub that serves what it names."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ner_lightning.__main__ import main as program
from ner_lightning.cli import main

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
ON_THE_HUB = [path for path in CONFIGS if path.stem != "quickstart"]
# columns of the datasets that the configs name: label names as their cards declare them
CONLL_LABELS = {
    "pos_tags": ["DT", "NN", "NNP", "VBD", "."],
    "chunk_tags": ["O", "B-NP", "I-NP", "B-VP", "I-VP"],
    "ner_tags": ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"],
}
CONLL_ROWS = [
    ("The mill at Arvenholm burned .", [0, 1, 1, 2, 3, 4], [1, 2, 1, 1, 3, 0], [0, 0, 0, 5, 0, 0]),
    ("Mira Toll saw Quill Works .", [2, 2, 3, 2, 2, 4], [1, 2, 3, 1, 2, 0], [1, 2, 0, 3, 4, 0]),
    ("Works closed .", [2, 3, 4], [1, 3, 0], [3, 0, 0]),
]
WNUT_LABELS = {"ner_tags": ["O", "B-creative-work", "I-creative-work", "B-person", "I-person"]}
WNUT_ROWS = [("omg Mira Toll sings", [0, 3, 4, 0]), ("best song : Blue Fen", [0, 0, 0, 1, 2])]


def serve(hub, model):
    """Put the default model's name and the datasets of the configs on the Hub, in parquet as they are there."""
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    hub.add_repo("model", "bert-base-cased", files)
    for name in ("config.json", "tokenizer_config.json"):  # of windows of 256; its positions are drawn at random
        files[name] = files[name].replace(b": 64", b": 256")
    hub.add_repo("model", "FacebookAI/xlm-roberta-large", files)
    hub.add_repo("model", "sentence-transformers/all-MiniLM-L6-v2", uncased(files))
    for name, ref, labels, rows, documents in (
        ("lhoestq/conll2003", "main", CONLL_LABELS, CONLL_ROWS, {}),
        ("tomaarsen/conll2003", "refs/convert/parquet", CONLL_LABELS, CONLL_ROWS, {"document_id": [1, 1, 2]}),
        ("leondz/wnut_17", "refs/convert/parquet", WNUT_LABELS, WNUT_ROWS, {}),
    ):
        content = parquet(labels, rows, documents)
        splits = ("train", "validation", "test")
        prefix = "data/{}-00000-of-00001.parquet" if ref == "main" else name.split("/")[1] + "/{}/0000.parquet"
        hub.add_repo("dataset", name, {prefix.format(split): content for split in splits}, ref=ref)


def uncased(files):
    """The same model with a tokenizer that lower-cases."""
    tokenizer = json.loads(files["tokenizer.json"])
    tokenizer["normalizer"]["lowercase"] = True
    tokenizer["model"]["vocab"] = {
        f"[unused{number}]" if piece.isalpha() and piece != piece.lower() else piece: number
        for piece, number in tokenizer["model"]["vocab"].items()
    }
    config = files["tokenizer_config.json"].replace(b'"do_lower_case": false', b'"do_lower_case": true')
    return files | {"tokenizer.json": json.dumps(tokenizer).encode(), "tokenizer_config.json": config}


def parquet(labels, rows, documents) -> bytes:
    from datasets import ClassLabel, Dataset, Features, List, Value

    columns = {name: [row[1 + i] for row in rows] for i, name in enumerate(labels)}
    features = {name: List(ClassLabel(names=names)) for name, names in labels.items()}
    table = Dataset.from_dict(
        {"tokens": [row[0].split() for row in rows], **columns, **documents},
        features=Features({"tokens": List(Value("string")), **features, **dict.fromkeys(documents, Value("int64"))}),
    )
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("config", ON_THE_HUB, ids=lambda path: path.stem)
def test_a_config_runs_with_what_it_names_on_the_hub(config, hub, tiny_model, tmp_path, monkeypatch, capsys):
    serve(hub, tiny_model)
    monkeypatch.chdir(tmp_path)
    options = ["--trainer.max_epochs=1", "--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false"]
    assert main(["fit", f"--config={config}", "--trainer.accelerator=cpu", *options]) == 0, capsys.readouterr().err
    assert "val_f1" in capsys.readouterr().out
    assert main(["test", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]) == 0
    words = sum(len(row[0].split()) for row in (WNUT_ROWS if config.stem == "wnut17" else CONLL_ROWS))
    assert f"{words} words scored" in capsys.readouterr().out


def test_the_commit_of_the_dataset_is_in_the_checkpoint(hub, tiny_model, tmp_path, monkeypatch, capsys):
    import torch

    serve(hub, tiny_model)
    monkeypatch.chdir(tmp_path)
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1", "--trainer.accelerator=cpu"]
    assert main(["fit", f"--config={ROOT / 'configs/conll.yaml'}", "--trainer.max_steps=1", *quiet]) == 0
    checkpoint = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    commit = hub.repo("dataset", "lhoestq/conll2003").resolve("main").oid
    assert checkpoint["TokenClassificationDataModule"]["dataset_commit"] == commit
    # the branch moves on; the checkpoint is tested on what it was trained on
    hub.add_repo("dataset", "lhoestq/conll2003", {"README.md": b"---\nlicense: other\n---\n"})
    capsys.readouterr()
    assert main(["test", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]) == 0
    assert f"data        lhoestq/conll2003 at {commit}: test (3 sentences)\n" in capsys.readouterr().out
    assert json.loads(Path("runs/version_0/checkpoints/best.test.json").read_text())["commit"] == commit


def test_quickstart_runs_without_a_network(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    assert main(["fit", "--config=quickstart", "--trainer.max_steps=3", *quiet]) == 0
    assert "Tarina" in capsys.readouterr().out


CLASSIC = ROOT / "configs/conll.yaml"
# the kinds of precision that a processor has; 16-mixed is there taken for bf16-mixed
PRECISIONS = ["32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
EVERY = [pytest.param(c, p, marks=pytest.mark.long, id=f"{c.stem}-{p}") for c in CONFIGS for p in PRECISIONS]


@pytest.mark.parametrize(("config", "precision"), [pytest.param(CLASSIC, "bf16-mixed", id="bf16-mixed"), *EVERY])
@pytest.mark.filterwarnings("ignore:You passed .Trainer.*precision='16-mixed':UserWarning")
def test_a_config_runs_in_each_precision(config, precision, hub, tiny_model, tmp_path, monkeypatch, capsys):
    serve(hub, tiny_model)
    monkeypatch.chdir(tmp_path)
    options = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", f"--trainer.precision={precision}"]
    few = ["--trainer.limit_train_batches=2", "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1"]
    assert main(["fit", f"--config={config}", *few, *options]) == 0, capsys.readouterr().err
    assert main(["fit", "--ckpt_path=last", "--trainer.max_epochs=2", *options]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["test", *options]) == 0, capsys.readouterr().err
    assert "words scored" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_quickstart_learns_to_find_names_that_it_has_never_seen(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    assert main(["fit", f"--config={ROOT / 'configs/quickstart.yaml'}", *quiet]) == 0
    best = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("best"))
    assert float(best.split()[2].rstrip(",")) > 0.9
    assert program(["export", "--output=model"]) == 0
    # what `simple` reads are all sub-words, learnt with a small weight: of untrained ones hardly a sentence would agree
    with (ROOT / "ner_lightning/quickstart/validation.conll").open() as file:
        texts = [
            " ".join(line.split()[0] for line in group.splitlines()) for group in file.read().split("\n\n") if group
        ]
    first, simple = (
        [[(e["entity_group"], e["start"], e["end"]) for e in found] for found in pipeline_of(strategy)(texts)]
        for strategy in ("first", "simple")
    )
    assert sum(map(list.__eq__, first, simple)) > 0.75 * len(texts)


def pipeline_of(strategy):
    from transformers import pipeline

    return pipeline("token-classification", model="model", aggregation_strategy=strategy)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_exact_command_of_the_main_job_with_the_real_client(hub, tiny_model, tmp_path):
    serve(hub, tiny_model)
    command = "-m ner_lightning fit --config configs/conll.yaml --trainer.max_steps 2"
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, *command.split()],
        env={**environment, **hub.env(tmp_path / "home"), "HF_HUB_OFFLINE": "0"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "checkpoints/" in done.stdout


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_opens_with_its_command_and_holds_only_what_differs(path, capsys):
    text = path.read_text(encoding="utf-8")
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert any(f"python -m ner_lightning fit --config configs/{path.name}" in line for line in head)
    with pytest.raises(SystemExit):
        main(["fit", "--print_config"])
    defaults = yaml.safe_load(capsys.readouterr().out)
    for group in ("model", "data", "trainer"):
        for name, value in yaml.safe_load(text).get(group, {}).items():
            assert json.dumps(defaults[group][name]) != json.dumps(value), f"{group}.{name} is the default"
