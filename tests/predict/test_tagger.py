"""Tagger: the entities that were scored, from any model, in any batches, of any input."""

import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer

from ner_lightning.calibration import Calibration
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.encoding import Encoder
from ner_lightning.errors import InputError
from ner_lightning.hub import export
from ner_lightning.model import TokenClassificationModule
from ner_lightning.predict import TaggedWord, Tagger
from ner_lightning.predict.tagger import rows_of
from ner_lightning.pretrained import load_tokenizer
from ner_lightning.readers import read
from ner_lightning.words import split_words

TEXTS = ["Mira Toll visited Arvenholm.", "", " \t\n", "Hal 😀 (Minnow) likes Keldra, é", "The Ostric Cup began. " * 9]
# of Lightning about torch and about loaders without workers, of the Hub client where its progress bars are off
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Cannot enable progress bars"),
]
quick = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(entities):
    return [(entity["type"], entity["start"], entity["end"]) for entity in entities]


# what it gives


def test_entities_are_parts_of_the_text_with_their_score(tagger):
    for text, entities in zip(TEXTS, tagger()(TEXTS), strict=True):
        assert (not entities) == (not text.strip())
        for entity in entities:
            assert list(entity) == ["type", "text", "start", "end", "score"]
            assert text[entity["start"] : entity["end"]] == entity["text"]
            assert 0 <= entity["score"] <= 1


def test_one_text_gives_its_entities_and_a_list_a_list(tagger):
    tag = tagger()
    assert tag(TEXTS[0]) == tag([TEXTS[0]])[0]
    assert tag("") == tag([]) == tag(" \n") == []
    assert tag([[], ["Mira"]])[0] == []


def test_entities_of_given_words_count_words(tagger):
    words = ["Mira Toll", "visited", "Arvenholm", "."]
    (entities,) = tagger()([words])
    assert entities
    assert all(" ".join(words[entity["start"] : entity["end"]]) == entity["text"] for entity in entities)


def test_tags_are_of_each_word(tagger):
    tag = tagger()
    tagged = tag.tags(TEXTS[0])
    assert all(isinstance(word, TaggedWord) for word in tagged)
    assert [word for word, _, _ in tagged] == "Mira Toll visited Arvenholm .".split()
    assert tag.tags([TEXTS[0], ""]) == [tagged, []]
    (same,) = tag.tags([[word for word, _, _ in tagged]])
    assert same == tagged


@quick
@given(st.lists(st.text("aMT é.中😀\t", max_size=40), max_size=8), st.integers(1, 99), st.sampled_from([8, 12, 64]))
def test_alone_and_in_any_batches_it_is_the_same(tagger, texts, max_tokens, max_seq_length):
    tag = tagger(max_tokens=max_tokens, max_seq_length=max_seq_length)
    together, words = tag.tags(texts), [[text[s:e] for s, e in split_words(text)] for text in texts]
    for text, tagged in zip(texts, together, strict=True):
        alone = tagger(max_seq_length=max_seq_length).tags(text)
        assert [word[:2] for word in alone] == [word[:2] for word in tagged]
        assert [word.score for word in alone] == pytest.approx([word.score for word in tagged], abs=1e-5)
    assert [[word.label for word in tagged] for tagged in tag.tags(words)] == [
        [word.label for word in tagged] for tagged in together
    ]


def test_a_text_longer_than_a_window_is_seen_whole(tagger):
    words = ["Mira", "Toll", "visited", "Arvenholm", "."] * 40
    tag = tagger(max_seq_length=12)
    assert len(tag.tags(" ".join(words))) == len(words)
    assert len({word.label for word in tag.tags(" ".join(words))}) > 1


@pytest.mark.parametrize(("rows", "words"), [(1, 100), (3, 100), (100, 4)])
def test_rows_come_in_their_order_however_many_are_sorted_together(tagger, monkeypatch, rows, words):
    tag = tagger()
    expected = tag(TEXTS * 3)
    monkeypatch.setattr("ner_lightning.predict.tagger._ROWS", rows)
    monkeypatch.setattr("ner_lightning.predict.tagger._WORDS", words)
    assert list(map(places, tag(TEXTS * 3))) == list(map(places, expected))


