import json as stdlib_json
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ner_lightning.errors import InputError
from ner_lightning.readers import ReadOptions, json, read

quick = settings(deadline=None, max_examples=150)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
records = st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=4)


@quick
@given(records=records, indent=st.none() | st.integers(0, 2), size=st.integers(1, 9), ascii=st.booleans())
@example([{"a": 'é\\"]'}, {}], None, 1, False)
def test_an_array_is_read_as_the_json_module_reads_it(tmp_path_factory, records, indent, size, ascii):
    path = tmp_path_factory.getbasetemp() / "array.json"
    text = stdlib_json.dumps(records, indent=indent, ensure_ascii=ascii)
    path.write_text(f"\ufeff \n{text}\n", encoding="utf-8")
    whole, json._SIZE = json._SIZE, size
    try:
        found = list(json._records(path, "a"))
    finally:
        json._SIZE = whole
    assert [record for _, record in found] == records


def test_lines_and_an_array_give_the_same_rows_at_their_lines(rows, tmp_path):
    one, two = '{"tokens": ["Ada"], "tags": ["O"]}', '{"tokens": ["ran"], "tags": ["O"]}'
    lines = rows("a.jsonl", f"\ufeff{one}\r\n\n{two}")
    array = rows("b.json", f"[{one},\n\n{two}\n]")
    assert [row.place for row in lines] == [f"{tmp_path}/a.jsonl:1", f"{tmp_path}/a.jsonl:3"]
    assert [row.place for row in array] == [f"{tmp_path}/b.json:1", f"{tmp_path}/b.json:3"]
    assert (
        [row.record for row in lines]
        == [row.record for row in array]
        == [stdlib_json.loads(one), stdlib_json.loads(two)]
    )


def test_an_array_is_a_stream(save):
    found = iter(read(save("a.json", '[{"text": "a"}, {"text": "b"}, oops')))
    assert [next(found).words, next(found).words] == [["a"], ["b"]]
    with pytest.raises(InputError, match="oops"):
        next(found)


@pytest.mark.parametrize("array", [False, True])
def test_memory_does_not_grow_with_the_file(save, array):
    one = stdlib_json.dumps({"text": "Ada ran. " * 20})
    path = save("a.json", f"[{', '.join([one] * 4_000)}]" if array else f"{one}\n" * 4_000)
    source = read(path, options=ReadOptions(tags=False))
    tracemalloc.start()
    count = sum(len(row.words) for row in source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 240_000
    assert peak < path.stat().st_size / 2


OBJECT = '{"tokens": ["a"], "tags": ["O"]}'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "a.json: expected rows, found none"),
        ("\n \n", "a.json: expected rows, found none"),
        ("[]", "a.json: expected rows, found none"),
        (OBJECT + "\nx\n", "a.json:2: expected a whole JSON object on each line, or an array of them, found 'x'"),
        ("{\n" + OBJECT[1:], "a.json:1: expected a whole JSON object on each line, .*found '{'"),
        (OBJECT + OBJECT, "a.json:1: expected a whole JSON object"),
        (OBJECT + "\n3\n", "a.json:2: expected a JSON object, found '3'"),
        ("{" * 100_000, "a.json:1: expected a whole JSON object"),
        (OBJECT.encode() + b'\n{"text": "\xff"}', "a.json:2: expected UTF-8, found byte 0xff"),
        (f"[{OBJECT},\n\n3]", "a.json:3: expected a JSON object, found '3'"),
        (f"[{OBJECT}\n{OBJECT}]", "a.json:2: expected , in the JSON array, found '{"),
        (f"[{OBJECT},\n]", r"a.json:2: expected a JSON array of objects, found ']' \(Expecting value"),
        (f"[{OBJECT}\n,", r"a.json:2: expected a JSON array of objects, found its end"),
        (f"[{OBJECT}\n", "a.json:2: expected , in the JSON array, found the end of the file"),
        (f"[{OBJECT}] x", "a.json:1: expected the end of the file in the JSON array, found 'x'"),
        ('[{"a": 1,\n "b" 2,\n' + " " * 100 + "}]", r"a.json:2: .*found '2,.*Expecting ':' delimiter"),
        ('[{"a": "b' + "x" * 100_000, r"a.json:1: .*Unterminated string"),
        ('[{"a": "b\n"}]' + " " * 100, r"a.json:1: .*Invalid control character"),
        ('[{"a":' * 100_000, "a.json:1: expected a JSON object, found one nested too deep"),
        (f'[{{"a": {"9" * 5000}}}]', "a.json:1: expected a JSON object, found a number of too many digits"),
        (f"[{OBJECT},\n\n".encode() + b'{"text": "\xff"}]', "a.json:3: expected UTF-8, found byte 0xff"),
        (f"[{OBJECT},\n".encode() + b'{"text": "\xe4', "a.json:2: expected UTF-8, found byte 0xe4"),
        ('{"text": "\\ud83d"}', r"a.json:1: expected text, found half of a surrogate pair \('\\ud83d'\)"),
        ('[\n{"text": "\\ud83d"}]', r"a.json:2: expected text, found half of a surrogate pair"),
    ],
)
def test_what_is_malformed_is_an_error_that_names_the_line(rows, content, expected):
    with pytest.raises(InputError, match=expected):
        rows("a.json", content)


def test_a_whole_surrogate_pair_is_a_character(rows):
    (row,) = rows("a.jsonl", '{"text": "\\ud83d\\ude00"}')
    assert row.text == "\U0001f600"
