import pytest

from ner_lightning.errors import InputError
from ner_lightning.readers import ReadOptions, Row
from ner_lightning.readers.text import words_of
from ner_lightning.words import Span


def test_each_line_is_a_row_blank_ones_too(rows, tmp_path):
    path = tmp_path / "a.txt"
    assert rows("a.txt", "\ufeffAda ran.\r\n\n  x\u2028y") == [
        Row(["Ada", "ran", "."], None, "Ada ran.", [Span(0, 3), Span(4, 7), Span(7, 8)], 0, f"{path}:1", None, {}),
        Row([], None, "", [], 1, f"{path}:2", None, {}),
        Row(["x", "y"], None, "  x\u2028y", [Span(2, 3), Span(4, 5)], 1, f"{path}:3", None, {}),
    ]


def test_words_may_stand_between_spaces_alone():
    options = ReadOptions(split_at="spaces")
    assert words_of(" U.S. \u00a0x\u200b \t\u200b", options) == [Span(1, 5), Span(6, 9), Span(11, 12)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "a.txt: the file is empty; expected one sentence or paragraph a line"),
        (b"Ada ran.\ncaf\xe9\n", "a.txt:2: expected UTF-8, found byte 0xe9"),
    ],
)
def test_what_is_malformed_is_an_error_that_names_the_line(rows, content, expected):
    with pytest.raises(InputError, match=expected):
        rows("a.txt", content)
