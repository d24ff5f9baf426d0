"""Labels for words that have none: the same as the Trainer's, in a file that is the input and one more column."""

import json

import pytest
import torch
from lightning.pytorch import Trainer

from ner_lightning.conll import read_lines
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.model import TokenClassificationModule
from ner_lightning.prediction import PredictionWriter, TagSentence, label_words, render

LABELS = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]

# words, chunks and what stands between them: tabs and spaces, CRLF, no end of line at the end
CONLL = (
    "-DOCSTART- -X-\n\n"
    "Mira NNP\nToll NNP\nleft\tVBD\n. .\n"
    " \n\r\n"
    "#1 CD\r\nthe  DT\r\nOstric NNP\nCup NNP\n\n\n"
    "-DOCSTART- -X-\n\n"
    "Tarnby NNP\nfroze VBD\nthe DT\nVelan NNP\nPrize NNP\nand CC\nBrask NNP\nWorks NNP"
)
CONLLU = (
    "# text = Mira's won\n1-2\tMira's\t_\t_\n1\tMira\t_\tPROPN\n2\t's\t_\tPART\n2.1\twho\t_\tPRON\n3\twon\t_\tVERB\n\n"
)
JSONL = '{"tokens": ["Mira", "left"], "x": 1}\n{"tokens": []}\n{"tokens": ["New Tarnby", "of", "old", "."]}\n'

# of Lightning about torch and about loaders without workers, of the Hub client where its progress bars are off
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Cannot enable progress bars"),
]


