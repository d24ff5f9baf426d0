"""Files to predict: chunks that together are the file, and what is wrong with it said before any work."""

import gc
import gzip
import io
import json
import os
import pickle
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning import predict_file
from ner_lightning.errors import InputError
from ner_lightning.predict_file import PredictFile
from ner_lightning.readers.columns import read_sentences

quick = settings(deadline=None, max_examples=60)
CONLL = "-DOCSTART- -X-\n\nMira NNP\nleft VBD\n\n \n#1 CD\nthe DT\r\nCup NNP\n\n-DOCSTART- -X-\nTarnby NNP\nfroze VBD"


@pytest.fixture
def read(tmp_path):
    """Write a file and read it."""

    def read(name, content, **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return PredictFile(path, **options)

    return read


@pytest.fixture
def small(monkeypatch):
    """Chunks of two rows, or of 40 bytes."""
    monkeypatch.setattr(predict_file, "_ROWS", 2)
    monkeypatch.setattr(predict_file, "_BYTES", 40)


@pytest.fixture
def typed(monkeypatch):
    """Standard input; a terminal or a pipe."""

    def typed(content, *, terminal=False):
        stream = io.TextIOWrapper(io.BytesIO(content.encode()))
        monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
        monkeypatch.setattr(sys, "stdin", stream)

    return typed


def rows_of(chunks):
    return [row for number in range(len(chunks)) for row in chunks[number].rows]


def jsonl(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


# what is in the chunks


@pytest.mark.usefixtures("small")
def test_the_lines_of_the_chunks_of_columns_are_the_file(read, tmp_path):
    chunks = read("in.conll", CONLL)
    assert len(chunks) == 2
    lines = [line for number in range(2) for line in chunks[number].lines]
    assert "".join(line.text + line.ending for line in lines) == CONLL
    assert [line.number for line in lines] == list(range(1, 14))
    assert [row.words for row in rows_of(chunks)] == [["Mira", "left"], ["#1", "the", "Cup"], ["Tarnby", "froze"]]


LINES = st.sampled_from(["Mira\tNNP", "left VBD", "-DOCSTART- -X-", "", " ", "é NNP"])


@quick
@given(
    lines=st.lists(LINES, max_size=30), rows=st.integers(1, 4), size=st.integers(1, 60), ending=st.sampled_from("\n ")
)
def test_any_chunks_of_columns_hold_the_sentences_of_the_file(tmp_path_factory, lines, rows, size, ending):
    path = tmp_path_factory.mktemp("any") / "in.conll"
    path.write_text("\n".join([*lines, "Toll NNP"]) + ending)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_file, "_ROWS", rows)
        patch.setattr(predict_file, "_BYTES", size)
        chunks = PredictFile(path)
    sentences = [sentence.words for sentence in read_sentences(path, tag_column=None)]
    assert [row.words for row in rows_of(chunks)] == sentences
    assert all(0 < len(chunks[number].rows) <= rows for number in range(len(chunks)))
    written = "".join(line.text + line.ending for number in range(len(chunks)) for line in chunks[number].lines)
    assert written.encode() == path.read_bytes()


@quick
@given(
    lines=st.lists(st.text("aé b\r\x0b\u2028中", max_size=20), min_size=1, max_size=20),
    rows=st.integers(1, 5),
    size=st.integers(1, 60),
    format=st.sampled_from(["text", "jsonl"]),
)
def test_any_chunks_of_lines_hold_the_lines_of_the_file(tmp_path_factory, lines, rows, size, format):
    path = tmp_path_factory.mktemp("any") / "in"
    written = [json.dumps({"text": line}) for line in lines] if format == "jsonl" else lines
    path.write_bytes("".join(f"{line}\n" for line in written).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_file, "_ROWS", rows)
        patch.setattr(predict_file, "_BYTES", size)
        chunks = PredictFile(path, format=format)
    expected = lines if format == "jsonl" else [line.removesuffix("\r") for line in lines]
    assert [row.text for row in rows_of(chunks)] == expected
    assert len(chunks) <= len(lines)


def test_chunks_are_read_in_any_order_and_in_other_processes(read):
    chunks = read("in.txt", "".join(f"line {number}\n" for number in range(1000)))
    assert len(chunks) == 4
    copy = pickle.loads(pickle.dumps(chunks))
    assert [chunk.rows[0].text for chunk in (copy[3], copy[0], copy[2])] == ["line 768", "line 0", "line 512"]


def test_a_line_longer_than_a_chunk_is_one(read):
    chunks = read("in.txt", f"short\n{'long ' * 50_000}\nshort\n")
    assert [len(chunks[number].rows) for number in range(len(chunks))] == [2, 1]


def test_lines_without_text_are_rows(read):
    assert [row.text for row in rows_of(read("in.txt", "\n\nMira\r\n \n"))] == ["", "", "Mira", " "]


def test_a_byte_order_mark_is_no_text(read):
    assert rows_of(read("in.txt", "\ufeffMira\n"))[0].text == "Mira"
    assert rows_of(read("in.jsonl", '\ufeff{"text": "Mira"}\n'))[0].text == "Mira"
    assert rows_of(read("in.conll", "\ufeffMira NNP\n"))[0].words == ["Mira"]


def test_json_keeps_its_fields_and_blank_lines_are_no_rows(read):
    records = [{"id": 1, "tokens": ["Mira"], "text": "x"}, {"id": 2, "tokens": []}]
    rows = rows_of(read("in.jsonl", "\n" + jsonl(*records) + " \n"))
    assert [row.record for row in rows] == records
    assert [(row.text, row.words) for row in rows] == [(None, ["Mira"]), (None, [])]


@pytest.mark.parametrize(("field", "value"), [("text", "Mira left"), ("title", "Mira left"), ("words", ["Mira"])])
def test_the_field_of_the_words_may_have_any_name(read, field, value):
    (row,) = rows_of(read("in.json", jsonl({"x": 1, field: value}), text_column_name=field))
    assert (row.text, row.words) == ((value, []) if isinstance(value, str) else (None, value))


def test_the_column_of_the_words_may_have_any_number(read):
    assert rows_of(read("in.tsv", "1\tMira\n2\tleft\n", text_column_name="1"))[0].words == ["Mira", "left"]
    assert rows_of(read("in.conllu", "1\tMira\tx\n2\tleft\ty\n"))[0].words == ["Mira", "left"]
    assert rows_of(read("in.conllu", "1\tMira\tx\n2\tleft\ty\n", text_column_name=2))[0].words == ["x", "y"]


# which format


@pytest.mark.parametrize(
    ("name", "format"), [("a.jsonl", "jsonl"), ("a.JSON", "jsonl"), ("a.txt", "text"), ("eng.testb", "conll")]
)
def test_the_suffix_says_the_format(read, name, format):
    content = '{"text": "Mira"}\n' if format == "jsonl" else "Mira left\n"
    assert read(name, content).format == format
    assert read(name, "Mira left\n", format="text").format == "text"


COLUMNS = "Mira NNP\nleft VBD\n. .\n\n" * 7


@pytest.mark.parametrize(
    ("content", "like"),
    [
        (COLUMNS, "CoNLL columns: give --data.predict_format=conll"),
        ("-DOCSTART- -X-\n\nMira NNP\n", "CoNLL columns: give --data.predict_format=conll"),
        ('\n{"text": "Mira"}\n', "JSON lines: give --data.predict_format=jsonl"),
    ],
)
def test_text_that_is_none_is_refused_unless_it_is_called_text(read, content, like):
    with pytest.raises(InputError, match=rf"in.txt: expected plain text, found what looks like {like}, or =text"):
        read("in.txt", content)
    assert len(rows_of(read("in.txt", content, format="text"))) == content.count("\n")


@pytest.mark.parametrize(
    "content",
    [
        "Mira left\n" * 40,  # no blank line between
        "\n" + "Mira left\n" * 40 + "\n\n",
        "Mira left\n\nToll stayed\n" * 5,  # few
        "Mira\n\n" * 40,  # one column
        "Mira left\n\nToll stayed at home\n" * 20,
        "{Mira} left\n",
        "\n\n",
    ],
)
def test_text_is_not_taken_for_columns_or_json(read, content):
    assert read("in.txt", content).format == "text"


# standard input


def test_standard_input_is_text_and_its_copy_goes_with_it(typed, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    typed("Mira left\nToll stayed\n")
    chunks = PredictFile("-")
    assert [row.text for row in rows_of(chunks)] == ["Mira left", "Toll stayed"]
    assert len(list(tmp_path.iterdir())) == 1
    pickle.loads(pickle.dumps(chunks))  # what a worker has
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 1
    del chunks
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_who_types_is_told_how_to_end(typed, capsys):
    typed("Mira left\n", terminal=True)
    PredictFile("-")
    assert capsys.readouterr().err == "reading text from standard input, until Ctrl-D\n"


def test_standard_input_of_another_format(typed):
    typed(CONLL)
    assert len(rows_of(PredictFile("-", format="conll"))) == 3


def test_an_error_in_standard_input_names_it(typed):
    typed('{"text": "Mira"}\n3\n')
    with pytest.raises(InputError, match=r"^standard input:2: expected a JSON object, found '3'"):
        PredictFile("-", format="jsonl")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_once(tmp_path):
    from threading import Thread

    path = tmp_path / "pipe.txt"
    os.mkfifo(path)
    writer = Thread(target=path.write_text, args=("Mira left\n",))
    writer.start()
    chunks = PredictFile(path)
    writer.join()
    assert [row.text for row in rows_of(chunks) + rows_of(chunks)] == ["Mira left"] * 2


# what is refused


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.conll", "", r"in.conll: the file is empty; expected lines of columns"),
        ("in.conll", "\n-DOCSTART-\n", r"in.conll: no sentence in this file"),
        ("in.conll", "Mira NNP\nleft\n", r"in.conll:2: expected 2 columns, as on line 1, found 1 column"),
        ("in.conll", b"Mira NNP\nTarnb\xff NNP\n", r"in.conll:2: expected UTF-8, found byte 0xff at position 6"),
        ("in.txt", "", r"in.txt: there is nothing in it; expected one sentence or paragraph a line"),
        ("in.txt", b"Mira\nTarnb\xff\n", r"in.txt:2: expected UTF-8, found byte 0xff at position 6"),
        ("in.parquet", b"PAR1\x15", r"in.parquet: expected text in UTF-8, found a parquet file; .* JSON lines"),
        ("in.txt", "Mira".encode("utf-16"), r"in.txt: expected text in UTF-8, found UTF-16; convert it"),
        ("in.txt", "Mira".encode("utf-16-le"), r"in.txt: .* found a binary file, or UTF-16 without"),
        (
            "in.jsonl.gz",
            gzip.compress(b'{"text": "a"}\n', mtime=0),
            r"in.jsonl.gz: .* found a gzip file; unpack it \(gunzip\)",
        ),
        ("in.json", '\ufeff[\n{"text": "a"}\n]\n', r"in.json: a JSON array; expected one object a line"),
        ("in.json", '{\n"text": "a"\n}\n', r"in.json: a JSON object of several lines; expected one object a line"),
        (
            "in.ann",
            "#1\tAnnotatorNotes T1\tx\n",
            r"in.ann:1: expected columns, .* found an annotation of brat: .*predict, the .txt beside it",
        ),
        ("in.jsonl", "", r"in.jsonl: expected a JSON object on each line, found none"),
        ("in.jsonl", "\n \n", r"in.jsonl: expected a JSON object on each line, found none"),
        ("in.jsonl", '{"text": "a"}\n[1]\n', r"in.jsonl:2: expected a JSON object, found '\[1\]'"),
        ("in.jsonl", '{"text": "a"}\n\n{"text"\n', r"in.jsonl:3: expected a JSON object, found"),
        ("in.jsonl", '{"text": "a"}\n' + "[" * 100_000, r"in.jsonl:2: expected a JSON object, found '\[\[\["),
        ("in.jsonl", '{"a": 1, "b": 2}\n', r"in.jsonl:1: expected a field tokens or text, found a, b \(--data.text_c"),
        ("in.jsonl", "{}\n", r"in.jsonl:1: expected a field tokens or text, found none"),
        ("in.jsonl", '{"text": "a"}\n{"tokens": []}\n', r"in.jsonl:2: expected a field text, found tokens"),
        ("in.jsonl", '{"text": 3}\n', r"in.jsonl:1: expected a list of words or a text in text, found 3"),
        ("in.jsonl", '{"tokens": ["a", 3]}\n', r"in.jsonl:1: expected a list of words or a text in tokens, found"),
        ("in.jsonl", '{"text": "a"}\n{"text": ["a"]}\n', r"in.jsonl:2: expected a text in text, found \['a'\]"),
        ("in.jsonl", '{"tokens": []}\n{"tokens": "a"}\n', r"in.jsonl:2: expected a list of words in tokens, found 'a'"),
        ("in.jsonl", '{"text": "a", "entities": []}\n', r"in.jsonl:1: the row has a field entities, .*; rename it"),
        ("in.jsonl", '{"tokens": [], "tags": []}\n', r"in.jsonl:1: the row has a field tags, .*; rename it"),
        (
            "in.jsonl",
            '{"text": "\\ud83d"}\n',
            r"in.jsonl:1: expected text, found half of a surrogate pair \('\\ud83d'\)",
        ),
    ],
)
def test_what_is_not_well_formed_is_said_with_its_place(read, name, content, message):
    with pytest.raises(InputError, match=message):
        read(name, content)


