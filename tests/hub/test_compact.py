"""A model as ONNX finds the same entities, says what it costs on validation, and is refused where that is too much."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

import ner_lightning.hub.compact as compact_module
from ner_lightning.__main__ import main
from ner_lightning.checkpoints import data_state, read_checkpoint
from ner_lightning.encoding import Encoder
from ner_lightning.errors import InputError
from ner_lightning.hub import export
from ner_lightning.onnx_model import OnnxClassifier
from ner_lightning.predict import Tagger
from ner_lightning.pretrained import load_tokenizer

LABELS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
DISTILBERT = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]


@pytest.fixture(scope="module")
def onnx():
    for package in ("onnxscript", "onnxruntime", "onnx"):
        module = pytest.importorskip(package, reason="needs the extra `onnx`")
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory, conll_files, tiny_model):
    """A run that reads documents, with constrained decoding, validated on what it has learnt."""
    folder = tmp_path_factory.mktemp("compact")
    files = [f"--data.{split}_file={conll_files / 'train.conll'}" for split in ("train", "validation")]
    fit = ["--model.learning_rate=2e-2", "--data.context=document", "--data.max_seq_length=20", "--data.batch_size=2"]
    fit += ["--trainer.max_epochs=20", "--trainer.check_val_every_n_epoch=20"]
    model = [f"--model.model_name_or_path={tiny_model}", f"--trainer.default_root_dir={folder}"]
    assert main(["fit", *model, *files, *fit, *QUIET]) == 0
    return folder


@pytest.fixture(scope="module")
def whole(onnx, run):
    """Its model as ONNX in float32."""
    return export(default_root_dir=str(run), onnx=True, license="mit")


def documents(*, count=6, seed=0):
    """Sentences of one to forty words, and the document of each."""
    numbers = np.random.default_rng(seed)
    words = ["Mira", "Toll", "the", "froze", "Lake", "Sorn", "a-b", "Zephic", "."]
    lengths = [1, 40, *numbers.integers(1, 25, size=4 * count - 2)]
    return [list(numbers.choice(words, size=n)) for n in lengths], np.repeat(range(count), 4).tolist()


@pytest.mark.parametrize(
    "kind", [pytest.param("roberta", marks=pytest.mark.slow), pytest.param("distilbert", marks=pytest.mark.long)]
)
def test_each_kind_finds_equal_entities_in_texts_of_any_length(kind, onnx, tiny_model, tmp_path):
    torch.manual_seed(0)
    tokenizer = load_tokenizer(str(tiny_model))
    sizes = {**SIZES, **(DISTILBERT if kind == "distilbert" else {}), "vocab_size": len(tokenizer)}
    config = transformers.AutoConfig.for_model(kind, **sizes, id2label=dict(enumerate(LABELS)))
    model = transformers.AutoModelForTokenClassification.from_config(config).eval()
    torch.nn.init.normal_(model.classifier.weight, std=3)
    compact_module._write_onnx(model, tmp_path / "model.onnx")
    assert model.config._attn_implementation == "sdpa"
    encoder = Encoder(tokenizer, labels=LABELS, max_seq_length=48, context="document")
    both = [model, OnnxClassifier(tmp_path / "model.onnx")]
    assert_equal_entities(
        Tagger(classifier, encoder, decoding="constrained", device="cpu", max_tokens=max_tokens)
        for classifier in both
        for max_tokens in (1, 1024)
    )


def assert_equal_entities(taggers):
    sentences, of = documents()
    entities = [tagger(sentences, documents=of) for tagger in taggers]
    places = [[[(e["type"], e["start"], e["end"]) for e in each] for each in some] for some in entities]
    assert sum(map(len, places[0])) > 20
    assert all(some == places[0] for some in places)
    scores = [[e["score"] for each in some for e in each] for some in entities]
    assert np.allclose(scores, scores[0], atol=1e-4)


@pytest.mark.slow
def test_the_exported_folder_is_that_of_the_run(whole, run):
    assert whole == run / "version_0/onnx"
    names = {"README.md", "config.json", "model.onnx", "scores.json", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in whole.iterdir()} == names
    known = json.loads((whole / "scores.json").read_text())
    before, after = known["onnx"]["before"], known["onnx"]["after"]
    assert before["f1"] == after["f1"] == round(100 * known["splits"][0]["scores"]["f1"], 2) > 20  # as `fit` found it
    assert (known["onnx"]["weights"], known["onnx"]["in_float32"]) == ("float32", [])
    card = (whole / "README.md").read_text()
    assert f"| ONNX | {after['f1']:.2f} | {after['words_per_second']:,} |" in card
    assert "pipeline(" not in card
    assert "library_name: onnx\n" in card
    models = (run / "version_0", whole)
    assert_equal_entities(Tagger.load(model, device="cpu", max_tokens=n) for model in models for n in (1, 1024))
    with pytest.raises(InputError, match=r"device=cpu, precision=bf16-mixed: .*onnx/model.onnx runs on the processor"):
        Tagger.load(whole, device="cpu", precision="bf16-mixed")
    with pytest.raises(InputError, match=r"device=cuda, precision=32-true: .*leave them out"):
        Tagger.load(whole, device="cuda")


@pytest.mark.slow
def test_8_bits_are_written_and_what_loses_stays_out(whole, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compact_module, "_write_onnx", lambda model, path: shutil.copy(whole / "model.onnx", path))
    options = ["--onnx", "--int8", "--max_f1_loss=100", "--output=int8"]
    assert main(["export", f"--default_root_dir={run}", *options]) == 0
    out, err = capsys.readouterr()
    assert out == "exported: int8\n"
    folder = Path("int8")
    facts = json.loads((folder / "scores.json").read_text())["onnx"]
    assert (facts["weights"], facts["in_float32"]) == ("int8", [])
    assert err.startswith(f"validation F1 {facts['before']['f1']} -> {facts['after']['f1']}, words/s ")
    assert err.endswith(", in float32: nothing\n")
    assert "with products in 8 bits, for processors" in (folder / "README.md").read_text()
    assert {path.suffix for path in folder.iterdir()} == {".md", ".json", ".onnx"}
    assert "MatMulInteger" in {node.op_type for node in graph(folder / "model.onnx").graph.node}
    assert Tagger.load(folder).tags("Mira Toll left .")
    tried = []

    def ruin(whole, path, *, model, parts):
        """As if only the products of attention suffered."""
        tried.append(parts)
        ruined = graph(whole)
        if "attention" not in parts:
            for weights in ruined.graph.initializer:
                if weights.data_type == weights.FLOAT:
                    weights.raw_data = bytes(len(weights.raw_data))
        path.write_bytes(ruined.SerializeToString())

    monkeypatch.setattr(compact_module, "_quantise", ruin)
    folder = export(default_root_dir=str(run), onnx=True, int8=True, output="careful")
    everything = ["the head", "the first layer", "the last layer", "the embeddings", "attention"]
    assert [list(parts) for parts in tried] == [everything[:number] for number in range(6)]
    facts = json.loads((folder / "scores.json").read_text())["onnx"]
    assert facts["in_float32"] == everything
    assert facts["before"]["f1"] == facts["after"]["f1"] > 0
    told = "(the head, the first layer, the last layer, the embeddings, attention in float32)"
    assert told in (folder / "README.md").read_text()

    monkeypatch.setattr(compact_module, "_PARTS", compact_module._PARTS[:-1])
    message = (
        rf"^F1 on validation falls from {facts['before']['f1']:.2f} to 0.00 with nothing in float32, by more than "
        "--max_f1_loss=0.5: nothing is written; leave out --int8, or allow a larger loss$"
    )
    with pytest.raises(InputError, match=message):
        export(default_root_dir=str(run), onnx=True, int8=True, output="broken")
    assert {path.name for path in tmp_path.iterdir()} == {"int8", "careful"}
    monkeypatch.setattr(
        compact_module, "_write_onnx", lambda model, path: ruin(whole / "model.onnx", path, model=model, parts=())
    )
    with pytest.raises(InputError, match="leave out --onnx, or allow"):
        export(default_root_dir=str(run), onnx=True, output="int8", overwrite=True)  # what an export wrote


def graph(path):
    import onnx

    return onnx.load(path)


def test_a_module_belongs_to_its_parts(tiny_model):
    """By the names that the exporter of torch leaves."""
    config = transformers.BertConfig(**{**SIZES, "num_hidden_layers": 3, "vocab_size": 50})
    model = transformers.AutoModelForTokenClassification.from_config(config)
    for module, parts in {
        "classifier": {"the head"},
        "bert.embeddings.word_embeddings": {"the embeddings"},
        "bert.encoder.layer.0.attention.self.query": {"the first layer", "attention"},
        "bert.encoder.layer.1.output.dense": set(),
        "bert.encoder.layer.2.intermediate.dense": {"the last layer"},
    }.items():
        names = module.split(".")
        scopes = ["", "model", *(f"model.{'.'.join(names[: n + 1])}" for n in range(len(names))), "linear"]
        entry = SimpleNamespace(key="pkg.torch.onnx.name_scopes", value=repr(scopes))
        assert compact_module._part_of(SimpleNamespace(metadata_props=[entry]), model) == parts


def test_without_the_packages_a_sentence_names_the_extra(run, folder_of_onnx, tmp_path, monkeypatch):
    for package in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r'^--onnx needs onnx, .*: pip install "ner-lightning\[onnx\]"$'):
        export(default_root_dir=str(run), onnx=True, output=str(tmp_path / "model"))
    with pytest.raises(InputError, match=r'model.onnx needs onnxruntime: pip install "ner-lightning\[onnx\]"$'):
        Tagger.load(folder_of_onnx)


@pytest.fixture
def folder_of_onnx(run, tmp_path):
    """An exported folder whose model is said to be ONNX."""
    folder = export(default_root_dir=str(run), output=str(tmp_path / "said"))
    (folder / "model.safetensors").rename(folder / "model.onnx")
    return folder


def test_what_is_no_onnx_is_named(onnx, folder_of_onnx):
    with pytest.raises(InputError, match=r"said/model.onnx cannot be loaded: "):
        Tagger.load(folder_of_onnx)


def test_tags_that_are_numbers_are_read_by_the_names_that_the_run_was_given(tiny_model, tmp_path):
    (tmp_path / "dev.jsonl").write_text('{"tokens": ["Mira", "left", "Arvenholm"], "ner_tags": [1, 0, 2]}\n')
    checkpoint = {
        "hyper_parameters": {"labels": LABELS, "score_mode": "default"},
        "datamodule_hyper_parameters": {"scheme": "BIOES"},
        "data": {"dataset_commit": None, "given_labels": ["O", "S-PER", "S-LOC", "B-LOC", "E-LOC"]},
    }
    trial = compact_module._Trial(checkpoint, tiny_model, str(tmp_path / "dev.jsonl"), False)
    (batch,) = trial._batches
    assert [LABELS[number] for number in batch["labels"][batch["word_index"] >= 0]] == ["B-PER", "O", "B-LOC"]


def test_without_validation_data_a_sentence_says_what_to_give(onnx, run, tmp_path, monkeypatch):
    checkpoint = read_checkpoint(run / "version_0/checkpoints/best.ckpt")
    checkpoint["datamodule_hyper_parameters"]["validation_file"] = str(tmp_path / "gone.conll")
    torch.save(checkpoint, tmp_path / "moved.ckpt")
    options = {"ckpt_path": str(tmp_path / "moved.ckpt"), "onnx": True, "output": str(tmp_path / "model")}
    with pytest.raises(InputError, match=r"cannot be read \(.*gone.conll: no such file\): give --validation_file$"):
        export(**options)


def test_the_validation_split_is_that_which_was_drawn_or_a_file_alone(run, whole, conll_files, tmp_path, monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)  # of the run before
    checkpoint = read_checkpoint(run / "version_0/checkpoints/best.ckpt")
    drawn = {}
    for seed in range(5):
        options = {"seed": None, "validation_file": None, "validation_split": 0.3, "context": "sentence"}
        checkpoint["datamodule_hyper_parameters"] |= options
        data_state(checkpoint)["seed"] = seed
        drawn[seed] = words_of(compact_module._Trial(checkpoint, whole, None, False))
    assert len({tuple(words) for words in drawn.values()}) > 1
    checkpoint["datamodule_hyper_parameters"]["train_file"] = str(tmp_path / "gone.conll")
    alone = compact_module._Trial(checkpoint, whole, str(conll_files / "validation.conll"), False)
    assert words_of(alone)


def words_of(trial):
    return sorted(number for batch in trial._batches for number in batch["input_ids"].flatten().tolist())


def test_a_model_that_cannot_be_traced_is_named(onnx, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("data-dependent\nmore of it")

    monkeypatch.setattr(torch.onnx, "export", fail)
    config = transformers.BertConfig(**{**SIZES, "vocab_size": 50})
    model = transformers.AutoModelForTokenClassification.from_config(config)
    message = r"^BertForTokenClassification cannot be written as ONNX \(data-dependent\): leave out --onnx$"
    with pytest.raises(InputError, match=message):
        compact_module._write_onnx(model, tmp_path / "model.onnx")
