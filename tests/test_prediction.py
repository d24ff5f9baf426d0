"""Labels for words that have none: the same in a file, a stream, alone and in `pipeline`; nothing half written."""

import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, Trainer

from ner_lightning import predict_file
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.interruption import Interruption
from ner_lightning.labelled import EntityReader, as_json, render
from ner_lightning.model import TokenClassificationModule
from ner_lightning.predict_file import Row
from ner_lightning.prediction import PredictionWriter, TagSentence, label_row, label_words
from ner_lightning.readers.columns import read_lines, read_sentences

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
TEXT = 'Mira left "Tarnby".\n\n  The  Ostric Cup,\tat 9.5 km:\r\n' + "Edda of Pell Union won (again). " * 9 + "\nToll"
TOKENS = '{"tokens": ["Mira", "left"], "x": 1}\n{"tokens": []}\n{"tokens": ["New Tarnby", "of", "old", "."]}\n'

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
def data(tiny_model, tmp_path):
    """Make the data of a file to predict."""

    def data(name, text, **options):
        path = tmp_path / name
        path.write_bytes(text.encode())
        fixed = {"predict_file": str(path), "labels": LABELS, "model_name_or_path": str(tiny_model)}
        return TokenClassificationDataModule(**{**fixed, "eval_batch_size": 2, **options})

    return data


@pytest.fixture
def predict(model, data, tmp_path):
    """Label a text through the Trainer; returns what was written."""

    def predict(name, text, *, output=None, format=None, **options):
        writer = PredictionWriter(None if output is None else str(output), format=format)
        trainer(tmp_path, writer).predict(model, data(name, text, **options), return_predictions=False)
        (path,) = tmp_path.glob("predictions.*") if output is None else [output]
        return path.read_bytes().decode()

    return predict


@pytest.fixture
def stdout(monkeypatch):
    """Standard output as bytes; a terminal or a file."""

    def stdout(*, terminal=False):
        stream = io.TextIOWrapper(io.BytesIO(), write_through=True)
        monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
        monkeypatch.setattr(sys, "stdout", stream)
        return stream.buffer

    return stdout


@pytest.mark.parametrize(
    "name", ["best.ckpt", "model.safetensors", "config.yaml", "thesis.tex", "config.json", "vocab.txt", "CONFIG.YAML"]
)
def test_a_file_that_may_be_no_prediction_is_never_the_output(predict, tmp_path, name):
    (tmp_path / name).write_text("all of it")
    with pytest.raises(InputError, match=rf"--prediction.output=.*{name} is there already and is not replaced"):
        predict("in.txt", "Mira left.\n", output=tmp_path / name)
    assert (tmp_path / name).read_text() == "all of it"


@pytest.mark.parametrize("name", ["out", "out.txt", "out.CONLL", "out.tsv"])
def test_a_former_prediction_is_replaced(predict, tmp_path, name):
    first = predict("in.txt", "Mira left.\n", output=tmp_path / name)
    assert predict("in.txt", "Mira left.\nToll won.\n", output=tmp_path / name).startswith(first)


def test_the_checkpoint_that_is_used_is_never_the_output(model, data, tmp_path):
    path = tmp_path / "kept.txt"
    saver = trainer(tmp_path)
    saver.strategy.connect(model)
    saver.save_checkpoint(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"--prediction.output=.*kept.txt is the checkpoint that is used"):
        trainer(tmp_path, PredictionWriter(str(path))).predict(
            model, data("in.txt", "Mira left.\n"), ckpt_path=path, weights_only=True, return_predictions=False
        )
    assert path.read_bytes() == before


