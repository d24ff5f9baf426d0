import csv
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning.errors import InputError
from ner_lightning.readers import ReadOptions, Row, read
from ner_lightning.readers.tables import dataset_source

quick = settings(deadline=None, max_examples=100)
GMB = 'Sentence #,Word,POS,Tag\nSentence: 1,Ada,NN,B-PER\n,"""",X,O\n\n,NA,X,O\nSentence: 2,1.0,X,O\n'


def columns(table, path):
    """Write a table of words as parquet."""
    from datasets import Dataset

    Dataset.from_dict(table).to_parquet(str(path))
    return path


def pairs(rows):
    return [(row.words, row.tags) for row in rows]


# one word a row


def test_words_are_put_together_by_the_sentence_above(rows, tmp_path):
    path = tmp_path / "a.csv"
    assert rows("a.csv", GMB) == [
        Row(
            ["Ada", '"', "NA"],
            ["B-PER", "O", "O"],
            None,
            None,
            None,
            f"{path}:2",
            [2, 3, 5],
            {
                "Sentence #": ["Sentence: 1", "", ""],
                "Word": ["Ada", '"', "NA"],
                "POS": ["NN", "X", "X"],
                "Tag": ["B-PER", "O", "O"],
            },
        ),
        Row(
            ["1.0"],
            ["O"],
            None,
            None,
            None,
            f"{path}:6",
            [6],
            {"Sentence #": ["Sentence: 2"], "Word": ["1.0"], "POS": ["X"], "Tag": ["O"]},
        ),
    ]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("sentence_id,token,ner_tag\n1,Ada,B-PER\n1,ran,O\n2,Oslo,B-LOC\n", {}),
        ("sentence_id;token;ner_tag\r\n1;Ada;B-PER\r\n1;ran;O\r\n2;Oslo;B-LOC\r\n", {}),
        ("\ufeffSENT_ID,Words,Label\n0,Ada,B-PER\n0,ran,O\n1,Oslo,B-LOC", {}),
        (
            "nr,form,pos,iob\n1,Ada,N,B-PER\n1,ran,V,O\n2,Oslo,N,B-LOC\n",
            {"text_column_name": "form", "label_column_name": "iob", "sentence_column_name": "nr"},
        ),
        ("sentence,word,tag\n1,Ada,1\n1,ran,0\n2,Oslo,2\n", {"labels": ("O", "B-PER", "B-LOC")}),
    ],
)
def test_columns_are_found_by_their_names_or_asked_for(rows, content, options):
    expected = [(["Ada", "ran"], ["B-PER", "O"]), (["Oslo"], ["B-LOC"])]
    assert pairs(rows("a.csv", content, **options)) == expected
    if ";" not in content:
        assert pairs(rows("a.tsv", content.replace(",", "\t"), format="tsv", **options)) == expected


def test_a_quotation_mark_alone_is_a_word_between_tabs(rows):
    (row,) = rows("a.tsv", 'sentence\tword\ttag\n1\t"\tO\n1\t""""\tO\n1\t"a b"\tO\n1\t"\tO\n')
    assert row.words == ['"', '"', "a b", '"']


def test_words_without_tags_are_read(rows):
    assert pairs(rows("a.csv", "sentence,word\n1,Ada\n2,ran\n")) == [(["Ada"], None), (["ran"], None)]
    assert pairs(rows("a.csv", "sentence,word,tag\n1,Ada,\n", tags=False)) == [(["Ada"], None)]


def test_documents_are_known_by_their_column(rows):
    found = rows("a.csv", "document_id,sentence,word\nx,1,Ada\n,2,ran\ny,3,on\n")
    assert [row.document for row in found] == ["x", "x", "y"]


cell = st.text("a\"',;[ \té中\u2028{", min_size=1, max_size=4)


@quick
@given(
    sentences=st.lists(st.lists(st.tuples(cell, st.sampled_from(["O", "B-a b"])), min_size=1), min_size=1, max_size=3)
)
def test_words_that_are_written_are_those_that_are_read(tmp_path_factory, sentences):
    path = tmp_path_factory.getbasetemp() / "words.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "word", "tag"])
        writer.writerows([n, word, tag] for n, one in enumerate(sentences) for word, tag in one)
    expected = [([word for word, _ in one], [tag for _, tag in one]) for one in sentences]
    assert pairs(read(path)) == expected


# one sentence a row


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        ('["Ada", "it\'s"]', '["B-PER", "O"]'),
        ("['Ada', \"it's\"]", "['B-PER', 'O']"),
        ('["Ada","it\'s"]', "[1, 0]"),
    ],
)
def test_lists_in_cells_are_those_of_json_or_python(rows, tmp_path, words, tags):
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "tokens", "ner_tags"], ["7", words, tags]])
    (row,) = rows("a.csv", (tmp_path / "x.csv").read_bytes(), labels=("O", "B-PER"))
    assert (row.words, row.tags) == (["Ada", "it's"], ["B-PER", "O"])
    assert row.place == f"{tmp_path}/a.csv:2"
    assert row.record == {"id": "7", "tokens": row.words, "ner_tags": [1, 0] if "1" in tags else row.tags}


