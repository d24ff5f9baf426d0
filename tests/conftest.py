"""What every test stands on: an environment without network, a tiny model, invented CoNLL files, a fake Hub.

The Hugging Face libraries read their constants when they are imported, so the environment is set before that:
no module of tests may import them, or what imports them, ahead of this one.
"""

import atexit
import os
import resource
import shutil
import signal
import string
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from fake_hub import WRITE, FakeHub

# Port 9 of this machine answers nothing: what slips past the offline switch fails at once instead of leaving.
os.environ.update(
    HF_HOME=tempfile.mkdtemp(prefix="ner-lightning-tests-"),
    HF_ENDPOINT="http://127.0.0.1:9",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_XET="1",
    HF_TOKEN="",
    NO_PROXY="127.0.0.1,localhost",
    no_proxy="127.0.0.1,localhost",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",  # the tensors are tiny: more threads wait for each other
)
for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_DATASETS_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
    os.environ.pop(name, None)
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
# a shell that runs the tests in the background, or nohup, lets signals be ignored here and in all that is started here
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Columns: word, part of speech, chunk, entity. Two documents in each file; no name stands in two files.
CONLL = {
    "train": """\
-DOCSTART- -X- O O

Mira NNP I-NP B-PER
Toll NNP I-NP I-PER
visited VBD I-VP O
Arvenholm NNP I-NP B-LOC
. . O O

The DT I-NP O
Ostric NNP I-NP B-MISC
Cup NNP I-NP I-MISC
began VBD I-VP O
. . O O

-DOCSTART- -X- O O

Quill NNP I-NP B-ORG
Works NNP I-NP I-ORG
hired VBD I-VP O
Jon NNP I-NP B-PER
Brask NNP I-NP I-PER
. . O O

Lake NNP I-NP B-LOC
Sorn NNP I-NP I-LOC
froze VBD I-VP O
. . O O
""",
    "validation": """\
-DOCSTART- -X- O O

Edda NNP I-NP B-PER
Voss NNP I-NP I-PER
left VBD I-VP O
Tarnby NNP I-NP B-LOC
. . O O

-DOCSTART- -X- O O

Pell NNP I-NP B-ORG
Union NNP I-NP I-ORG
won VBD I-VP O
the DT I-NP O
Velan NNP I-NP B-MISC
Prize NNP I-NP I-MISC
. . O O
""",
    "test": """\
-DOCSTART- -X- O O

Hal NNP I-NP B-PER
Minnow NNP I-NP I-PER
likes VBZ I-VP O
Keldra NNP I-NP B-LOC
. . O O

-DOCSTART- -X- O O

Dorn NNP I-NP B-ORG
Bank NNP I-NP I-ORG
sold VBD I-VP O
Zephic NNP I-NP B-MISC
Art NNP I-NP I-MISC
. . O O
""",
}


@pytest.fixture(scope="session")
def conll_files(tmp_path_factory) -> Path:
    """A folder with train.conll, validation.conll and test.conll."""
    folder = tmp_path_factory.mktemp("conll")
    for split, text in CONLL.items():
        (folder / f"{split}.conll").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A folder with a BERT of one layer, random weights, and a tokenizer with pieces for every ASCII word."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny_model")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def tiny_tokenizer():
    """A cased WordPiece tokenizer over some whole words, single characters and their continuations."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["the", "The", "visited", "began", "hired", "froze", "left", "won", "sold", "##olm", "##ia"]
    characters = string.ascii_letters + string.digits + string.punctuation
    vocabulary = [*special, *words, *characters, *(f"##{character}" for character in characters)]
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    pieces = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=200))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return BertTokenizerFast(tokenizer_object=pieces, do_lower_case=False, model_max_length=64)


@contextmanager
def room(size):
    """Let no file grow beyond some bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def columns_of(windows):
    """Lists of numbers, window by window."""
    columns = {name: [] for name in ("input_ids", "labels", "word_index", "sentence_index", "document_index")}
    for start, end, first in zip(windows.offsets, windows.offsets[1:], windows.first_word, strict=False):
        word = count(int(first))
        columns["input_ids"].append(windows.input_ids[start:end].tolist())
        columns["labels"].append(windows.labels[start:end].tolist())
        columns["word_index"].append([next(word) if scored else -1 for scored in windows.scored[start:end]])
        columns["sentence_index"].append(windows.sentence_index[start:end].tolist())
        columns["document_index"].append(windows.document_index[start:end].tolist())
    return columns | {"words_before": windows.words_before.tolist(), "length": windows.lengths.tolist()}


@pytest.fixture
def caches(tmp_path, monkeypatch) -> Path:
    """Empty caches of datasets and of the Hub client, for one test; returns the one of datasets."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "datasets" / "downloads")
    return tmp_path / "datasets"


@pytest.fixture
def hub(caches, monkeypatch):
    """A running FakeHub to which huggingface_hub, transformers and datasets of this process talk, online."""
    import datasets
    import transformers.utils.hub
    from huggingface_hub import HfFileSystem, close_session, constants, hf_api

    with FakeHub() as fake:
        monkeypatch.setattr(constants, "ENDPOINT", fake.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hf_api.api, "endpoint", fake.url)
        monkeypatch.setattr(
            transformers.utils.hub, "_hf_api", None, raising=False
        )  # made once, with the address of that moment
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", fake.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", fake.url)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(
            datasets.config, "HUB_DATASETS_URL", fake.url + "/datasets/{repo_id}/resolve/{revision}/{path}"
        )
        monkeypatch.setenv("HF_TOKEN", WRITE)
        HfFileSystem.clear_instance_cache()  # it remembers listings
        yield fake
        close_session()
