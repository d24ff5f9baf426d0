"""A checkpoint becomes a folder that transformers loads without this package, whole or not at all."""

import errno
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer, PreTrainedTokenizerFast, pipeline

import ner_lightning.hub.folder as folder_module
from ner_lightning.__main__ import main
from ner_lightning.checkpoints import read_checkpoint
from ner_lightning.errors import InputError
from ner_lightning.files import process_mark
from ner_lightning.hub.card import _epoch
from ner_lightning.hub.folder import export, write_model
from ner_lightning.hub.outbox import About, Destination, Outbox
from ner_lightning.predict import predict
from ner_lightning.readers import read

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
    fit = ["--model.learning_rate=1e-2", "--model.decoding=argmax", "--trainer.max_epochs=2"]  # as a pipeline decodes
    assert main(["fit", *common, *fit]) == 0
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
    texts = [" ".join(s.words) for split in ("train", "test") for s in read(conll_files / f"{split}.conll")]
    texts += ["My name is Mira Toll and I work at Quill Works in Arvenholm.", "U.S. (Ostric-Cup): e.g. 4-2!"]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    predict([str(tmp_path / "texts.txt")], model=str(folder), output=str(tmp_path / "out.jsonl"))
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in found] == texts
    assert sum(len(row["entities"]) for row in found) > 10
    find = pipeline("token-classification", model=str(folder), aggregation_strategy="first")
    for row in found:
        ours = [(entity["type"], entity["start"], entity["end"]) for entity in row["entities"]]
        theirs = find(row["text"])
        assert ours == [(entity["entity_group"], entity["start"], entity["end"]) for entity in theirs]


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


@pytest.fixture
def best(trained):
    return str(trained / "version_0/checkpoints/best.ckpt")