def test_a_text_with_its_entities_is_a_row(rows):
    (row,) = rows("a.csv", 'text,label\n"[Ada],\nran","[[1, 4, ""PER""]]"\n')
    assert (row.text, row.words, row.tags) == (
        "[Ada],\nran",
        ["[", "Ada", "]", ",", "ran"],
        ["O", "B-PER", "O", "O", "O"],
    )
    (row,) = rows("a.csv", "id,text\n1,Ada ran\n")
    assert (row.words, row.tags) == (["Ada", "ran"], None)


# parquet and datasets


def test_parquet_has_lists_names_of_numbers_and_entities(tmp_path):
    from datasets import ClassLabel, Dataset, Features, List, Value

    path = tmp_path / "a.parquet"
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["O", "B-PER", "I-PER"]))})
    table = Dataset.from_dict({"tokens": [["Ada"], ["ran", "x"]], "ner_tags": [[1], [0, 0]]}, features=features)
    table.to_parquet(str(path))
    source = read(path)
    assert (source.format, source.declared) == ("parquet", ["O", "B-PER", "I-PER"])
    assert pairs(source) == pairs(source) == [(["Ada"], ["B-PER"]), (["ran", "x"], ["O", "O"])]
    assert [row.place for row in source] == [f"{path}, row 0", f"{path}, row 1"]
    memory = dataset_source(table, name="here", options=ReadOptions())
    assert (pairs(memory), memory.declared) == (pairs(source), source.declared)
    assert [row.place for row in memory] == ["here, row 0", "here, row 1"]

    path = columns(
        {"source_text": ["Ada ran"], "privacy_mask": [[{"value": "Ada", "start": 0, "end": 3, "label": "X"}]]}, path
    )
    assert pairs(read(path)) == [(["Ada", "ran"], ["B-X", "O"])]
    path = columns({"sentence_id": [1, 1, 2], "word": ["Ada", "ran", "on"], "tag": ["B-X", "O", "O"]}, path)
    assert [(row.words, row.tags, row.lines) for row in read(path)] == [
        (["Ada", "ran"], ["B-X", "O"], [0, 1]),
        (["on"], ["O"], [2]),
    ]
    path = columns({"sentence_id": [1, 2], "tokens": [["Ada"], ["on"]], "tags": [["O"], ["O"]]}, path)
    assert pairs(read(path)) == [(["Ada"], ["O"]), (["on"], ["O"])]


