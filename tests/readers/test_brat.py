import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning.errors import InputError
from ner_lightning.readers import ReadOptions, read
from ner_lightning.tags import entities
from ner_lightning.words import split_words

TEXT = "Mira Toll left.\r\n\n  Oslo is far\n"
ANN = """\
T1\tPER 0 9\tMira Toll
T2\tLOC 20 24\tOslo
R1\tLeft Arg1:T1 Arg2:T2
E1\tMove:T1 Who:T1
A1\tNegation E1
N1\tReference T1 Wikipedia:1\tMira
#1\tAnnotatorNotes T1\ta note
*\tEquiv T1 T2

"""


def test_each_line_that_holds_something_is_a_row_and_each_file_a_document(save, tmp_path):
    path = save("doc1.txt", TEXT)
    save("doc1.ann", ANN)
    source = read(path)
    first, second = source
    assert source.format == "brat"
    assert (first.words, first.tags) == (["Mira", "Toll", "left", "."], ["B-PER", "I-PER", "O", "O"])
    assert (first.text, first.place, first.document) == ("Mira Toll left.", f"{path}:1", "doc1")
    assert (second.words, second.tags) == (["Oslo", "is", "far"], ["B-LOC", "O", "O"])
    assert (second.text, second.place, second.document) == ("  Oslo is far", f"{path}:3", "doc1")
    assert (second.spans[0], second.lines, second.record) == ((2, 6), None, {})


def test_a_folder_is_all_of_its_files(save, tmp_path):
    for name in ("b", "a"):
        save(f"{name}.txt", f"{name} x")
    save("a.ann", "T1\tX 0 1\ta\n")
    save("annotation.conf", "[entities]")
    source = read(tmp_path)
    # a text without annotations is one to predict
    assert [(row.document, row.words, row.tags) for row in source] == [
        ("a", ["a", "x"], ["B-X", "O"]),
        ("b", ["b", "x"], None),
    ]
    key = source.key
    save("b.ann", "")
    assert [row.tags for row in read(tmp_path)] == [["B-X", "O"], ["O", "O"]]
    assert read(tmp_path).key != key


def test_without_tags_the_annotations_are_not_read(save):
    save("a.ann", "?")
    assert [row.tags for row in read(save("a.txt", "x"), options=ReadOptions(tags=False))] == [None]


@pytest.mark.parametrize(
    ("ann", "expected"),
    [
        (
            "T1\tPER 0 4;10 14\tMira left",
            r"a.ann:1: T1 \(PER, 0 4;10 14\) has parts that do not touch, 'Mira left'; .*",
        ),
        ("T1\tPER 0 4\tMira\nT2\tX 10 24\tleft. Oslo", r"a.ann:2: T2 \(X, 10 to 24\), 'left. Oslo', goes over several"),
        ("T1\tPER 0 3\tMir", r"a.ann:1: T1 \(PER, 0 to 3\) ends inside the word 'Mira' \(0 to 4\)"),
        ("\nT1\tLOC 20 23\tOsl", r"a.ann:2: T1 \(LOC, 20 to 23\) ends inside the word 'Oslo' \(20 to 24\)"),
        (
            "T1\tPER 0 4\tMira\nT2\tX 0 9\tMira Toll",
            r"a.ann:2: T2 \(X, 0 to 9\) and T1 .* overlap: both have the word 'Mira'",
        ),
        ("T1\tPER 0 4\tToll", r"a.ann:1: T1 \(PER, 0 to 4\) has the text 'Toll', but 'Mira' stands there"),
        ("T1\tPER 0 99\tMira", r"a.ann:1: T1 \(PER, 0 to 99\) ends behind the text of 32 characters"),
        ("T1\tPER 4 4\t", r"a.ann:1: T1 \(PER, 4 to 4\) is empty"),
        ("T1\tPER 9 4\tx", r"a.ann:1: T1 \(PER, 9 to 4\) ends before it begins"),
        ("T1 PER 0 4 Mira", "a.ann:1: expected an entity such as 'T1<tab>PER 0 4<tab>Mira', found 'T1 PER 0 4 Mira'"),
        ("T1\tPER 0 x\tMira", "a.ann:1: expected an entity such as"),
        (f"T1\tPER 0 {'9' * 5000}\tMira", "a.ann:1: expected an entity such as"),
        ("Mira B-PER", "a.ann:1: expected an entity such as"),
        (b"T1\tPER 0 4\tMir\xe4", "a.ann:1: expected UTF-8, found byte 0xe4"),
        ("T1\tPER 0 4\tMira".encode("utf-16"), "a.ann: expected text in UTF-8, found UTF-16"),
    ],
)
def test_what_is_malformed_is_an_error_that_names_the_line(save, ann, expected):
    save("a.ann", ann)
    with pytest.raises(InputError, match=expected):
        list(read(save("a.txt", TEXT)))


def test_files_that_do_not_belong_together_are_refused(save, tmp_path):
    with pytest.raises(InputError, match=r"a file, or a folder of brat with \.txt and \.ann files, found a directory"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"b\.ann: the annotations of brat alone; give the \.txt beside it"):
        read(save("b.ann", ANN))
    save("a.txt", " \n")
    with pytest.raises(InputError, match=r"b\.ann: expected its text in b\.txt beside it, found none"):
        read(tmp_path)
    save("b.txt", b"\xff\xfea\0")
    with pytest.raises(InputError, match=r"b\.txt: expected text in UTF-8, found UTF-16"):
        list(read(tmp_path))


def test_a_text_of_blank_lines_alone_is_refused(save):
    save("a.ann", "")
    with pytest.raises(InputError, match=r"a\.txt: expected text, found none"):
        list(read(save("a.txt", " \n\n")))


@settings(deadline=None, max_examples=100)
@given(text=st.text("ab. \n\r中\U0001f600", min_size=1, max_size=30).filter(str.strip), data=st.data())
def test_entities_that_are_written_are_those_that_are_read(tmp_path_factory, text, data):
    folder = tmp_path_factory.getbasetemp()
    given, start = [], 0
    for line in text.split("\n"):
        given += [(start + a, start + b, data.draw(st.sampled_from("XY"))) for a, b in split_words(line)]
        start += len(line) + 1
    given = [entity for entity in given if data.draw(st.booleans())]
    ann = "".join(f"T{n}\t{t} {a} {b}\t{text[a:b]}\n" for n, (a, b, t) in enumerate(given))
    (folder / "x.txt").write_bytes(text.encode())
    (folder / "x.ann").write_bytes(ann.encode())
    starts = [sum(len(line) + 1 for line in text.split("\n")[:number]) for number in range(text.count("\n") + 1)]
    found = []
    for row in read(folder / "x.txt"):
        start = starts[int(row.place.rpartition(":")[2]) - 1]
        found += [
            (start + row.spans[first].start, start + row.spans[last - 1].end, type_)
            for type_, first, last in entities(row.tags)
        ]
    assert found == given