def test_pairs_of_surrogates_and_fields_that_nothing_replaces_are_taken(read):
    rows = rows_of(read("in.jsonl", '{"text": "\\ud83d\\ude00", "tags": 1}\n'))
    assert rows[0].text == "😀"


def test_a_name_where_a_number_is_needed(read):
    with pytest.raises(InputError, match=r"in.conll: expected the number of a column in text_column_name, found 'x'"):
        read("in.conll", CONLL, text_column_name="x")


def test_a_column_that_is_not_there(read):
    with pytest.raises(InputError, match=r"in.conll: there is no word column \(text_column_name\) 2"):
        read("in.conll", "Mira NNP\n", text_column_name=2)


def test_a_file_that_is_not_there_and_a_folder(tmp_path):
    with pytest.raises(InputError, match=r"in.txt: no such file"):
        PredictFile(tmp_path / "in.txt")
    with pytest.raises(InputError, match=r"expected a file, found a directory"):
        PredictFile(tmp_path)


def test_a_file_that_changes_on_the_way(read):
    chunks = read("in.txt", "Mira left\n")
    with Path(chunks.path).open("a") as file:
        file.write("Toll stayed\n")
    with pytest.raises(InputError, match=r"in.txt: the file was changed while it was read; predict it again"):
        chunks[0]