def test_parquet_of_words_declares_the_names_of_its_tags(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value

    path = tmp_path / "a.parquet"
    features = Features({"sentence": Value("int64"), "word": Value("string"), "tag": ClassLabel(names=["O", "B-X"])})
    Dataset.from_dict({"sentence": [1], "word": ["Ada"], "tag": [1]}, features=features).to_parquet(str(path))
    assert (read(path).declared, pairs(read(path))) == (["O", "B-X"], [(["Ada"], ["B-X"])])


# streams


def test_a_table_is_a_stream(save):
    found = iter(read(save("a.csv", GMB + "bad\n")))
    assert next(found).words == ["Ada", '"', "NA"]
    with pytest.raises(InputError, match=":7:"):
        next(found)


def test_parquet_is_read_by_row_groups(tmp_path):
    from pyarrow import parquet, table

    path = tmp_path / "a.parquet"
    parquet.write_table(table({"text": [f"Ada {n}" for n in range(4_000)]}), path, row_group_size=1_000)
    second = parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[second : second + 100] = b"\xff" * 100
    path.write_bytes(content)
    found = iter(read(path))
    assert [next(found).words[1] for _ in range(1_000)] == [str(n) for n in range(1_000)]
    with pytest.raises(InputError, match="expected a parquet file"):
        next(found)


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_memory_does_not_grow_with_the_file(save, name, separator):
    lines = "".join(f"{number}{separator}{'Ada ran on ' * 20}\n" for number in range(3_000))
    path = save(name, f"id{separator}text\n{lines}")
    source = read(path)
    tracemalloc.start()
    assert sum(len(row.words) for row in source) == 180_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2


# bad input


@pytest.mark.parametrize(
    ("name", "content", "options", "expected"),
    [
        ("a.csv", "", {}, "a.csv: the file is empty; expected a header with the names of columns"),
        ("a.csv", "\n\n", {}, "a.csv: the file is empty; expected a header"),
        ("a.csv", "text\n", {}, "a.csv: expected rows, found none"),
        ("a.csv", "sentence,word\n", {}, "a.csv: expected rows, found none"),
        ("a.csv", "text,x,text\n", {}, "a.csv:1: expected a header that names each column once, found text twice"),
        ("a.csv", "id,text\n1,a\n\n2,a,b\n", {}, r"a.csv:4: expected 2 cells as in the header, found 3: \['2', 'a'"),
        ("a.tsv", "id\ttext\n1\n", {}, "a.tsv:2: expected 2 cells as in the header, found 1"),
        ("a.csv", 'id,text\n1,a\n2,"b\nc\n', {}, r"a.csv:3: the cells cannot be read \(unexpected end of data\)"),
        ("a.csv", 'id,text\n1,"a"b\n', {}, r"a.csv:2: the cells cannot be read .*and the mark twice"),
        ("a.csv", b"id,text\n1,caf\xe9\n", {}, "a.csv:2: expected UTF-8, found byte 0xe9"),
        ("a.csv", "id,x\n1,a\n", {}, "a.csv: expected a column tokens, text or word .text_column_name., found id, x"),
        (
            "a.csv",
            "word,tag\na,O\n",
            {},
            "a.csv: expected a column that tells the sentences of word apart .sentence_column_name., found word, tag",
        ),
        (
            "a.csv",
            "word,tag\na,O\n",
            {"text_column_name": "Word"},
            "expected a column Word .text_column_name., found",
        ),
        (
            "a.csv",
            "word,tag\na,O\n",
            {"sentence_column_name": "nr"},
            "expected a column nr .sentence_column_name., found word, tag",
        ),
        (
            "a.csv",
            "sentence,word,tag\n1,a,O\n",
            {"label_column_name": "ner"},
            "expected a field ner .label_column",
        ),
        ("a.csv", "sentence,word,tag,label\n1,a,O,O\n", {}, "a.csv: both tag and label could be the tags"),
        ("a.csv", "sentence,word,tag\n1,a,O\n1,,O\n", {}, "a.csv:3: expected a word in word, found ''"),
        ("a.csv", "sentence,word,tag\n1,a,O\n1,b,\n", {}, "a.csv:3: expected a tag in tag, found nothing"),
        ("a.csv", "sentence,word,tag\n1,a,7\n", {"labels": ("O", "X")}, "a.csv:2: expected a tag from 0 to 1 in tag"),
        (
            "a.csv",
            'sentence,word,tag\n1,",O\n1,b,O\n1,",O\n',
            {},
            r"a.csv:2: expected a word in word, found ',O\\n1,b,O\\n1,'; a quotation mark alone is written as four",
        ),
        (
            "a.csv",
            "tokens,tags\n\"['a' 'b']\",\"['O' 'O']\"\n",
            {},
            "a.csv:2: expected a list in tokens as JSON or Python writes it, .*by .tolist()",
        ),
        ("a.csv", "tokens,tags\na b,O O\n", {}, "a.csv:2: expected a list of words in tokens, found 'a b'"),
        ("a.csv", 'tokens,tags\n"[""a""]","[""O"",""O""]"\n', {}, "a.csv:2: expected a list of 1 tags in tags"),
        ("a.csv", 'text,spans\nMira,"[[0, 3, ""X""]]"\n', {}, "a.csv:2: entity 1 .* ends inside the word 'Mira'"),
        ("a.parquet", b"PAR1", {}, "a.parquet: expected a parquet file"),
        ("a.parquet", "text\n", {}, "a.parquet: expected a parquet file"),
        ("a.csv", "text\n", {"format": "parquet"}, "a.csv: expected a parquet file"),
    ],
)
def test_what_is_malformed_is_an_error_that_names_the_line(rows, name, content, options, expected):
    with pytest.raises(InputError, match=expected):
        rows(name, content, **options)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            {"tokens": [["a"], ["b"]], "tags": [["O"], ["O", "O"]]},
            "a.parquet, row 1: expected a list of 1 tags",
        ),
        ({"tokens": [["a"]], "tags": [[3]]}, "a.parquet, row 0: the tags in tags are numbers without names"),
        ({"sentence": [1, 1], "word": ["a", None]}, "a.parquet, row 1: expected a word in word, found None"),
        ({"text": ["a"], "spans": [[{"start": 0, "end": 2, "label": "X"}]]}, "row 0: entity 1 .* ends behind the text"),
        ({"tokens": []}, "a.parquet: expected rows, found none"),
    ],
)
def test_what_is_malformed_in_parquet_is_an_error_that_names_the_row(tmp_path, table, expected):
    path = columns(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=expected):
        list(read(path))


def test_a_column_of_parquet_whose_name_is_no_text_is_an_error(tmp_path):
    path = columns({"wordsandmore": ["Mira"], "text": ["Mira"]}, tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes().replace(b"wordsandmore", b"words\x9endmore"))
    with pytest.raises(InputError, match=r"a\.parquet: expected a parquet file"):
        read(path)


def test_a_parquet_file_that_is_cut_is_an_error(tmp_path):
    path = columns({"text": [json.dumps(list(range(1000)))] * 100}, tmp_path / "a.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:-200])
    with pytest.raises(InputError, match=r"a\.parquet: expected a parquet file"):
        read(path)
    path.write_bytes(content[:4] + b"\xff" * 500 + content[504:])
    with pytest.raises(InputError, match=r"a\.parquet: expected a parquet file"):
        list(read(path))
