"""Windows: what is gathered, written and mapped is what there was, wherever it was cut."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from conftest import columns_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning.windows import Windows, offsets_of, ranges, read_windows, write_windows


def windows_of(lengths, seed=0):
    """Windows of these lengths, of numbers at random."""
    draw, size = np.random.default_rng(seed), sum(lengths)
    return Windows(
        input_ids=draw.integers(100, size=size, dtype=np.int32),
        labels=draw.integers(9, size=size, dtype=np.int32),
        scored=draw.integers(2, size=size).astype(bool),
        sentence_index=draw.integers(2**31, size=size, dtype=np.int32),
        document_index=draw.integers(2**31, size=size, dtype=np.int32),
        offsets=offsets_of(lengths),
        first_word=draw.integers(2**40, size=len(lengths)),
        words_before=draw.integers(2**40, size=len(lengths)),
        source_index=draw.integers(2**40, size=len(lengths)),
    )


some = st.lists(st.integers(1, 9), max_size=20).map(windows_of)


@given(windows=some, data=st.data())
def test_gathered_windows_are_those_of_the_numbers(windows, data):
    numbers = data.draw(st.lists(st.integers(0, len(windows) - 1), max_size=9)) if len(windows) else []
    before = columns_of(windows)
    assert columns_of(windows[numbers]) == {name: [values[i] for i in numbers] for name, values in before.items()}


@settings(deadline=None, max_examples=50)
@given(windows=some, data=st.data())
def test_parts_that_are_written_are_read_as_one(tmp_path_factory, windows, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(windows)), max_size=4)))
    path = tmp_path_factory.mktemp("windows") / "w.arrow"
    write_windows(path, (windows[range(*part)] for part in pairwise([0, *cuts, len(windows)])))
    assert columns_of(read_windows(path)) == columns_of(windows)


def test_no_parts_are_no_windows(tmp_path):
    write_windows(tmp_path / "w.arrow", [])
    assert len(read_windows(tmp_path / "w.arrow")) == 0


def test_what_is_read_is_mapped_and_a_process_that_gets_it_maps_it_itself(tmp_path):
    windows = windows_of([500_000])
    write_windows(tmp_path / "w.arrow", [windows])
    mapped = read_windows(tmp_path / "w.arrow")
    assert not mapped.input_ids.flags.owndata
    assert not mapped.input_ids.flags.writeable
    assert len(pickle.dumps(mapped)) < 1000
    for given_away in (mapped, windows):
        assert columns_of(pickle.loads(pickle.dumps(given_away))) == columns_of(windows)


@pytest.mark.parametrize(
    ("starts", "lengths", "expected"), [([], [], []), ([5, 2, 9], [2, 0, 3], [5, 6, 9, 10, 11]), ([7], [1], [7])]
)
def test_ranges_are_joined(starts, lengths, expected):
    assert ranges(np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64)).tolist() == expected


@given(windows=some, pad=st.integers(0, 200))
def test_distinct_ids_are_those_that_occur_and_the_padding(windows, pad):
    assert windows.distinct_ids(and_id=pad).tolist() == sorted({*windows.input_ids.tolist(), pad})