def test_rows_are_labelled_as_they_come(tagger, monkeypatch):
    monkeypatch.setattr("ner_lightning.predict.tagger._ROWS", 2)
    taken = []

    def rows():
        for row in rows_of(["Mira"] * 100):
            taken.append(row)
            yield row

    next(tagger().label(rows()))
    assert len(taken) == 2


@pytest.mark.parametrize("batch", [["Mira", 3], [None], [["Mira", 3]], [{"a": 1}]])
def test_what_is_neither_text_nor_words_is_refused(tagger, batch):
    with pytest.raises(InputError, match=rf"input {len(batch) - 1}: expected a text or a list of words, found"):
        tagger()(batch)


# columns


def test_a_batch_of_columns_gets_columns(tagger):
    tag = tagger()
    table = datasets.Dataset.from_dict({"id": [1, 2, 3, 4, 5], "text": TEXTS}).map(
        tag.map_batch, batched=True, batch_size=2
    )
    assert table.column_names == ["id", "text", "entities"]
    assert [places(entities) for entities in table["entities"]] == [places(entities) for entities in tag(TEXTS)]


def test_a_batch_of_words_gets_tags_too(tagger):
    tag = tagger()
    given = {"tokens": [np.array(["Mira", "left"], dtype=object), []], "text": ["x", "y"]}
    batch = tag.map_batch(given)
    assert list(batch) == ["tokens", "text", "entities", "tags"]
    assert batch["tags"] == [[word.label for word in tagged] for tagged in tag.tags([["Mira", "left"], []])]
    assert list(given) == ["tokens", "text"]


def test_a_batch_without_text_is_refused(tagger):
    with pytest.raises(InputError, match="expected a column text or tokens, found a, b"):
        tagger().map_batch({"a": [], "b": []})


# the model


def test_a_model_that_is_trained_meanwhile_stays_in_its_mode(tagger, model):
    tag = tagger()
    expected = tag.tags(TEXTS[0])
    model.model.train()
    assert tag.tags(TEXTS[0]) == expected
    assert model.model.training
    model.model.eval()
    tag.tags(TEXTS[0])
    assert not model.model.training


