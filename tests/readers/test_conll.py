import pytest

from ner_lightning.errors import InputError
from ner_lightning.readers import ReadOptions, Row
from ner_lightning.readers.columns import write_lines
from ner_lightning.readers.conll import read_lines

COMMENTED = "# id 1\tdomain=en\r\nAda _ B-PER\r\nran _ O\r\n\r\n# id 2\r\n# more\r\nOslo _ B-LOC\r\n# end\r\n- _ O\r\n"


def test_a_row_has_words_tags_document_and_lines(rows, tmp_path):
    found = rows("a.conll", "-DOCSTART- O\n\nAda B-PER\nran O\n\n-DOCSTART- O\n\nOslo B-LOC\n")
    path = tmp_path / "a.conll"
    assert found == [
        Row(["Ada", "ran"], ["B-PER", "O"], None, None, 0, f"{path}:3", [3, 4], {}),
        Row(["Oslo"], ["B-LOC"], None, None, 1, f"{path}:8", [8], {}),
    ]


def test_a_file_of_one_column_has_words_without_tags(rows):
    assert [(row.words, row.tags) for row in rows("a.conll", "Ada\nran\n\nOslo\n")] == [
        (["Ada", "ran"], None),
        (["Oslo"], None),
    ]


def test_without_tags_what_is_wrong_with_them_does_not_matter(rows):
    (row,) = rows("a.conll", "Ada\t\nran\tO\n", tags=False)
    assert (row.words, row.tags) == (["Ada", "ran"], None)


def test_columns_are_asked_for_by_number(rows):
    (row,) = rows("a.conll", "1 Ada NN B-PER\n", text_column_name="1", label_column_name=-2)
    assert (row.words, row.tags) == (["Ada"], ["NN"])


def test_conllu_has_its_own_columns_and_comments(rows):
    text = "# newdoc\n1\tAda\tada\tPROPN\n2-3\tdel\t_\t_\n2\tran\trun\tVERB\n"
    (row,) = rows("a.conllu", text)
    assert (row.words, row.tags, row.lines) == (["Ada", "ran"], ["PROPN", "VERB"], [2, 4])


def test_lines_with_the_prefix_are_comments_and_end_no_sentence(rows):
    found = rows("a.conll", COMMENTED, comment_prefix="#")
    assert [(row.words, row.lines) for row in found] == [(["Ada", "ran"], [2, 3]), (["Oslo", "-"], [7, 9])]


def test_a_comment_may_follow_a_byte_order_mark_and_begin_a_document(rows):
    found = rows("a.conll", "\ufeff# newdoc\na O\n\n# newdoc id=2\nb O\n", comment_prefix="# ")
    assert [row.document for row in found] == [0, 1]


def test_lines_with_comments_are_written_back_byte_for_byte(save, tmp_path):
    path = save("a.conll", COMMENTED)
    lines = read_lines(path, name="a", options=ReadOptions(comment_prefix="#"), conllu=False)
    write_lines(tmp_path / "b.conll", lines)
    assert (tmp_path / "b.conll").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (COMMENTED, {}, "a.conll:2: expected 2 columns, as on line 1, found 3 .*if lines .* give comment_prefix=#"),
        ("# x\na O\nb\n", {"comment_prefix": "#"}, "a.conll:3: expected 2 columns, as on line 2, found 1 column"),
        (b"# x\na O\n# \xff\n", {"comment_prefix": "#"}, "a.conll:3: expected UTF-8, found byte 0xff at position 3"),
        ("# x\n", {"comment_prefix": "#"}, "a.conll: no sentence in this file"),
        ("a O\n", {"text_column_name": "tokens"}, "expected the number of a column in text_column_name, .*'tokens'"),
        ("a\nb\n", {"label_column_name": -1}, "the words and the tags .* would both be column 0"),
        ("a O\nb B-X\n\nc\n", {}, "a.conll:4: expected 2 columns"),
    ],
)
def test_what_is_malformed_is_an_error_that_names_the_line(rows, text, options, expected):
    with pytest.raises(InputError, match=expected):
        rows("a.conll", text, **options)
