import gzip
import itertools
import zlib

import pytest

from ner_lightning.errors import InputError
from ner_lightning.readers import ReadOptions, read

COLUMNS = "Ada B-PER\nran O\n"
JSON = '{"tokens": ["Ada"], "tags": ["O"]}\n'


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.conll", COLUMNS, "conll"),
        ("a.testb", COLUMNS, "conll"),
        ("a.conllu", "1\tAda\tada\tPROPN\n", "conllu"),
        ("a.jsonl", JSON, "json"),
        ("a.JSON", JSON, "json"),
        ("a", JSON, "json"),
        ("a.data", "[\n" + JSON + "]", "json"),
        ("a.csv", "word,tag,sentence\nAda,O,1\n", "csv"),
        ("a.tsv", "Word\tTag\tSentence\nAda\tO\t1\n", "tsv"),
        ("a.tsv", "text\tO\nAda\tO\n", "conll"),  # the words of a sentence
        ("a.tsv", "Ada\tB-PER\n", "conll"),
        ("a.txt", "Ada ran.\n", "text"),
        ("a", "Ada ran.\n", "text"),
        ("a.txt", COLUMNS, "conll"),
        ("a.txt", "-DOCSTART- -X-\n\nAda X\n", "conll"),
        ("a.txt", "Ada NN X\nran VB Y\n\n" * 10, "conll"),
        ("a.txt", "Ada ran on\nand on and\n", "text"),
        ("a.txt", "[Ada] ran.\n", "text"),
        ("a.txt", "Ada\nOslo\n", "text"),
    ],
)
def test_the_suffix_or_the_content_tells_the_format(save, name, content, format):
    source = read(save(name, content))
    assert source.format == format
    assert list(source)


def test_a_format_that_is_given_is_taken(save):
    path = save("a.txt", COLUMNS)
    assert [row.text for row in read(path, options=ReadOptions(format="text"))] == ["Ada B-PER", "ran O"]
    assert read(save("b.conll", JSON), options=ReadOptions(format="json")).format == "json"


def test_another_name_has_the_suffix_and_is_in_the_errors(save):
    path = save("spooled", "Ada\n")
    assert read(path, name="a.conll").format == "conll"
    with pytest.raises(InputError, match=r"^standard input:1: expected a whole JSON object"):
        list(read(path, name="standard input", options=ReadOptions(format="json")))


def test_a_source_is_read_again_and_again_and_never_ahead(save):
    source = read(save("a.jsonl", JSON * 3 + "x\n"))
    assert [row.words for row in itertools.islice(source, 3)] == [["Ada"]] * 3
    first, second = iter(source), iter(source)
    assert next(first) == next(second)
    with pytest.raises(InputError, match=":4:"):
        list(first)


def test_the_key_stands_for_content_and_options(save):
    one = read(save("a.conll", COLUMNS))
    assert one.key == read(save("b.conll", COLUMNS)).key
    others = [
        read(save("c.conll", COLUMNS + "x O\n")),
        read(save("a.txt", COLUMNS), options=ReadOptions(format="text")),
        read(save("a.conll", COLUMNS), options=ReadOptions(label_column_name=0)),
    ]
    assert len({source.key for source in [one, *others]}) == 4


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl.gz", gzip.compress(JSON.encode(), mtime=0), r"a\.jsonl\.gz: .* a gzip file; unpack it \(gunzip\)"),
        ("a.conll", COLUMNS.encode("utf-16"), r"found UTF-16; convert it \(iconv -f UTF-16 -t UTF-8\)"),
        ("a.csv", COLUMNS.encode("utf-32"), "found UTF-32; convert"),
        ("a.txt", COLUMNS.encode("utf-16-le"), "found a binary file, or UTF-16 without a byte order mark"),
        ("a.spacy", zlib.compress(b"docs"), "a .spacy file is; export it as JSON lines"),
        ("a.docx", b"PK\x03\x04..", "found a zip archive, as .zip, .xlsx, .docx"),
        ("a.pdf", b"%PDF-1.7", "found a PDF; give the text that is in it"),
        ("a.txt", b"PAR1....", "found a parquet file; give it the suffix .parquet or format=parquet"),
        ("a.arrow", b"ARROW1\0\0", "found an Arrow file; export it as parquet"),
        ("a.ann", "T1\tPER 0 3\tAda\n", "the annotations of brat alone; give the .txt beside it"),
    ],
)
def test_what_is_no_text_is_refused_by_name(save, name, content, expected):
    with pytest.raises(InputError, match=expected):
        read(save(name, content))


def test_a_file_that_is_not_there_or_a_format_that_is_not_known_is_refused(save, tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="format xml: expected one of conll, conllu, json"):
        read(save("a.xml", COLUMNS), options=ReadOptions(format="xml"))
    with pytest.raises(InputError, match="expected a file, found a directory"):
        read(tmp_path, options=ReadOptions(format="csv"))