def test_another_decoding_is_used_with_whole_windows(tagger):
    shapes = []

    def first_label(batch, logits):
        shapes.append((batch["input_ids"].shape, logits.shape[:2]))
        return torch.ones(logits.shape[:2], dtype=torch.int64)

    assert {word.label for word in tagger(decode=first_label).tags(TEXTS[0])} == {"B-LOC"}
    assert all(one == other for one, other in shapes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, r"max_tokens=0: a batch holds at least one sub-word"),
        ({"device": "gpu"}, r"device=gpu cannot be used: Expected one of cpu, cuda"),
    ],
)
def test_an_option_that_cannot_be_is_refused(model, tagger, options, message):
    with pytest.raises(InputError, match=message):
        Tagger(model.model, tagger().encoder, **options)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_labels_and_scores_are_those_that_a_trainer_computes(model, conll_files, tiny_model, precision, tmp_path):
    """To the last bit, in the same batches."""
    path = str(conll_files / "train.conll")
    data = TokenClassificationDataModule(
        train_file=path, test_file=path, model_name_or_path=str(tiny_model), max_seq_length=16
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", precision=precision, default_root_dir=tmp_path, **quiet)
    batches = trainer.predict(model, data.loader("test"))
    words, label_ids, scores = (torch.cat(column) for column in zip(*batches, strict=True))
    order = words.argsort()
    # as it was decoded in each window: a step mends nothing between them
    tag = Tagger(model.model, data.encoder, decode=model.decode, device="cpu", precision=precision)
    tagged = [word for each in tag.tags([s.words for s in read(path)]) for word in each]
    assert [word.label for word in tagged] == [data.labels[i] for i in label_ids[order].tolist()]
    assert [word.score for word in tagged] == pytest.approx(scores[order].tolist(), abs=1e-6)


@quick
@given(text=st.text("abMTé中 .,-'(", min_size=1, max_size=30))
def test_the_pipeline_of_transformers_finds_the_same_with_a_tokenizer_of_bert(model, tagger, pipeline, text):
    ours, theirs = tagger(decoding="argmax")(text), pipeline(text)
    assert places(ours) == [(e["entity_group"], e["start"], e["end"]) for e in theirs]
    for own, other in zip(ours, theirs, strict=True):  # whose score is the mean of the words, and ours the product
        words = len(split_words(own["text"]))
        assert own["score"] <= float(other["score"]) + 1e-5
        assert words > 1 or own["score"] == pytest.approx(float(other["score"]), abs=1e-5)


@pytest.fixture(scope="module")
def pipeline(model, tiny_model):
    from transformers import AutoTokenizer, TokenClassificationPipeline

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    return TokenClassificationPipeline(model=model.model, tokenizer=tokenizer, aggregation_strategy="first")


# what is left out


@quick
@given(st.lists(st.text("aMT é.中", max_size=30), max_size=4), st.floats(0, 1), st.sampled_from([8, 64]))
def test_weak_entities_are_left_out_and_their_words_are_outside(tagger, texts, min_score, max_seq_length):
    options = {"max_seq_length": max_seq_length, "calibration": Calibration(20.0)}
    every, strong = tagger(**options), tagger(min_score=min_score, **options)
    for found, kept in zip(every(texts), strong(texts), strict=True):
        assert [entity for entity in found if entity in kept] == kept
        assert all((entity in kept) == (entity["score"] >= min_score) for entity in found if _off(entity, min_score))
    for kept, before, after in zip(strong(texts), every.tags(texts), strong.tags(texts), strict=True):
        assert sum(word.label.startswith("B-") for word in after) == len(kept)
        assert all(one.label in (other.label, "O") for one, other in zip(after, before, strict=True))


def test_entities_of_labels_without_an_opening_one_are_left_out_too(tiny_model):
    labels = ["O", "I-LOC", "I-PER"]
    model = TokenClassificationModule(str(tiny_model), labels=labels)
    encoder = Encoder(load_tokenizer(str(tiny_model)), labels=labels, max_seq_length=64)
    every, sure = (Tagger(model.model, encoder, device="cpu", min_score=score) for score in (0.0, 1.0))
    assert any(every(TEXTS))
    assert not any(sure(TEXTS))


def _off(entity, score):
    return abs(entity["score"] - score) > 1e-6  # to which it is rounded


def test_a_temperature_changes_scores_and_no_label(tagger):
    plain, soft = (tagger(calibration=known).tags(TEXTS[3]) for known in (None, Calibration(10.0)))
    assert [word.label for word in plain] == [word.label for word in soft]
    assert max(word.score for word in soft) < max(word.score for word in plain)


def test_a_target_keeps_of_each_type_what_is_above_its_threshold(tagger, caplog):
    known = Calibration(
        5.0, {"LOC": [[0.01, 0.8, 99], [0.3, 0.96, 50]], "PER": [[0.0, 0.99, 99]], "ORG": [[0.0, 0.5, 9]]}
    )
    thresholds = {"LOC": 0.3, "PER": 0.2, "ORG": 2, "MISC": 2}
    found = tagger(calibration=known)(TEXTS * 3)
    kept = tagger(calibration=known, precision_target=0.95, min_score=0.2)(TEXTS * 3)
    assert kept == [[e for e in entities if e["score"] >= thresholds[e["type"]]] for entities in found]
    assert (
        "precision_target=0.95: validation does not show that entities of type MISC are that often right" in caplog.text
    )
    assert [type_ for type_ in thresholds if f"of type {type_} are" in caplog.text] == ["ORG", "MISC"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": 1.5}, r"^min_score=1.5: give a number from 0 to 1"),
        ({"precision_target": -0.1}, r"^precision_target=-0.1: give a number from 0 to 1"),
        ({"precision_target": 0.9}, r"^precision_target=0.9: this model does not know its precision on validation"),
    ],
)
def test_what_cannot_be_left_out_is_said(tagger, options, message):
    with pytest.raises(InputError, match=message):
        tagger(**options)


