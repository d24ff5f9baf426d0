import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning.errors import InputError
from ner_lightning.readers import ReadOptions, Row, conll
from ner_lightning.tags import detect_scheme, to_iob2

DATA = Path(__file__).parents[3] / "shared/data"


def save(folder, text, name="a.conll"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read_sentences(path, *, word_column=None, tag_column=-1):
    options = ReadOptions(text_column_name=word_column, label_column_name=tag_column, tags=tag_column is not None)
    return conll.read_rows(path, name=str(path), options=options, conllu=path.suffix == ".conllu")


def read_lines(path):
    return conll.read_lines(path, name=str(path), options=ReadOptions(), conllu=path.suffix == ".conllu")


def write_lines(path, lines):
    path.write_bytes(b"".join((line.text + line.ending).encode() for line in list(lines)))


def words(path, **columns):
    return [sentence.words for sentence in read_sentences(path, **columns)]


# sentences


def test_sentences_know_words_tags_lines_and_document(tmp_path):
    path = save(tmp_path, "-DOCSTART- -X- O\n\nAda NNP B-PER\nran VB O\n\n-DOCSTART- -X- O\nOslo NNP B-LOC\n")
    assert list(read_sentences(path)) == [
        Row(["Ada", "ran"], ["B-PER", "O"], None, None, 0, f"{path}:3", [3, 4], {}),
        Row(["Oslo"], ["B-LOC"], None, None, 1, f"{path}:7", [7], {}),
    ]


def test_columns_are_chosen_by_number_from_either_end(tmp_path):
    path = save(tmp_path, "1 Ada NNP B-PER\n2 ran VB O\n")
    (sentence,) = read_sentences(path, word_column=1, tag_column=-2)
    assert (sentence.words, sentence.tags) == (["Ada", "ran"], ["NNP", "VB"])


def test_without_a_tag_column_there_are_no_tags(tmp_path):
    (sentence,) = read_sentences(save(tmp_path, "Ada\nran\n"), tag_column=None)
    assert (sentence.words, sentence.tags) == (["Ada", "ran"], None)


def test_the_first_docstart_may_be_missing(tmp_path):
    path = save(tmp_path, "a O\n\n-DOCSTART-\n\nb O\n\nc O\n\n-DOCSTART- x\n")
    assert [sentence.document for sentence in read_sentences(path)] == [0, 1, 1]


def test_a_document_without_sentences_has_no_number(tmp_path):
    path = save(tmp_path, "-DOCSTART-\n-DOCSTART-\na O\n-DOCSTART-\n\n-DOCSTART-\nb O\n")
    assert [(sentence.words, sentence.document) for sentence in read_sentences(path)] == [
        (["a"], 0),
        (["b"], 1),
    ]


def test_docstart_may_have_any_number_of_columns(tmp_path):
    for docstart in ("-DOCSTART-", "-DOCSTART- -X- -X- O", "-DOCSTART-\tO\tO\tO\tO"):
        path = save(tmp_path, f"{docstart}\na O\n")
        assert words(path) == [["a"]]


@pytest.mark.parametrize("blank", ["", "\t", "  ", " \t ", "\v\f", "\r"])
def test_lines_of_white_space_end_a_sentence(tmp_path, blank):
    assert words(save(tmp_path, f"a O\n{blank}\n{blank}\nb O\n")) == [["a"], ["b"]]


def test_a_final_newline_is_not_needed(tmp_path):
    assert words(save(tmp_path, "a O\n\nb O")) == [["a"], ["b"]]


def test_crlf_belongs_to_no_column(tmp_path):
    (sentence,) = read_sentences(save(tmp_path, "a\tO\r\nb\tB-X\r\n\r\n"))
    assert (sentence.words, sentence.tags) == (["a", "b"], ["O", "B-X"])


def test_a_byte_order_mark_belongs_to_no_word(tmp_path):
    path = save(tmp_path, "\ufeffa O\n")
    assert words(path) == [["a"]]
    assert next(read_lines(path)).text == "\ufeffa O"


def test_a_byte_order_mark_before_docstart_or_comment_hides_neither(tmp_path):
    assert words(save(tmp_path, "\ufeff-DOCSTART-\na O\n")) == [["a"]]
    assert words(save(tmp_path, "\ufeff# text\n1\ta\n", "a.conllu"), word_column=1, tag_column=None) == [["a"]]


def test_a_byte_order_mark_in_a_later_line_belongs_to_its_word(tmp_path):
    assert words(save(tmp_path, "a O\n\ufeffb O\n")) == [["a", "\ufeffb"]]


@pytest.mark.parametrize("odd", ["\u00a0", "\u2028", "\u2029", "\u0085", "\u3000", "\x1c", "\x1f", "\u200b"])
def test_white_space_beyond_ascii_belongs_to_its_word(tmp_path, odd):
    for separator in " \t":
        path = save(tmp_path, f"a{odd}b{separator}O\n{odd}{separator}O\n")
        assert words(path) == [[f"a{odd}b", odd]]


def test_between_tabs_a_word_may_hold_a_space(tmp_path):
    path = save(tmp_path, "New York\tB-LOC\nx y z\tO \n")
    (sentence,) = read_sentences(path)
    assert (sentence.words, sentence.tags) == (["New York", "x y z"], ["B-LOC", "O"])


def test_runs_of_spaces_separate_columns_once(tmp_path):
    path = save(tmp_path, "  a   NN  O \nb NN O\n")
    assert list(read_sentences(path)) == [Row(["a", "b"], ["O", "O"], None, None, 0, f"{path}:1", [1, 2], {})]


def test_in_a_conll_file_a_number_sign_is_a_word(tmp_path):
    path = save(tmp_path, "# O\n3-4 O\n5.1 O\n#newdoc O\n")
    assert words(path) == [["#", "3-4", "5.1", "#newdoc"]]


CONLLU = """# newdoc id = one
# sent_id = 1
1-2\tdel\t_
1\tde\tADP
2\tel\tDET
2.1\tnada\tVERB
# a late comment
3\tmar\tNOUN

# sent_id = 2
1\tSí\tINTJ

# newdoc
1\tNo\tINTJ

"""


def test_conllu_skips_comments_ranges_and_empty_nodes(tmp_path):
    path = save(tmp_path, CONLLU, "a.conllu")
    assert list(read_sentences(path, word_column=1)) == [
        Row(["de", "el", "mar"], ["ADP", "DET", "NOUN"], None, None, 0, f"{path}:4", [4, 5, 8], {}),
        Row(["Sí"], ["INTJ"], None, None, 0, f"{path}:11", [11], {}),
        Row(["No"], ["INTJ"], None, None, 1, f"{path}:14", [14], {}),
    ]


def test_lines_say_what_they_are(tmp_path):
    kinds = Counter(line.kind for line in read_lines(save(tmp_path, CONLLU, "a.conllu")))
    assert kinds == {"word": 5, "range": 2, "comment": 5, "blank": 3}
    lines = list(read_lines(save(tmp_path, "-DOCSTART- O\r\n\na O")))
    assert [(line.number, line.kind, line.columns, line.ending) for line in lines] == [
        (1, "document", ("-DOCSTART-", "O"), "\r\n"),
        (2, "blank", (), "\n"),
        (3, "word", ("a", "O"), ""),
    ]


def test_reading_is_a_stream(tmp_path):
    # The bad line at the end is not met before it is asked for.
    sentences = read_sentences(save(tmp_path, "a O\n\nb O\n\nc\n"))
    assert next(sentences).words == ["a"]
    assert next(sentences).words == ["b"]
    with pytest.raises(InputError, match=":5: "):
        next(sentences)


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = save(tmp_path, "a NN O\nword NN B-X\n\n" * 10_000)
    tracemalloc.start()
    count = sum(len(sentence.words) for sentence in read_sentences(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < path.stat().st_size / 2


# bytes back

field = st.text(st.characters(codec="utf-8", exclude_characters=" \t\r\n\v\f"), min_size=1, max_size=4)
ending = st.sampled_from(["\n", "\r\n"])
other = st.sampled_from(["", " ", "\t", " \t\v", "-DOCSTART-", "-DOCSTART- -X- O O", "-DOCSTART-\t\tO"])


@st.composite
def files(draw):
    row = st.one_of(
        st.builds("{} {}".format, field, field),
        st.builds(" {}  {}\f".format, field, field),
        st.builds("{} {}\t{}".format, field, field, field),
    )
    lines = ["word O", *draw(st.lists(st.one_of(row, other), max_size=8))]
    text = draw(st.sampled_from(["", "\ufeff"])) + "".join(line + draw(ending) for line in lines)
    return draw(st.sampled_from([text, text.rstrip("\r\n")])).encode()


@settings(deadline=None, max_examples=100)
@given(content=files())
def test_writing_what_was_read_gives_the_same_bytes(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    path = save(folder, content)
    write_lines(folder / "copy.conll", read_lines(path))
    assert (folder / "copy.conll").read_bytes() == content


def test_conllu_round_trip_keeps_what_is_no_word(tmp_path):
    path = save(tmp_path, CONLLU, "a.conllu")
    write_lines(path, read_lines(path))
    assert path.read_bytes() == CONLLU.encode()


def test_a_column_is_added_with_the_separator_of_its_line(tmp_path):
    path = save(tmp_path, "a\tO\r\n\r\nb x\tO\r\n")
    lines = (line.with_column("B-X") if line.kind == "word" else line for line in read_lines(path))
    write_lines(tmp_path / "b.conll", lines)
    assert (tmp_path / "b.conll").read_bytes() == b"a\tO\tB-X\r\n\r\nb x\tO\tB-X\r\n"
    (line,) = read_lines(save(tmp_path, "a O"))
    assert (line.with_column("Z").text, line.with_column("Z").columns) == ("a O Z", ("a", "O", "Z"))


# bad input


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\na NN O\nb O\n", "a.conll:3: expected 3 columns, as on line 2, found 2 columns: 'b O'"),
        ("a NN O\nb NN x O\n", "a.conll:2: expected 3 columns, as on line 1, found 4 columns: 'b NN x O'"),
        (
            "a NN O\nEU NN O\t\n",
            r"a.conll:2: expected 3 columns, as on line 1, found 2 columns: 'EU NN O\\t'",
        ),
        ("a O\n\tO\n", r"a.conll:2: expected a word in column 0, found nothing: '\\tO'"),
        ("a\tO\nb\t\n", r"a.conll:2: expected a tag in column 1, found nothing: 'b\\t'"),
        ("a\tO\nb\t \r\n", r"a.conll:2: expected a tag in column 1, found nothing"),
        (b"a O\ncaf\xe9 O\n", "a.conll:2: expected UTF-8, found byte 0xe9 at position 4 of the line"),
        (b"a O\n\xed\xa0\x80 O\n", "a.conll:2: expected UTF-8, found byte 0xed"),
        ("\nT1\tX 0 3;9 14\tMira\n", "a.conll:2: expected columns, one word a line, found an annotation of brat: 'T1"),
        ("", "a.conll: the file is empty; expected lines of columns, one word a line"),
        ("\ufeff", "a.conll: no sentence in this file"),
        ("\n \n-DOCSTART- O\n\n", "a.conll: no sentence in this file"),
        (
            "a\nb\n",
            r"a.conll: the words and the tags \(label_column_name\) would both be column 0; .* 1 column,",
        ),
    ],
)
def test_a_malformed_file_is_an_error_that_names_the_place(tmp_path, text, expected):
    with pytest.raises(InputError, match=expected) as caught:
        list(read_sentences(save(tmp_path, text)))
    assert str(caught.value).startswith(f"{tmp_path}")


def test_a_long_line_is_shown_cut(tmp_path):
    with pytest.raises(InputError, match=r"found 3 columns: 'x{76}\.\.\.$"):
        list(read_lines(save(tmp_path, f"a O\n{'x' * 200} O O\n")))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"tag_column": 4},
            r"there is no tag column \(label_column_name\) 4: the file has 3 columns, numbered from 0",
        ),
        ({"tag_column": -4}, r"no tag column \(label_column_name\) -4: the file has 3 columns"),
        ({"word_column": 3}, r"no word column \(text_column_name\) 3: the file has 3 columns"),
        ({"word_column": -1}, "words and the tags .* would both be column 2; the file has 3 columns"),
    ],
)
def test_a_column_that_the_file_does_not_have_is_an_error(tmp_path, columns, expected):
    with pytest.raises(InputError, match=f"a.conll: .*{expected}"):
        list(read_sentences(save(tmp_path, "a NN O\n"), **columns))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"none\.conll: no such file"):
        list(read_sentences(tmp_path / "none.conll"))