def test_a_folder_that_is_there_is_replaced_only_when_told_to(best, folder):
    (folder / "scores.json").write_text("{}")
    with pytest.raises(InputError, match=r"--output=.*model is there already: give another folder, or --overwrite"):
        export(ckpt_path=best, output=str(folder))
    assert (folder / "scores.json").read_text() == "{}"
    stale = ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "spiece.model")
    for name in (*stale, "vocab.txt", "special_tokens_map.json"):
        (folder / name).write_text("of a former export")
    export(ckpt_path=best, output=str(folder), overwrite=True)
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["notes.txt", ".git/HEAD", "onnx/model.onnx", "handler.py", "training_args.bin"])
def test_what_no_export_writes_is_never_removed(best, folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    told = rf"holds more than an exported model \({name.partition('/')[0]}\), and is not replaced"
    with pytest.raises(InputError, match=told):
        export(ckpt_path=best, output=str(folder), overwrite=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_is_added_meanwhile_is_not_removed(best, folder, monkeypatch):
    write = folder_module.write_model

    def slow(*args, **kwargs):
        write(*args, **kwargs)
        (folder / "notes.txt").write_text("mine")

    monkeypatch.setattr(folder_module, "write_model", slow)
    with pytest.raises(InputError, match="holds more than an exported model"):
        export(ckpt_path=best, output=str(folder), overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_one_and_is_followed(best, tmp_path, there):
    (tmp_path / "link").symlink_to("elsewhere", target_is_directory=True)
    if there:
        export(ckpt_path=best, output=str(tmp_path / "elsewhere"))
    assert export(ckpt_path=best, output=str(tmp_path / "link"), overwrite=there) == tmp_path / "link"
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == FILES
    assert {path.name for path in tmp_path.iterdir()} == {"link", "elsewhere"}


@pytest.mark.parametrize("overwrite", [True, False])
def test_the_folder_that_one_stands_in_and_a_file_are_told_in_a_sentence(best, folder, monkeypatch, capsys, overwrite):
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    for output, told in {
        ".": "is the folder that this runs in: give another one",
        "config.json": "is a file: give the name of a folder",
        "config.json/model": "cannot be written: Not a directory; nothing is left of it",
    }.items():
        assert main(["export", f"--ckpt_path={best}", f"--output={output}", f"--overwrite={overwrite}"]) == 1
        err = capsys.readouterr().err
        assert err.startswith(f"error: --output={output}")
        assert err.count("\n") == 1
        assert told in err
    assert sorted(folder.iterdir()) == before


@pytest.fixture
def dead():
    """The mark of a process that has ended."""
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    return f"{process_mark().rpartition('-')[0]}-{int(process.stdout)}"


def test_what_a_killed_export_left_is_cleared_by_the_next(best, folder, dead):
    beside, mine = folder.parent, f".model.{process_mark()}.partial"
    for name in (f".model.{dead}.partial", f".model.{dead}.old", f".other.{dead}.partial", mine, "model.7.old"):
        shutil.copytree(folder, beside / name)
    export(ckpt_path=best, output=str(folder), overwrite=True)
    assert {path.name for path in beside.iterdir()} == {"model", f".other.{dead}.partial", "model.7.old"}


def test_an_export_killed_between_its_two_renames_has_lost_nothing(best, folder, dead):
    (folder / "README.md").write_text("a card that was edited")
    folder.rename(folder.with_name(f".model.{dead}.old"))
    with pytest.raises(InputError, match="is there already"):
        export(ckpt_path=best, output=str(folder))
    assert (folder / "README.md").read_text() == "a card that was edited"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_an_export_that_cannot_be_renamed_leaves_the_former_one(best, folder, monkeypatch):
    def fail(path, target):
        raise OSError(errno.EIO, "Input/output error", str(target))

    before = (folder / "README.md").stat()
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(InputError, match="model cannot be written: Input/output error; the folder is as it was"):
        export(ckpt_path=best, output=str(folder), overwrite=True)
    assert (folder / "README.md").stat() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_folder_of_something_else_is_never_replaced(trained, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    best = str(trained / "version_0/checkpoints/best.ckpt")
    with pytest.raises(InputError, match="holds no exported model, and is not replaced"):
        export(ckpt_path=best, output=str(tmp_path), overwrite=True)
    assert (tmp_path / "thesis.tex").is_file()


def test_the_configuration_is_that_of_the_checkpoint_without_what_is_secret(best, tmp_path):
    """Whatever script it is of, and whatever file lies beside it."""
    config = (
        "# python focal.py fit --trainer.logger.api_key=rosebud\ntracking_uri: https://mira:rosebud@example.org/x\n"
    )
    config += f"seed_everything: 7\napi_token: rosebud\nlogger: hf_{'rosebud' * 4}\nother_key: null\n"
    torch.save({**torch.load(best, weights_only=True), "config": config}, tmp_path / "best.ckpt")
    (tmp_path / "config.yaml").write_text("# python -m ner_lightning fit\npassword: rosebud\n")
    folder = export(ckpt_path=str(tmp_path / "best.ckpt"), output=str(tmp_path / "model"))
    card = (folder / "README.md").read_text()
    assert "rosebud" not in card
    assert "```sh\npython focal.py fit --trainer.logger.api_key=***\n```" in card
    assert "tracking_uri: https://***@example.org/x\nseed_everything: 7\n" in card
    assert "other_key: null\n" in card


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from ner_lightning.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("size", "there"),
    [
        pytest.param(100, False, marks=pytest.mark.long),
        pytest.param(100, True, marks=pytest.mark.slow),
        pytest.param(9000, False, marks=pytest.mark.long),
        pytest.param(9000, True, marks=pytest.mark.long),
    ],
)
def test_a_disk_that_is_full_leaves_all_as_it_was(best, trained, folder, size, there):
    """A real one: the system refuses to let files grow; safetensors says so in its own way."""
    if not there:
        shutil.rmtree(folder)
    before = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    args = ["export", f"--ckpt_path={best}", f"--output={folder}", "--overwrite=true"]
    done = subprocess.run([sys.executable, "-c", LIMITED, str(size), *args], capture_output=True, text=True)
    kept = "the folder is as it was" if there else "nothing is left of it"
    told = f"error: --output={folder}: model.safetensors cannot be written: File too large; {kept}\n"
    assert (done.returncode, done.stderr) == (1, told)
    assert {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()} == before


def test_an_error_of_any_library_on_the_way_leaves_nothing(best, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise Exception("No space left on device (os error 28)")  # as tokenizers has it

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", full)
    told = "--output=.*model: tokenizer.json cannot be written: No space left on device; nothing is left of it"
    with pytest.raises(InputError, match=told):
        export(ckpt_path=best, output=str(tmp_path / "model"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_disk_that_is_full_leaves_what_waits_to_be_pushed(best, trained, tmp_path):
    shutil.copytree(trained / "version_0", tmp_path / "run")
    to = Destination("user/ner")
    first = Outbox(tmp_path / "run").stage(lambda folder: None, step=1, destination=to, message="m")
    args = ["push", str(tmp_path / "run"), "--repo_id=user/ner"]
    done = subprocess.run([sys.executable, "-c", LIMITED, "9000", *args], capture_output=True, text=True)
    told = (
        "model.safetensors cannot be written: File too large; nothing was put in or sent, and what waited there still"
    )
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path}/run/hub: {told} waits\n")
    assert [staged.name for staged in Outbox(tmp_path / "run").waiting()] == [first]
    assert not list((tmp_path / "run/hub").glob("*.partial"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(best, tmp_path, value, capsys):
    checkpoint = torch.load(best, weights_only=True)
    checkpoint["state_dict"]["model.classifier.bias"][1] = value
    torch.save(checkpoint, tmp_path / "best.ckpt")
    assert main(["export", f"--ckpt_path={tmp_path / 'best.ckpt'}", f"--output={tmp_path / 'model'}"]) == 1
    told = (
        "error: the weights of this checkpoint are not finite (NaN or infinity in classifier.bias): training diverged"
    )
    assert capsys.readouterr().err.startswith(told)
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


def adapted(state):
    """As a model with adapters (LoRA) names its weights."""
    return {key.replace("model.bert", "model.base_model.model.bert"): tensor for key, tensor in state.items()}


def added(state):
    return state | {"model.bert.adapter.weight": torch.ones(2)}


def reshaped(state):
    return state | {"model.classifier.bias": torch.ones(2)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            adapted,
            "transformers would not find bert.embeddings.word_embeddings.weight, bert.embeddings.pos",
        ),
        (added, "transformers would leave out bert.adapter.weight of this model"),
        (reshaped, "transformers would not find classifier.bias in this model"),
    ],
)
def test_a_folder_that_transformers_would_not_load_whole_is_not_written(best, tmp_path, change, told):
    checkpoint = torch.load(best, weights_only=True)
    torch.save({**checkpoint, "state_dict": change(checkpoint["state_dict"])}, tmp_path / "best.ckpt")
    with pytest.raises(InputError, match=told):
        export(ckpt_path=str(tmp_path / "best.ckpt"), output=str(tmp_path / "model"))
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


def test_a_model_that_saves_an_adapter_alone_is_not_staged(best, tmp_path):
    """As `PushToHub` has it before it, and not a plain model with the weights of one."""
    checkpoint = read_checkpoint(best)
    adapter = torch.nn.Linear(2, 2)
    adapter.config = SimpleNamespace()
    adapter.save_pretrained = lambda folder, state_dict: (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"^Linear saves no config.json, and transformers could not load it"):
        write_model(tmp_path, checkpoint, model=adapter, tokenizer=None, splits=[], about=About())


TINY = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
KINDS = {
    "albert": {**TINY, "embedding_size": 8},  # its layers share their weights
    "xlm-roberta": TINY,
    "deberta": TINY,
    "deberta-v2": {**TINY, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "t5": {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
    "mt5": {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
    "gpt2": {"vocab_size": 50, "n_embd": 16, "n_layer": 1, "n_head": 2},
    "xlnet": {"vocab_size": 50, "d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32},
    "electra": {**TINY, "embedding_size": 8},
    "mixtral": {**TINY, "num_key_value_heads": 2, "num_local_experts": 2},  # its file has other names than its weights
    "bloom": {"vocab_size": 50, "hidden_size": 16, "n_layer": 1, "n_head": 2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_shared_or_renamed_are_no_false_alarm(best, tiny_model, tmp_path, kind):
    config = AutoConfig.for_model(kind, **KINDS[kind], num_labels=9)
    model = AutoModelForTokenClassification.from_config(config)
    state = {f"model.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    checkpoint = {**read_checkpoint(best), "state_dict": state}
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    about, folder = About(language="en"), tmp_path / "model"
    folder.mkdir()
    write_model(folder, checkpoint, model=model, tokenizer=tokenizer, splits=[], about=about)
    loaded, loading = AutoModelForTokenClassification.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert all(torch.equal(tensor, state[f"model.{name}"]) for name, tensor in loaded.state_dict().items())


class KeepAll(ModelCheckpoint):
    """Keep the state after each step, and at each end of an epoch."""

    def __init__(self):
        super().__init__(filename="all-{step}", save_top_k=-1, every_n_train_steps=1, save_last=True)


@pytest.mark.filterwarnings("ignore:.*(dirpath has changed|did not load|resuming|finished training).*")
@pytest.mark.parametrize(
    "stop",
    [
        ["--trainer.max_epochs=3"],
        ["--trainer.max_steps=6"],
        ["--trainer.max_steps=8"],
        ["--trainer.max_steps=1"],
        ["--trainer.max_epochs=2", "--trainer.val_check_interval=0.5"],
        ["--trainer.max_steps=7", "--trainer.val_check_interval=0.5"],  # is saved when training ends, and not before
        ["--trainer.max_epochs=2", "--checkpoint.save_weights_only=true"],
    ],
    ids=" ".join,
)
def test_the_epoch_of_the_card_is_that_of_the_last_step(stop, conll_files, tiny_model, tmp_path):
    args = [
        *(f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation")),
        f"--model.model_name_or_path={tiny_model}",
        "--data.batch_size=1",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.log_every_n_steps=1",
        f"--trainer.callbacks+={__name__}.KeepAll",
    ]

    def check(run):
        for path in (run / "checkpoints").iterdir():
            checkpoint = read_checkpoint(path)
            expected = math.ceil(checkpoint["global_step"] / 4)  # sentences
            assert _epoch(checkpoint) == expected, (path.name, checkpoint["epoch"])

    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["fit", *args, *stop, f"--trainer.default_root_dir={first}"]) == 0
    check(first / "version_0")
    if "--trainer.max_steps=7" in stop:
        return  # Lightning counts an epoch that was stopped as a whole one when the run goes on
    last = first / "version_0/checkpoints/last.ckpt"
    longer = ["--trainer.max_epochs=4", "--trainer.max_steps=15"]
    assert main(["fit", *args, *stop, *longer, f"--ckpt_path={last}", f"--trainer.default_root_dir={second}"]) == 0
    check(second / "version_0")


@pytest.mark.parametrize("option", ["--language=en", "--language=[en]"])
def test_a_language_may_be_one_word(best, tmp_path, option):
    assert main(["export", f"--ckpt_path={best}", f"--output={tmp_path / 'model'}", option]) == 0
    assert "\nlanguage:\n- en\n" in (tmp_path / "model/README.md").read_text()


DAMAGED = {
    "empty": "",
    "cut": '{"checkpoint": "c0ffee", "name": "te',
    "no JSON": "scores",
    "a list": '["checkpoint"]',
    "a number": "7",
    "missing keys": "{}",
    "further keys": '{"checkpoint": "%s", "name": "test", "file": "a", "more": 1}',
    "bytes": "\udcff",
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_scores_are_left_out_with_a_warning(best, tmp_path, caplog, damage):
    shutil.copy(best, tmp_path / "best.ckpt")
    digest = json.loads(Path(best).with_suffix(".test.json").read_text())["checkpoint"]
    record = tmp_path / "best.test.json"
    record.write_text(DAMAGED[damage].replace("%s", digest), encoding="utf-8", errors="surrogateescape")
    folder = export(ckpt_path=str(tmp_path / "best.ckpt"), output=str(tmp_path / "model"))
    assert f"{record} is damaged: the scores of the test are left out; run `test` again" in caplog.messages
    facts = json.loads((folder / "scores.json").read_text())
    assert [split["name"] for split in facts["splits"]] == ["validation"]


def test_without_a_run_the_command_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export"]) == 1
    assert capsys.readouterr().err == "error: no checkpoint below runs: run `fit` first, or give --ckpt_path\n"


def test_what_is_no_checkpoint_is_named(tmp_path, capsys):
    assert main(["export", f"--ckpt_path={tmp_path / 'none.ckpt'}"]) == 1
    assert re.search(r"error: .*none.ckpt: expected a checkpoint, found no such file", capsys.readouterr().err)
