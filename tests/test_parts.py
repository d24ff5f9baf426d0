"""Parts of several processes: the pieces in order, each once, or nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning.errors import InputError
from ner_lightning.parts import merge_parts, remove_parts, write_piece


def write(folder, parts):
    paths = [folder / f"out.{rank}.part" for rank in range(len(parts))]
    for path, pieces in zip(paths, parts, strict=True):
        with path.open("wb") as file:
            for number, words, text in pieces:
                write_piece(file, number=number, words=words, text=text)
    return paths


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.binary(max_size=9) | st.just(b"1 2 3\n"), min_size=1, max_size=9), processes=st.integers(1, 4))
def test_pieces_stand_in_order_each_once(tmp_path_factory, texts, processes):
    folder = tmp_path_factory.mktemp("parts")
    each = -(-len(texts) // processes)  # as DistributedSampler deals them, the first ones again at the end
    dealt = [[(rank + processes * i) % len(texts) for i in range(each)] for rank in range(processes)]
    paths = write(folder, [[(number, number, texts[number]) for number in numbers] for numbers in dealt])
    words = merge_parts(paths, folder / "out", pieces=len(texts))
    assert (folder / "out").read_bytes() == b"".join(texts)
    assert words == sum(range(len(texts)))
    assert [path.name for path in folder.iterdir()] == ["out"]


def test_a_missing_piece_is_an_error_and_nothing_is_left(tmp_path):
    paths = write(tmp_path, [[(0, 1, b"a")], [(2, 1, b"c")]])
    with pytest.raises(InputError, match=r"out: 1 of 3 pieces are missing: its folder must be one that all processes"):
        merge_parts(paths, tmp_path / "out", pieces=3)
    assert not list(tmp_path.iterdir())


def test_a_missing_part_is_an_error(tmp_path):
    paths = write(tmp_path, [[(0, 1, b"a")], []])
    paths[1].unlink()
    with pytest.raises(InputError, match=r"1 of 2 pieces are missing"):
        merge_parts(paths, tmp_path / "out", pieces=2)


def test_parts_are_removed_whether_they_are_there_or_not(tmp_path):
    paths = write(tmp_path, [[], []])
    paths[0].unlink()
    remove_parts(paths)
    assert not list(tmp_path.iterdir())