def test_a_directory_is_an_error(tmp_path):
    with pytest.raises(InputError, match=": expected a file, found a directory"):
        list(read_lines(tmp_path))


def test_what_cannot_be_opened_is_an_error(tmp_path):
    path = save(tmp_path, "a O\n")
    with pytest.raises(InputError, match=r"a\.conll/b\.conll: cannot be read: Not a directory"):
        list(read_lines(path / "b.conll"))


def test_conllu_without_word_numbers_is_an_error_not_a_loss_of_words(tmp_path):
    with pytest.raises(InputError, match=r"a\.conllu:2: expected the number of a word in the first column"):
        list(read_lines(save(tmp_path, "# text\nword\tO\n3-4\tO\n", "a.conllu")))


def test_a_conllu_file_of_ranges_alone_has_no_sentence(tmp_path):
    with pytest.raises(InputError, match=r"a\.conllu: no sentence in this file"):
        list(read_lines(save(tmp_path, "1-2\tdel\n\n", "a.conllu")))


# rows, and comments

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
    lines = conll.read_lines(path, name="a", options=ReadOptions(comment_prefix="#"), conllu=False)
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


# real corpora


@pytest.mark.corpora
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the real corpora are not at {DATA}")
@pytest.mark.parametrize(
    ("name", "scheme", "sentences", "words", "entities"),
    [
        ("conll2003/eng.train", "IOB1", 14_041, 203_621, 23_499),
        ("conll2003/eng.testa", "IOB1", 3_250, 51_362, 5_942),
        ("conll2003/eng.testb", "IOB1", 3_453, 46_435, 5_648),
        ("wnut17/wnut17train.conll", "IOB2", 3_394, 62_730, 1_975),
        ("wnut17/emerging.dev.conll", "IOB2", 1_009, 15_733, 836),
        ("wnut17/emerging.test.annotated", "IOB2", 1_287, 23_394, 1_079),
    ],
)
def test_real_corpora_have_their_published_counts(tmp_path, name, scheme, sentences, words, entities):
    path = DATA / name
    read = list(read_sentences(path))
    assert detect_scheme(sentence.tags for sentence in read) == (scheme, None)
    tags = [tag for sentence in read for tag in to_iob2(sentence.tags, scheme=scheme)]
    assert (len(read), len(tags)) == (sentences, words)
    assert sum(tag.startswith("B-") for tag in tags) == entities
    write_lines(tmp_path / "copy", read_lines(path))
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


@pytest.mark.corpora
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the real corpora are not at {DATA}")
def test_the_training_split_is_read_in_about_half_a_second():
    start = time.process_time()
    assert sum(1 for _ in read_sentences(DATA / "conll2003/eng.train")) == 14_041
    assert time.process_time() - start < 2  # four times what it takes, for slow and busy machines