def test_a_folder_is_never_the_output(predict, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^\.: expected a file to write, found a directory"):
        predict("in.txt", "Mira left.\n", output=Path("."))


def test_the_input_is_never_the_output(predict, tmp_path):
    with pytest.raises(InputError, match=r"--prediction.output=.*notes.txt is the file that is read: give another one"):
        predict("notes.txt", "Mira left.\n", output=tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "Mira left.\n"


def trainer(folder, *callbacks, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    given = {"accelerator": "cpu", "enable_checkpointing": False, "default_root_dir": folder, **quiet, **options}
    return Trainer(callbacks=list(callbacks), **given)


def words_of(path):
    return [line for line in read_lines(path) if line.kind == "word"]


def alone(model, encoder, line):
    return label_row(model, encoder, Row(line, [], {"text": line}))


# columns


def without_labels(lines, words):
    """Lines without the label behind the words, which is taken off with the separator of the line."""
    for line, word in zip(lines, words, strict=True):
        text = line.rstrip("\r\n")
        label = text.rpartition("\t" if "\t" in text else " ")[2]
        assert not word or label in LABELS
        yield text[: -len(label) - 1] + line[len(text) :] if word else line


def test_a_written_conll_file_is_the_input_and_one_more_column(predict):
    after = predict("in.conll", CONLL).splitlines(keepends=True)
    words = [bool(line.strip()) and not line.startswith("-DOCSTART-") for line in after]
    assert sum(words) == 16
    assert "".join(without_labels(after, words)) == CONLL


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["Mira\tNNP", "é  VBD ", "-DOCSTART- X", "", " \t", "中 X\t", "# X"]), max_size=20),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_conll_file_comes_back_byte_for_byte(predict, lines, ending):
    text = ending.join([*lines, "Toll NNP"])
    after = predict("in.conll", text).split(ending)
    words = [bool(line.strip()) and not line.startswith("-DOCSTART-") for line in text.split(ending)]
    assert ending.join(without_labels(after, words)) == text


def test_a_written_conllu_file_keeps_comments_and_ranges(predict):
    written = predict("in.conllu", CONLLU)
    for old, new in zip(CONLLU.splitlines(), written.splitlines(), strict=True):
        if old and old[0].isdigit() and old.split("\t")[0].isdigit():
            assert new.rpartition("\t")[0] == old
            assert new.rpartition("\t")[2] in LABELS
        else:
            assert new == old


def test_the_labels_in_the_file_are_those_of_each_sentence_alone(predict, model, data, tmp_path):
    predict("in.conll", CONLL)
    written = [line.columns[-1] for line in words_of(tmp_path / "predictions.conll")]
    encoder = data("in.conll", CONLL).encoder
    sentences = read_sentences(tmp_path / "in.conll", tag_column=None)
    assert written == [label for sentence in sentences for label in label_words(model, encoder, sentence.words)]
    assert len(set(written)) > 1  # the model says something


@pytest.mark.parametrize("max_seq_length", [10, 16, 33])
def test_sentences_longer_than_a_window_are_labelled_the_same_way(predict, model, data, tmp_path, max_seq_length):
    words = ["Mira", "Toll", "visited", "Arvenholm", "and", "the", "Ostric", "Cup", "."] * 6
    text = "\n".join(f"{word} X" for word in words) + "\n"
    predict("in.conll", text, max_seq_length=max_seq_length)
    written = [line.columns[-1] for line in words_of(tmp_path / "predictions.conll")]
    encoder = data("in.conll", text, max_seq_length=max_seq_length).encoder
    assert written == label_words(model, encoder, words)
    assert len(written) == len(words)


# text and JSON lines


def test_each_line_of_a_text_gives_a_line_with_its_entities(predict, model, data):
    rows = [json.loads(line) for line in predict("in.txt", TEXT).splitlines()]
    lines = TEXT.replace("\r", "").split("\n")
    assert [row["text"] for row in rows] == lines
    encoder, reader = data("in.txt", TEXT).encoder, EntityReader(LABELS)
    for row, line in zip(rows, lines, strict=True):
        expected = json.loads(as_json(alone(model, encoder, line), reader=reader))
        assert [{**e, "score": 0} for e in row["entities"]] == [{**e, "score": 0} for e in expected["entities"]]
        for one, other in zip(row["entities"], expected["entities"], strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=2e-6)
    assert sum(len(row["entities"]) for row in rows) > 5


def test_text_in_json_keeps_the_other_fields(predict):
    rows = [json.loads(line) for line in predict("in.jsonl", '{"id": 7, "text": "Mira left"}\n').splitlines()]
    assert [list(row) for row in rows] == [["id", "text", "entities"]]


def test_rows_of_tokens_get_tags_and_entities(predict, model, data):
    rows = [json.loads(line) for line in predict("in.jsonl", TOKENS).splitlines()]
    before = [json.loads(line) for line in TOKENS.splitlines()]
    assert [{name: row[name] for name in old} for row, old in zip(rows, before, strict=True)] == before
    encoder = data("in.jsonl", TOKENS).encoder
    assert [row["tags"] for row in rows] == [label_words(model, encoder, row["tokens"]) for row in rows]


@pytest.fixture(scope="module")
def pipeline(model, tiny_model):
    """The pipeline of transformers on the same weights."""
    from transformers import AutoTokenizer, TokenClassificationPipeline

    model.model.config.id2label = dict(enumerate(LABELS))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    return TokenClassificationPipeline(model=model.model, tokenizer=tokenizer, aggregation_strategy="first")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.text("abMTé中 .,-'(", min_size=1, max_size=30))
