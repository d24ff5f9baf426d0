"""What comes out is what went in and the predictions, and is read again to the same entities."""

import csv
import io
import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ner_lightning.errors import InputError
from ner_lightning.predict.forms import check_form, form_of, write
from ner_lightning.readers import ReadOptions, read
from ner_lightning.tags import entities as entities_of

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
quick = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def predict(tagger, tmp_path):
    """Label a file; gives what is written."""

    def predict(name, content, *, form=None, max_seq_length=64, **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        source = read(path, options=ReadOptions(tags=False, **options))
        form, tag, file = form or form_of(source), tagger(max_seq_length=max_seq_length), io.BytesIO()
        check_form(form, source)
        write(tag.label(source), file, form=form, source=source, entities=tag.entities)
        return file.getvalue() if form == "parquet" else file.getvalue().decode()

    return predict


@pytest.fixture
def again(tmp_path):
    """Read what was written."""

    def again(name, content, **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read(path, options=ReadOptions(**options)))

    return again


def in_text(row):
    """The entities of a row that was read, by characters."""
    return [(type_, row.spans[first].start, row.spans[last - 1].end) for type_, first, last in entities_of(row.tags)]


def rows_of(written):
    return [json.loads(line) for line in written.split("\n")[:-1]]


# columns


def without_labels(lines, words):
    """Lines without the label behind the words, which is taken off with the separator of the line."""
    for line, word in zip(lines, words, strict=True):
        text = line.rstrip("\r\n")
        label = text.rpartition("\t" if "\t" in text else " ")[2]
        assert not word or label in LABELS
        yield text[: -len(label) - 1] + line[len(text) :] if word else line


def test_a_conll_file_gets_one_more_column(predict):
    after = predict("in.conll", CONLL).splitlines(keepends=True)
    words = [bool(line.strip()) and not line.startswith("-DOCSTART-") for line in after]
    assert sum(words) == 16
    assert "".join(without_labels(after, words)) == CONLL


@quick
@given(
    st.lists(st.sampled_from(["Mira\tNNP", "é  VBD ", "-DOCSTART- X", "", " \t", "中 X\t", "# X"]), max_size=20),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_conll_file_comes_back_byte_for_byte(predict, lines, ending):
    text = ending.join([*lines, "Toll NNP"])
    after = predict("in.conll", text).split(ending)
    words = [bool(line.strip()) and not line.startswith("-DOCSTART-") for line in text.split(ending)]
    assert ending.join(without_labels(after, words)) == text


def test_comments_stay(predict):
    text = "# a comment of many words\nMira NNP\nleft VBD\n\n# another\nToll NNP\n"
    after = predict("in.conll", text, comment_prefix="#").split("\n")
    words = [bool(line) and line[0] != "#" for line in text.split("\n")]
    assert "\n".join(without_labels(after, words)) == text


def test_a_conllu_file_keeps_comments_and_ranges(predict):
    written = predict("in.conllu", CONLLU)
    for old, new in zip(CONLLU.splitlines(), written.splitlines(), strict=True):
        if old and old.split("\t")[0].isdigit():
            assert new.rpartition("\t")[0] == old
            assert new.rpartition("\t")[2] in LABELS
        else:
            assert new == old


@pytest.mark.parametrize("max_seq_length", [8, 16, 64])
def test_the_labels_in_the_file_are_those_of_each_sentence(predict, tagger, tmp_path, max_seq_length):
    written = predict("in.conll", CONLL, max_seq_length=max_seq_length)
    (tmp_path / "out.conll").write_text(written)
    labels = [tag for row in read(tmp_path / "out.conll") for tag in row.tags]
    sentences = [s.words for s in read(tmp_path / "in.conll")]
    tagged = tagger(max_seq_length=max_seq_length).tags(sentences)
    assert labels == [word.label for each in tagged for word in each]
    assert len(set(labels)) > 1  # the model says something


def test_columns_of_a_text_are_its_words(predict, again):
    written = predict("in.txt", 'Mira left "Tarnby".\n\nToll\n', form="conll")
    assert [line.split("\t")[0] for line in written.split("\n")] == [
        *'Mira left " Tarnby " .'.split(),
        *["", "", "Toll", "", ""],
    ]
    assert [len(row.words) for row in again("out.conll", written)] == [6, 1]


@quick
@given(st.lists(st.text("ab \t\n\r\u2028", min_size=1, max_size=4), min_size=1, max_size=6))
def test_columns_are_read_back_whatever_is_in_a_word(predict, again, words):
    written = predict("in.jsonl", json.dumps({"tokens": words}) + '\n{"tokens": ["x"]}\n', form="conll")
    first, second = again("out.conll", written)
    assert first.words == [" ".join(word.split()) or "_" for word in words]
    assert second.words == ["x"]


def test_json_of_columns_has_their_sentences(predict, again):
    rows = rows_of(predict("in.conll", CONLL, form="jsonl"))
    sentences = again("out.conll", predict("in.conll", CONLL))
    assert [(row["tokens"], row["tags"]) for row in rows] == [(s.words, s.tags) for s in sentences]


# text and JSON


def test_each_line_of_a_text_gives_a_line_with_its_entities(predict, tagger):
    rows = rows_of(predict("in.txt", TEXT))
    lines = TEXT.replace("\r", "").split("\n")
    assert [row["text"] for row in rows] == lines
    for row, expected in zip(rows, tagger()(lines), strict=True):
        assert row["entities"] == expected
    assert sum(len(row["entities"]) for row in rows) > 5


def test_json_keeps_the_other_fields_and_entities_give_way(predict):
    record = {"id": 7, "text": "Mira left", "spans": [[0, 4, "X"]], "entities": [], "label": "sports"}
    (row,) = rows_of(predict("in.jsonl", json.dumps(record) + "\n"))
    assert list(row) == ["id", "text", "entities", "label"]
    assert row["label"] == "sports"


def test_rows_of_tokens_get_tags_and_entities(predict, tagger):
    rows, before = rows_of(predict("in.jsonl", TOKENS)), rows_of(TOKENS)
    assert [{name: row[name] for name in old} for row, old in zip(rows, before, strict=True)] == before
    tagged = tagger().tags([row["tokens"] for row in rows])
    assert [row["tags"] for row in rows] == [[word.label for word in each] for each in tagged]


@quick
@given(
    texts=st.lists(st.text("aMTé.,中😀 \t", max_size=20), min_size=1, max_size=6),
    field=st.sampled_from(["text", "source_text"]),
    gold=st.sampled_from(["entities", "spans", "label", "labels", "privacy_mask"]),
    array=st.booleans(),
)
def test_entities_are_read_again_as_they_were_written(predict, again, texts, field, gold, array):
    records = [{field: text, gold: [[0, 1, "X"]] if text.strip() else [], "id": 3} for text in texts]
    content = json.dumps(records) if array else "".join(json.dumps(record) + "\n" for record in records)
    written = predict("in.json", content)
    for row, record in zip(again("out.jsonl", written), rows_of(written), strict=True):
        assert row.tags is not None
        assert in_text(row) == [(entity["type"], entity["start"], entity["end"]) for entity in record["entities"]]


def test_rows_of_brat_name_their_file(predict, again, tmp_path, tagger):
    (tmp_path / "a.txt").write_text("Mira left.\nToll stayed.\n")
    (tmp_path / "a.ann").write_text("T1\tPER 0 4\tMira\n")
    rows = rows_of(predict("a.txt", "Mira left.\nToll stayed.\n"))
    assert [(row["text"], row["document_id"]) for row in rows] == [("Mira left.", "a"), ("Toll stayed.", "a")]


def test_colours_are_written_where_they_are_asked_for(predict):
    assert "\033[" in predict("in.txt", TEXT, form="colour")


# tables


CSV = (
    '\ufeffid;text\r\n1;"Mira ""the"" Toll\nleft\n\nTarnby"\r\n\r\n2;  Ostric Cup  \r\n"3";x\n'.encode(),
    b'sentence,word,tag\n\n1,Mira,B-PER\n1,left,O\n\n2,"Tar, nby",O\n,"a\nb",O'.replace(b'"a\nb"', b'"""ab"""'),
    b"tokens,ner_tags\n\"['Mira', 'left']\",\"['O', 'O']\"\n\"[]\",[]\n",
)
TSV = ("id\ttext\n1\tMira \"left\"\n2\t\n", "word\tsentence_id\n\"\t1\nMira\t1\r\n\nToll\t2")  # fmt: skip


@pytest.mark.parametrize(("name", "content"), [*(("in.csv", c) for c in CSV), *(("in.tsv", c.encode()) for c in TSV)])
def test_a_table_is_the_same_with_a_column_more(predict, name, content):
    written = predict(name, content).encode()
    delimiter = "\t" if name == "in.tsv" else ";" if b";" in content else ","
    quoting = {"quoting": csv.QUOTE_NONE} if name == "in.tsv" else {}
    rows = [
        list(csv.reader(io.StringIO(one.decode("utf-8-sig"), newline=""), delimiter=delimiter, **quoting))
        for one in (content, written)
    ]
    assert [row[:-1] for row in rows[1] if row] == [row for row in rows[0] if row]
    assert rows[1][0][-1] == "prediction"
    rest = written
    for row in rows[1]:
        if row:
            cell = row[-1] if name == "in.tsv" else as_cell(row[-1], delimiter)
            assert (delimiter + cell).encode() in rest
            rest = rest.replace((delimiter + cell).encode(), b"", 1)
    assert rest == content


def as_cell(text, delimiter):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="").writerow([text])
    return file.getvalue()


def test_predictions_of_a_table_are_labels_of_words_lists_of_labels_or_entities(predict, tagger, again):
    tag = tagger()
    labels = [word.label for word in tag.tags([["Mira", "left"]])[0]]
    of_words = again("out.csv", predict("in.csv", "sentence,word\n1,Mira\n1,left\n"), label_column_name="prediction")
    assert of_words[0].tags == labels
    of_lists = predict("in.csv", "tokens\n\"['Mira', 'left']\"\n")
    assert again("out.csv", of_lists, label_column_name="prediction")[0].tags == labels
    of_text = again("out.csv", predict("in.csv", "text\nMira left\n"), label_column_name="prediction")
    assert entities_of(of_text[0].tags) == entities_of(labels)
    assert entities_of(labels)


@pytest.mark.parametrize(
    "columns",
    [
        {"id": pa.array([1, 2], pa.int8()), "tokens": [["Mira", "left"], []], "when": [None, b"x"]},
        {"sentence_id": [1, 1, 2], "word": pa.array(["Mira", "left", "Toll"]).dictionary_encode()},
        {"text": pa.array(["", "Mira left Tarnby"], pa.large_string()), "x": [1.5, None]},
    ],
)
def test_parquet_keeps_its_types_and_gets_a_column(predict, tagger, tmp_path, columns, monkeypatch):
    monkeypatch.setattr("ner_lightning.predict.forms._BATCH", 1)
    before = pa.table(columns)
    parquet.write_table(before, tmp_path / "in.parquet")
    written = predict("in.parquet", (tmp_path / "in.parquet").read_bytes())
    after = parquet.read_table(io.BytesIO(written))
    assert after.drop_columns("prediction").schema.equals(before.schema)
    assert after.drop_columns("prediction").to_pylist() == before.to_pylist()
    words = columns.get("tokens") or columns.get("text", pa.array([])).to_pylist() or [["Mira", "left"], ["Toll"]]
    tag = tagger()
    expected = tag(words) if "text" in columns else [[word.label for word in each] for each in tag.tags(words)]
    if "word" in columns:
        expected = [label for each in expected for label in each]
    assert after["prediction"].to_pylist() == expected


def test_a_table_can_be_json_or_columns_too(predict):
    table = "sentence,word,tag\n1,Mira,O\n1,left,O\n2,Toll,O\n"
    assert [row["tokens"] for row in rows_of(predict("in.csv", table, form="jsonl"))] == [["Mira", "left"], ["Toll"]]
    assert [line.split("\t")[0] for line in predict("in.csv", table, form="conll").split("\n")] == [
        *["Mira", "left", ""],
        *["Toll", "", ""],
    ]
    (row,) = rows_of(predict("in.csv", "id,tokens\n7,\"['Mira']\"\n", form="jsonl"))
    assert (row["id"], row["tokens"]) == ("7", ["Mira"])


@pytest.mark.parametrize(
    ("name", "content", "form", "message"),
    [
        (
            "in.jsonl",
            '{"text": "x"}\n',
            "csv",
            r"in.jsonl is no csv file, so there is no column to add: give --format=",
        ),
        ("in.csv", "text\nx\n", "parquet", r"in.csv is no parquet file, so there is no column to add"),
        ("in.csv", "text,prediction\nx,y\n", None, r"in.csv: there is a column prediction, where .*; rename it"),
    ],
)
def test_a_form_that_a_source_cannot_have_is_refused(predict, name, content, form, message):
    with pytest.raises(InputError, match=message):
        predict(name, content, form=form)


def test_a_column_of_that_name_in_parquet_is_refused(predict, tmp_path):
    parquet.write_table(pa.table({"text": ["x"], "prediction": ["y"]}), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=r"in.parquet: there is a column prediction"):
        predict("in.parquet", (tmp_path / "in.parquet").read_bytes())


# Label Studio


def task(**fields):
    return {"id": 5, "data": {"text": "Mira left 😀 Tarnby"}, "annotations": [], **fields}


def test_a_task_keeps_what_it_has_and_gets_predictions(predict, tagger):
    region = {"from_name": "ner", "to_name": "t", "value": {"start": 0, "end": 4, "labels": ["PER"]}}
    before = task(annotations=[{"result": [region]}], predictions=[{"result": []}], meta={"x": 1})
    (after,) = json.loads(predict("in.json", json.dumps([before])))
    (prediction,) = after.pop("predictions")
    assert after == {name: value for name, value in before.items() if name != "predictions"}
    found = tagger()(before["data"]["text"])
    assert found
    assert prediction["score"] == min(word.score for word in tagger().tags(before["data"]["text"]))
    for region, entity in zip(prediction["result"], found, strict=True):
        assert (region["from_name"], region["to_name"], region["type"]) == ("ner", "t", "labels")
        assert region["value"] == {**{n: entity[n] for n in ("start", "end", "text")}, "labels": [entity["type"]]}
        assert region["score"] == entity["score"]
    assert len({region["id"] for region in prediction["result"]}) == len(found)


@quick
@given(texts=st.lists(st.text("aMTé.,中😀 \t", max_size=20), min_size=1, max_size=5))
def test_predictions_are_read_as_annotations_with_the_same_entities(predict, again, tagger, texts):
    tasks = [task(data={"text": text}) for text in texts]
    written = json.loads(predict("in.json", json.dumps(tasks)))
    accepted = [{**each, "annotations": each["predictions"]} for each in written]
    for row, expected in zip(again("out.json", json.dumps(accepted)), tagger()(texts), strict=True):
        assert in_text(row) == [(entity["type"], entity["start"], entity["end"]) for entity in expected]


@pytest.mark.parametrize(
    ("name", "content", "data"),
    [
        ("in.txt", "Mira left\n", {"text": "Mira left"}),
        ("in.conll", "Mira O\nleft O\n", {"tokens": ["Mira", "left"], "text": "Mira left"}),
        ("in.jsonl", '{"text": "Mira left", "id": 3, "spans": []}\n', {"text": "Mira left", "id": 3}),
    ],
)
def test_all_else_can_become_tasks(predict, name, content, data):
    (row,) = json.loads(predict(name, content, form="label-studio"))
    assert row["data"] == data
    assert {region["from_name"] for region in row["predictions"][0]["result"]} <= {"label"}


def test_a_task_as_json_lines_has_its_text(predict, again):
    written = predict("in.json", json.dumps([task()]), form="jsonl")
    (row,) = rows_of(written)
    assert list(row) == ["text", "entities"]
    assert len(entities_of(again("out.jsonl", written)[0].tags)) == len(row["entities"]) > 0


@pytest.mark.parametrize("form", ["doccano", "prodigy"])
@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("notes.txt", TEXT, {}),
        ("words.conll", CONLL, {"split_at": "spaces"}),
        ("words.jsonl", TOKENS.replace("New Tarnby", "New-Tarnby"), {"split_at": "spaces"}),
        (
            "old.jsonl",
            '{"text": "Mira left.", "spans": [], "entities": [], "answer": "accept", "_task_hash": 7, "meta": null}',
            {},
        ),
    ],
)
def test_what_annotation_tools_import_is_read_to_the_same_entities(predict, again, name, content, options, form):
    labelled = [json.loads(line) for line in predict(name, content, form=form).splitlines()]
    plain = json.loads(predict(name, content, form="label-studio"))
    rows = again("back.jsonl", "\n".join(json.dumps(one) for one in labelled), **options)
    assert any(tag != "O" for row in rows for tag in row.tags)
    for row, one, task in zip(rows, labelled, plain, strict=True):
        expected = [
            (r["value"]["start"], r["value"]["end"], r["value"]["labels"][0]) for r in task["predictions"][0]["result"]
        ]
        spans = [
            (row.spans[first].start, row.spans[last - 1].end, type_) for type_, first, last in entities_of(row.tags)
        ]
        assert spans == expected
        assert row.text == one["text"] == task["data"]["text"]
        if form == "prodigy":
            assert "answer" not in one
            assert [row.text[t["start"] : t["end"]] for t in one["tokens"]] == row.words
            for span in one["spans"]:
                assert one["tokens"][span["token_start"]]["start"] == span["start"]
                assert one["tokens"][span["token_end"]]["end"] == span["end"]
            assert one["meta"]["score"] == pytest.approx(task["predictions"][0]["score"], abs=1e-6)
