"""What is written is named where it fails, and what a process leaves is known by its mark."""

import errno
import os
from pathlib import Path

import pytest
import torch
from conftest import tiny_tokenizer
from safetensors.torch import save_file

from ner_lightning import files
from ner_lightning.errors import InputError
from ner_lightning.files import is_left_over, move_into_place, naming, process_mark, replacing


def save_text(path):
    with path.open("w") as file:
        file.write("text")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("save", [save_text, lambda path: tiny_tokenizer().backend_tokenizer.save(str(path))])
def test_a_full_disk_is_an_error_of_the_system_that_names_the_file(save):
    with pytest.raises(OSError, match="No space left on device: '/dev/full'") as error, naming(Path("/dev/full")):
        save(Path("/dev/full"))
    assert error.value.errno == errno.ENOSPC


def test_so_is_what_safetensors_says(tmp_path):
    path = tmp_path / "none/model.safetensors"
    with pytest.raises(OSError, match=f"No such file or directory: '{path}'"), naming(path):
        save_file({"a": torch.ones(2)}, path)


def test_any_other_error_stays_what_it_is(tmp_path):
    with pytest.raises(InputError, match=r"^wrong$"), naming(tmp_path):
        raise InputError("wrong")


@pytest.mark.parametrize("name", ["a", "folder/a"])
def test_what_is_moved_into_place_was_on_the_disk_before(tmp_path, monkeypatch, name):
    partial, place, seen = tmp_path / "partial", tmp_path / "place", []
    (partial / name).parent.mkdir(parents=True)
    (partial / name).write_text("text")
    monkeypatch.setattr(files, "_to_disk", lambda path: seen.append((path, place.exists())))
    move_into_place(partial, place)
    assert {(path, False) for path in (partial, partial / name)} <= set(seen)
    assert seen[-1] == (tmp_path, True)
    assert (place / name).read_text() == "text"


@pytest.mark.parametrize("path", [".", "..", "/"])
def test_a_folder_is_no_file_to_write(tmp_path, monkeypatch, path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="expected a file to write, found a directory"), replacing(Path(path)):
        raise AssertionError
    assert [found.name for found in tmp_path.rglob("*")] == ["here"]


def test_a_process_that_runs_has_left_nothing():
    machine = process_mark().rpartition("-")[0]
    assert not is_left_over(process_mark())
    assert not is_left_over(f"{machine}-1")
    assert not is_left_over(f"elsewhere-{os.getpid()}")
    for mark in ("", "notes", f"{machine}-", f"{machine}-x", f"{machine}-{2**70}"):
        assert not is_left_over(mark)
