"""A short run on the invented corpus, and a model that answers with many labels."""

import io
import sys

import pytest
import torch

from ner_lightning.__main__ import main
from ner_lightning.encoding import Encoder
from ner_lightning.model import TokenClassificationModule
from ner_lightning.predict import Tagger
from ner_lightning.pretrained import load_tokenizer

LABELS = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="session")
def runs(tmp_path_factory, conll_files, tiny_model):
    """A folder with a run of two epochs with windows of 16, its best checkpoint tested."""
    folder = tmp_path_factory.mktemp("runs")
    files = [f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation", "test")]
    options = [f"--model.model_name_or_path={tiny_model}", f"--trainer.default_root_dir={folder}", *files, *QUIET]
    fit = ["--model.learning_rate=1e-2", "--data.max_seq_length=16", "--trainer.max_epochs=2"]
    assert main(["fit", *options, *fit, "--trainer.log_every_n_steps=1"]) == 0
    assert main(["test", *options]) == 0
    return folder


@pytest.fixture(scope="session")
def checkpoint(runs):
    return runs / "version_0/checkpoints/best.ckpt"


@pytest.fixture(scope="session")
def model(tiny_model):
    """A model that answers with many labels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TokenClassificationModule(str(tiny_model), labels=LABELS)
        torch.nn.init.normal_(model.model.classifier.weight, std=5)
    return model.eval()


@pytest.fixture(scope="session")
def tagger(model, tiny_model):
    """Make a Tagger of that model."""

    def make(*, max_seq_length=64, **options):
        encoder = Encoder(load_tokenizer(str(tiny_model)), labels=LABELS, max_seq_length=max_seq_length)
        return Tagger(model.model, encoder, device="cpu", **options)

    return make


@pytest.fixture
def stdout(monkeypatch):
    """Standard output as bytes; a terminal or a file."""

    def stdout(*, terminal=False):
        stream = io.TextIOWrapper(io.BytesIO(), write_through=True)
        monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
        monkeypatch.setattr(sys, "stdout", stream)
        return stream.buffer

    return stdout


@pytest.fixture
def stdin(monkeypatch):
    """Standard input; a terminal or a pipe."""

    def stdin(content, *, terminal=False):
        stream = io.TextIOWrapper(io.BytesIO(content.encode()))
        monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
        monkeypatch.setattr(sys, "stdin", stream)

    return stdin