def test_labels_of_words_are_never_left_out(model, tiny_model):
    labels = [f"TAG{number}" for number in range(9)]
    encoder = Encoder(load_tokenizer(str(tiny_model)), labels=labels, max_seq_length=64)
    with pytest.raises(InputError, match="leave out entities, and this model marks none: each word keeps its label"):
        Tagger(model.model, encoder, device="cpu", min_score=0.5)


# loading


def test_a_run_a_checkpoint_an_exported_folder_and_the_hub_find_the_same(runs, checkpoint, tmp_path, hub):
    folder = export(ckpt_path=str(checkpoint), output=str(tmp_path / "model"))
    hub.add_repo("model", "user/tagger", {path.name: path.read_bytes() for path in folder.iterdir()})
    models = [runs, runs / "version_0", checkpoint.parent, checkpoint, str(folder), "user/tagger"]
    taggers = [Tagger.load(model, device="cpu") for model in models]
    assert {tag.encoder.max_seq_length for tag in taggers} == {16}
    found = [tag(TEXTS) for tag in taggers]
    assert sum(map(len, found[0])) > 5
    assert all(each == found[0] for each in found)
    module = TokenClassificationModule.load_from_checkpoint(checkpoint).eval()
    assert module.calibration.temperature != 1
    same = Tagger(module.model, taggers[0].encoder, calibration=module.calibration)
    assert same(TEXTS) == found[0]


def test_windows_of_a_model_that_was_trained_without_a_limit_are_as_long_as_it_takes(checkpoint, tmp_path):
    saved = torch.load(checkpoint, weights_only=True)
    saved["datamodule_hyper_parameters"]["max_seq_length"] = None
    torch.save(saved, tmp_path / "best.ckpt")
    folder = export(ckpt_path=str(tmp_path / "best.ckpt"), output=str(tmp_path / "model"))
    assert "max_seq_length" not in (folder / "config.json").read_text()
    assert {Tagger.load(model).encoder.max_seq_length for model in (tmp_path / "best.ckpt", folder)} == {64}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runs", r"there is no folder runs here: run `fit` first, or give the model"),
        ("none.ckpt", r"none.ckpt: expected a checkpoint, found no such file"),
        ("empty", r"empty: no best.ckpt and no last.ckpt in this folder; give that of a run"),
        ("notes.txt", r"notes.txt: not a whole checkpoint of this program"),
        ("a/b/c", r"^--model=a/b/c: neither a folder nor the id of a model on the Hub"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("Mira left.\n")
    with pytest.raises(InputError, match=message):
        Tagger.load(name)


def test_a_checkpoint_whose_model_has_gone_is_told_with_it(checkpoint, tmp_path):
    saved = torch.load(checkpoint, weights_only=True)
    saved["hyper_parameters"]["model_name_or_path"] = "a/b/c"
    torch.save(saved, tmp_path / "best.ckpt")
    with pytest.raises(InputError, match=r"best.ckpt: its model a/b/c: neither a folder nor the id of a model"):
        Tagger.load(tmp_path / "best.ckpt")


def test_an_encoder_that_was_not_trained_is_refused(tiny_model):
    with pytest.raises(InputError, match="has no labels of its own: it was not trained to label words; run `fit`"):
        Tagger.load(tiny_model)


def test_to_predict_takes_no_lightning(runs, tmp_path):
    (tmp_path / "notes.txt").write_text("Mira left .\n")
    code = (
        "import sys\nfrom ner_lightning import Tagger\nfrom ner_lightning.__main__ import main\n"
        f"Tagger.load({str(runs)!r})('Mira left .')\n"
        f"assert main(['predict', {str(tmp_path / 'notes.txt')!r}, '--model', {str(runs)!r}]) == 0\n"
        "packages = {name.partition('.')[0] for name in sys.modules}\n"
        "print(packages & {'lightning', 'pytorch_lightning', 'torchmetrics', 'datasets', 'seqeval', 'tensorboard'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