def test_the_pipeline_of_transformers_finds_the_same(model, data, pipeline, line):
    labelled = alone(model, data("in.txt", "x\n").encoder, line)
    ours = json.loads(as_json(labelled, reader=EntityReader(LABELS)))["entities"]
    theirs = pipeline(line)
    assert [(e["type"], e["start"], e["end"]) for e in ours] == [
        (e["entity_group"], e["start"], e["end"]) for e in theirs
    ]
    assert [e["score"] for e in ours] == pytest.approx([float(e["score"]) for e in theirs], abs=1e-5)


# other formats


def test_columns_of_a_text_are_its_words(predict, tmp_path):
    written = predict("in.txt", 'Mira left "Tarnby".\n\nToll\n', format="conll")
    assert [line.split("\t")[0] for line in written.split("\n")] == [
        *'Mira left " Tarnby " .'.split(),
        *["", "", "Toll", "", ""],
    ]
    assert [len(s.words) for s in read_sentences(tmp_path / "predictions.conll")] == [6, 1]


def test_json_of_columns_has_their_sentences(predict, tmp_path):
    rows = [json.loads(line) for line in predict("in.conll", CONLL, format="jsonl").splitlines()]
    columns = predict("in.conll", CONLL, output=tmp_path / "out.conll")
    assert columns
    sentences = list(read_sentences(tmp_path / "out.conll"))
    assert [(row["tokens"], row["tags"]) for row in rows] == [(s.words, s.tags) for s in sentences]


def test_colours_in_a_file_are_written_where_they_are_asked_for(predict):
    assert "\033[" in predict("in.txt", TEXT, format="colour")


# any size


@pytest.mark.parametrize(("name", "text"), [("in.conll", CONLL), ("in.jsonl", TOKENS)])
def test_chunks_change_nothing(predict, monkeypatch, name, text):
    whole = predict(name, text)
    monkeypatch.setattr(predict_file, "_ROWS", 1)
    assert [_without_scores(line) for line in predict(name, text).splitlines()] == [
        _without_scores(line) for line in whole.splitlines()
    ]


def _without_scores(line):
    if not line.startswith("{"):
        return line
    row = json.loads(line)
    return {**row, "entities": [{**entity, "score": round(entity["score"], 4)} for entity in row["entities"]]}


@pytest.mark.parametrize(("name", "text"), [("in.conll", CONLL), ("in.txt", TEXT)])
def test_workers_change_nothing(predict, monkeypatch, name, text):
    monkeypatch.setattr(predict_file, "_ROWS", 1)
    assert predict(name, text) == predict(name, text, num_workers=2)


def test_the_progress_is_told_in_chunks(data, monkeypatch):
    monkeypatch.setattr(predict_file, "_ROWS", 2)
    assert len(data("in.txt", "Mira\n" * 5).predict_dataloader()) == 3


# where to


def test_a_file_is_told_and_the_folder_is_left_as_it_was(predict, tmp_path, capsys):
    predict("in.txt", "Mira left\n", output=tmp_path / "out.jsonl")
    assert capsys.readouterr().out == f"2 words labelled: {tmp_path / 'out.jsonl'}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"in.txt", "out.jsonl"}


@pytest.mark.parametrize(
    ("name", "text", "format", "written"),
    [
        ("in.conllu", CONLLU, None, "predictions.conllu"),
        ("in.conllu", CONLLU, "jsonl", "predictions.jsonl"),
        ("in.testb", CONLL, None, "predictions.conll"),
        ("in.txt", TEXT, None, "predictions.jsonl"),
        ("in.txt", TEXT, "colour", "predictions.txt"),
    ],
)
def test_the_default_name_says_the_format(predict, tmp_path, name, text, format, written):
    predict(name, text, format=format)
    assert {path.name for path in tmp_path.iterdir()} == {name, written}


def test_standard_output_has_the_same_as_a_file(model, data, tmp_path, stdout, predict):
    expected = predict("in.txt", TEXT)
    written = stdout()
    trainer(tmp_path, PredictionWriter("-")).predict(model, data("in.txt", TEXT), return_predictions=False)
    assert written.getvalue().decode() == expected