@pytest.fixture(scope="module")
def model(tiny_model):
    """A model that answers with many labels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TokenClassificationModule(str(tiny_model), labels=LABELS)
        torch.nn.init.normal_(model.model.classifier.weight, std=5)
    return model.eval()


@pytest.fixture
def predict(model, tiny_model, tmp_path, capsys):
    """Label a file through the Trainer; returns the data and the bytes that were written."""

    def predict(name, text, **options):
        path = tmp_path / name
        path.write_bytes(text.encode())
        data = TokenClassificationDataModule(
            predict_file=str(path), model_name_or_path=str(tiny_model), **{"eval_batch_size": 2, **options}
        )
        trainer(tmp_path, PredictionWriter()).predict(model, data, return_predictions=False)
        (path,) = tmp_path.glob("predictions.*")
        assert f"words labelled: {path}" in capsys.readouterr().out
        return data, path.read_bytes().decode()

    return predict


def trainer(folder, *callbacks, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    given = {"accelerator": "cpu", "enable_checkpointing": False, "default_root_dir": folder, **quiet, **options}
    return Trainer(callbacks=list(callbacks), **given)


def words_of(path):
    return [line for line in read_lines(path) if line.kind == "word"]


def test_a_written_conll_file_is_the_input_and_one_more_column(predict, tmp_path):
    _, written = predict("in.conll", CONLL)
    before, after = CONLL.splitlines(keepends=True), written.splitlines(keepends=True)
    assert len(before) == len(after)
    words = [i for i, line in enumerate(before) if line.strip() and not line.startswith("-DOCSTART-")]
    assert len(words) == 16
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        if i not in words:
            assert new == old
            continue
        text = old.rstrip("\r\n")
        separator = "\t" if "\t" in text else " "
        added, _, label = new.rstrip("\r\n").rpartition(separator)
        assert added.rstrip(" ") == text
        assert label in LABELS
        assert new.endswith(old[len(text) :])


def test_a_written_conllu_file_keeps_comments_and_ranges(predict):
    _, written = predict("in.conllu", CONLLU)
    for old, new in zip(CONLLU.splitlines(), written.splitlines(), strict=True):
        if old and old[0].isdigit() and old.split("\t")[0].isdigit():
            assert new.rpartition("\t")[0] == old
            assert new.rpartition("\t")[2] in LABELS
        else:
            assert new == old


def test_other_files_give_json_lines_of_tokens_and_tags(predict, model):
    data, written = predict("in.jsonl", JSONL)
    rows = [json.loads(line) for line in written.splitlines()]
    assert [row["tokens"] for row in rows] == [json.loads(line)["tokens"] for line in JSONL.splitlines()]
    assert [row["tags"] for row in rows] == [label_words(model, data.encoder, row["tokens"]) for row in rows]


def test_the_labels_in_the_file_are_those_of_each_sentence_alone(predict, model, tmp_path):
    data, _ = predict("in.conll", CONLL)
    written = [line.columns[-1] for line in words_of(tmp_path / "predictions.conll")]
    alone = [
        label for words in data.corpus.splits["predict"]["tokens"] for label in label_words(model, data.encoder, words)
    ]
    assert written == alone
    assert len(set(written)) > 1  # the model says something


@pytest.mark.parametrize("max_seq_length", [10, 16, 33])
def test_sentences_longer_than_a_window_are_labelled_the_same_way(predict, model, tmp_path, max_seq_length):
    words = ["Mira", "Toll", "visited", "Arvenholm", "and", "the", "Ostric", "Cup", "."] * 6
    text = "\n".join(f"{word} X" for word in words) + "\n"
    data, _ = predict("in.conll", text, max_seq_length=max_seq_length)
    written = [line.columns[-1] for line in words_of(tmp_path / "predictions.conll")]
    assert written == label_words(model, data.encoder, words)
    assert len(written) == len(words)


def test_a_part_of_the_words_is_not_written(model, tiny_model, tmp_path):
    path = tmp_path / "in.conll"
    path.write_text(CONLL)
    data = TokenClassificationDataModule(predict_file=str(path), model_name_or_path=str(tiny_model), eval_batch_size=1)
    with pytest.raises(InputError, match=r"of 16 words have no prediction.* leave out --trainer.limit_predict_batch"):
        trainer(tmp_path, PredictionWriter(), limit_predict_batches=1).predict(model, data)
    assert not (tmp_path / "predictions.conll").exists()


def test_a_sentence_without_words_has_no_labels(predict, model):
    data, _ = predict("in.conll", CONLL)
    assert label_words(model, data.encoder, []) == []


@pytest.mark.parametrize("training", [True, False])
def test_labelling_leaves_the_mode_of_the_model(predict, model, training):
    data, _ = predict("in.conll", CONLL)
    model.train(training)
    first = label_words(model, data.encoder, ["Mira", "left"])
    assert model.training == training
    assert first == label_words(model.eval(), data.encoder, ["Mira", "left"])


def test_fit_ends_with_a_sentence(conll_files, tiny_model, tmp_path, capsys):
    data = TokenClassificationDataModule(
        train_file=str(conll_files / "train.conll"),
        validation_file=str(conll_files / "validation.conll"),
        model_name_or_path=str(tiny_model),
    )
    model = TokenClassificationModule(str(tiny_model), labels=LABELS)
    trainer(tmp_path, TagSentence("Mira  visited Arvenholm ."), max_epochs=1).fit(model, data)
    words = ["Mira", "visited", "Arvenholm", "."]
    shown = render(words, label_words(model, data.encoder, words), colour=False)
    assert capsys.readouterr().out.splitlines()[-1] == shown


WORDS = "Edda Voss of Pell Union left Tarnby .".split()
TAGS = "B-PER I-PER O B-ORG I-ORG O B-LOC O".split()


def test_entities_stand_in_brackets():
    assert render(WORDS, TAGS, colour=False) == "[Edda Voss PER] of [Pell Union ORG] left [Tarnby LOC] ."


def test_entities_stand_in_colour():
    shown = render(WORDS, TAGS, colour=True)
    backgrounds = [part.split("m")[0] for part in shown.split("\033[30;48;5;")[1:]]
    assert len(set(backgrounds)) == 3
    assert shown.count("\033[0m") == 3
    plain = shown
    for code in ["\033[0m", "\033[1m", *(f"\033[30;48;5;{number}m" for number in backgrounds)]:
        plain = plain.replace(code, "")
    assert plain.split() == "Edda Voss PER of Pell Union ORG left Tarnby LOC .".split()


def test_a_type_has_one_colour_in_a_sentence():
    shown = render(["Edda", "met", "Hal"], ["B-PER", "O", "B-PER"], colour=True)
    one, other = shown.split("\033[30;48;5;")[1:]
    assert one.split("m")[0] == other.split("m")[0]


def test_neighbouring_entities_stay_apart():
    assert render(["Edda", "Hal"], ["B-PER", "B-PER"], colour=False) == "[Edda PER] [Hal PER]"


def test_words_without_entities_stay_as_they_are():
    assert render(WORDS, ["O"] * len(WORDS), colour=True) == " ".join(WORDS)
    assert render([], [], colour=True) == ""
