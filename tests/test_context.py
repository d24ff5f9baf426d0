"""Sentences among their neighbours, from `fit` to what others do with the exported folder."""

import json
from pathlib import Path

import pytest
import torch
from seqeval.metrics import f1_score

from ner_lightning.cli import main
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.hub import export
from ner_lightning.model import TokenClassificationModule
from ner_lightning.predict import Tagger, predict
from ner_lightning.readers import ReadOptions, read

DOCUMENT = """-DOCSTART- O

Mira B-PER
Toll I-PER
left O
. O

Arvenholm B-LOC
froze O
in O
winter O
. O

Norvix B-ORG
won O
the O
Ostric B-MISC
Cup I-MISC
"""


@pytest.fixture
def fit(tmp_path, monkeypatch, tiny_model):
    """Train and test in an empty folder, on three documents of three sentences."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "validation", "test"):
        Path(f"{split}.conll").write_text("\n".join([DOCUMENT] * 3))

    def fit(*options):
        arguments = [
            f"--model.model_name_or_path={tiny_model}",
            "--model.learning_rate=0.02",
            *(f"--data.{split}_file={split}.conll" for split in ("train", "validation", "test")),
            "--data.max_seq_length=14",
            "--data.batch_size=2",
            "--trainer.max_epochs=6",
            "--trainer.log_every_n_steps=1",
            "--trainer.enable_progress_bar=false",
            "--trainer.accelerator=cpu",
        ]
        assert not main(["fit", *arguments, *options])
        assert not main(["test", "--trainer.enable_progress_bar=false"])
        return json.loads(Path("runs/version_0/checkpoints/best.test.json").read_text())["scores"]

    return fit


@pytest.mark.parametrize("context", ["document", "file", "centred"])
def test_what_is_predicted_for_a_file_is_what_was_scored(fit, context, caplog):
    scores = fit(f"--data.context={context}")
    export(output="out")
    told = {
        "document": "each of which holds neighbouring sentences of a document, with `[SEP]` between them",
        "file": "each of which holds neighbouring sentences, with `[SEP]` between them",
        "centred": "each of which holds a sentence in the middle of its neighbours of a document, with `[SEP]`",
    }
    assert told[context] in Path("out/README.md").read_text()
    for model in ("runs", "out"):
        predict(["test.conll"], model=model, output=f"{model}.conll")
        predicted = [sentence.tags for sentence in read(f"{model}.conll")]
        gold = [sentence.tags for sentence in read(f"{model}.conll", options=ReadOptions(label_column_name=-2))]
        assert f1_score(gold, predicted) == pytest.approx(scores["f1"], abs=1e-7)  # of float32
    assert scores["f1"] > 0
    assert "each is alone" not in caplog.text


def test_transformers_gives_the_same_labels_for_the_same_windows(fit):
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    fit("--data.context=document", "--data.max_seq_length=64")
    model = AutoModelForTokenClassification.from_pretrained(export(output="out")).eval()
    tokenizer = AutoTokenizer.from_pretrained("out")
    documents = {}
    for sentence in read("test.conll"):
        documents.setdefault(sentence.document, []).append(sentence.words)
    assert max(map(len, documents.values())) > 1
    for sentences in documents.values():
        words = [word for sentence in sentences for word in [*sentence, tokenizer.sep_token]][:-1]
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            labels = model(**encoded).logits[0].argmax(-1).tolist()
        places = [encoded.word_ids().index(n) for n, word in enumerate(words) if word != tokenizer.sep_token]
        theirs = [model.config.id2label[labels[place]] for place in places]
        tagged = Tagger.load("out", device="cpu").tags(sentences, documents=[7] * len(sentences))
        assert [word.label for sentence in tagged for word in sentence] == theirs


def test_sentences_without_documents_are_labelled_with_one_warning(fit, caplog):
    fit("--data.context=document", "--trainer.max_epochs=2")  # a model that is not sure of everything
    tagger = Tagger.load("runs", device="cpu")
    alone = tagger.tags([["Mira", "left"], ["Mira", "left"]])
    tagger.tags("Mira left")
    assert alone[0] == alone[1]
    assert caplog.text.count("input 0: the model reads sentences among their neighbours, and here each is alone") == 1
    together = tagger.tags([["Mira", "left"], ["Mira", "left"]], documents=["a", "a"])
    assert together[0] != alone[0]
    columns = {"tokens": [["Mira", "left"], ["Mira", "left"]], "document_id": [1, 1]}
    assert tagger.map_batch(columns)["tags"] == [[word.label for word in words] for words in together]


def test_paragraphs_of_a_text_are_its_documents(fit):
    fit("--data.context=document")
    Path("a.txt").write_text("Mira left\nToll stayed\n\nMira left\n")
    predict(["a.txt"], model="runs", output="a.jsonl")
    rows = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    tagger = Tagger.load("runs", device="cpu")
    found = tagger(["Mira left", "Toll stayed", "", "Mira left"], documents=[0, 0, 1, 1])
    assert [row["entities"] for row in rows if row["text"]] == [found[0], found[1], found[3]]


def test_inputs_by_hand_are_no_neighbours_in_a_file_unless_it_is_said(fit, caplog):
    fit("--data.context=file", "--trainer.max_epochs=1")
    tagger = Tagger.load("runs", device="cpu")
    (alone,) = tagger.tags([["Mira", "left"]])
    assert tagger.tags([["Mira", "left"], ["Norvix", "won"]])[0] == alone
    assert "each is alone" in caplog.text
    together = tagger.tags([["Mira", "left"], ["Norvix", "won"]], documents=[3, 3])[0]
    assert [word.score for word in together] != [word.score for word in alone]
    assert tagger.tags([["Mira", "left"], ["Norvix", "won"]], documents=[3, 4])[0] == alone


def test_documents_are_one_for_each_input(fit):
    fit("--data.context=document")
    with pytest.raises(InputError, match="documents: expected one for each of 2 inputs, found 1"):
        Tagger.load("runs", device="cpu")(["a", "b"], documents=[1])


def test_what_an_exported_model_had_is_not_what_a_model_trained_from_it_has(fit):
    fit("--data.context=document")
    export(output="out")
    assert json.loads(Path("out/config.json").read_text())["context"] == "document"
    assert not main(
        [
            *("fit", "--model.model_name_or_path=out", "--data.train_file=train.conll"),
            *(
                "--trainer.max_steps=1",
                "--trainer.log_every_n_steps=1",
                "--trainer.enable_progress_bar=false",
                "--trainer.accelerator=cpu",
            ),
        ]
    )
    export(output="again")
    assert json.loads(Path("again/config.json").read_text())["context"] == "sentence"


def test_an_exported_model_is_tested_as_it_was_trained(fit, tmp_path, monkeypatch):
    fit("--data.context=document", "--model.decoding=argmax")
    export(output="out")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    arguments = ["--model.model_name_or_path=../out", "--data.test_file=../test.conll", *quiet]
    seen = []

    class Module(TokenClassificationModule):
        def on_test_start(self):
            data = self.trainer.datamodule
            seen.append((self.grammar, data.encoder.context, data.encoder.max_seq_length))

    assert not main(["test", *arguments], model_class=Module)
    assert seen == [(None, "document", 14)]
    assert not main(["test", *arguments, "--data.context=sentence"], model_class=Module)
    assert seen[1:] == [(None, "sentence", 14)]


def test_a_test_with_other_options_is_not_kept_as_that_of_the_model(fit, caplog):
    scores = fit("--data.context=document")
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    assert not main(["test", "--model.decoding=argmax", "--data.context=sentence", *quiet])
    assert "scored with decoding=argmax, context=sentence, other than in training: not kept" in caplog.text
    assert json.loads(Path("runs/version_0/checkpoints/best.test.json").read_text())["scores"] == scores
    assert not main(["test", "--model.decoding=constrained", *quiet])  # which is the default
    assert caplog.text.count("not kept") == 1


def test_a_model_says_in_config_and_card_how_it_was_decoded(fit):
    fit()
    assert json.loads((export(output="out") / "config.json").read_text())["decoding"] == "constrained"
    assert "(Viterbi)" in Path("out/README.md").read_text()


def test_a_share_of_a_file_has_no_neighbours():
    with pytest.raises(InputError, match=r"--data.context=file and --data.validation_split"):
        TokenClassificationDataModule(context="file", validation_split=0.5)