def test_standard_input_goes_to_standard_output(model, data, tmp_path, stdout, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Mira left\n")))
    written = stdout()
    trainer(tmp_path, PredictionWriter()).predict(model, data("x", "", predict_file="-"), return_predictions=False)
    assert json.loads(written.getvalue())["text"] == "Mira left"


@pytest.mark.parametrize(("name", "text", "colour"), [("in.txt", TEXT, True), ("in.conll", CONLL, False)])
def test_a_terminal_shows_text_in_colour_and_columns_as_they_are(model, data, tmp_path, stdout, name, text, colour):
    written = stdout(terminal=True)
    trainer(tmp_path, PredictionWriter("-")).predict(model, data(name, text), return_predictions=False)
    assert ("\033[30;48;5;" in written.getvalue().decode()) == colour


def test_a_reader_that_has_seen_enough_ends_it_quietly(model, data, tmp_path, monkeypatch, capsys):
    reader, end = os.pipe()
    os.close(reader)
    with open(end, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as exit_info:
            trainer(tmp_path, PredictionWriter("-")).predict(model, data("in.txt", TEXT), return_predictions=False)
        monkeypatch.undo()
    assert exit_info.value.code == 141
    assert "BrokenPipe" not in capsys.readouterr().err


# nothing half written


class Stop(Callback):
    """Do something in the midst of it."""

    def __init__(self, act):
        self.act = act

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 1:
            self.act()


def interrupt():
    raise KeyboardInterrupt


def fail():
    raise RuntimeError("in the midst of it")


@pytest.mark.parametrize(
    ("act", "error"),
    [(fail, RuntimeError), (interrupt, SystemExit), (lambda: os.kill(os.getpid(), signal.SIGTERM), SystemExit)],
)
def test_what_ends_in_the_midst_leaves_nothing(model, data, tmp_path, monkeypatch, act, error):
    monkeypatch.setattr(predict_file, "_ROWS", 1)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(error):
        trainer(tmp_path, PredictionWriter(), Interruption(), Stop(act)).predict(
            model, data("in.txt", "Mira\nleft\nToll\n")
        )
    signal.signal(signal.SIGINT, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


@pytest.mark.parametrize("limit", [{"limit_predict_batches": 1}, {"limit_predict_batches": 0}, {"fast_dev_run": True}])
def test_a_part_of_the_words_is_not_written(model, data, tmp_path, limit):
    message = r"only a part of the words .* leave out --trainer.limit_predict_batches and --trainer.fast_dev_run"
    with pytest.raises(InputError, match=message):
        trainer(tmp_path, PredictionWriter(), **limit).predict(model, data("in.conll", CONLL))
    assert [path.name for path in tmp_path.iterdir()] == ["in.conll"]


@pytest.mark.parametrize(
    ("output", "message"),
    [("no/where.jsonl", r"no/where.jsonl: cannot be written"), (".", r"expected a file to write, found a directory")],
)
def test_an_output_that_cannot_be_written_is_said_before_anything_is_done(predict, tmp_path, output, message):
    with pytest.raises(InputError, match=message):
        predict("in.txt", TEXT, output=tmp_path / output)


def test_a_link_stays_a_link(predict, tmp_path):
    (tmp_path / "link").symlink_to("real.jsonl")
    predict("in.txt", "Mira\n", output=tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "real.jsonl").read_text())["text"] == "Mira"


def test_a_device_is_not_replaced(predict):
    with pytest.raises(InputError, match=r"/dev/null: expected a file to write, found a device"):
        predict("in.txt", TEXT, output="/dev/null")


@pytest.mark.parametrize(("output", "predict_file"), [("-", "in.txt"), (None, "-"), ("out.jsonl", "-")])
def test_standard_input_and_output_belong_to_one_process(output, predict_file):
    writer = PredictionWriter(output)
    writer.refuse_processes(1, predict_file=predict_file)
    with pytest.raises(InputError, match=r"belong to one process, and there are 2: give --trainer.devices=1, or files"):
        writer.refuse_processes(2, predict_file=predict_file)
    PredictionWriter("out").refuse_processes(2, predict_file="in.txt")


# one sentence


def test_a_sentence_without_words_has_no_labels(model, data):
    encoder = data("in.txt", TEXT).encoder
    assert label_words(model, encoder, []) == []
    assert alone(model, encoder, " ").labels == []


@pytest.mark.parametrize("training", [True, False])
def test_labelling_leaves_the_mode_of_the_model(model, data, training):
    encoder = data("in.txt", TEXT).encoder
    model.train(training)
    first = label_words(model, encoder, ["Mira", "left"])
    assert model.training == training
    assert first == label_words(model.eval(), encoder, ["Mira", "left"])


def test_fit_ends_with_a_sentence(conll_files, tiny_model, tmp_path, capsys):
    data = TokenClassificationDataModule(
        train_file=str(conll_files / "train.conll"),
        validation_file=str(conll_files / "validation.conll"),
        model_name_or_path=str(tiny_model),
    )
    model = TokenClassificationModule(str(tiny_model), labels=LABELS)
    trainer(tmp_path, TagSentence("Mira  visited Arvenholm."), max_epochs=1).fit(model, data)
    labelled = alone(model, data.encoder, "Mira  visited Arvenholm.")
    shown = render(labelled, reader=EntityReader(LABELS), colour=False)
    assert capsys.readouterr().out.splitlines()[-1] == shown
