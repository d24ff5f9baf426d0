"""Which checkpoint is found, and what is made of files that are none."""

import os
import pickle
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning.checkpoints import find_checkpoint, newest_checkpoint, read_checkpoint
from ner_lightning.errors import InputError


@pytest.fixture
def whole(tmp_path):
    """A checkpoint as this program writes it, in what a reader asks of it."""
    path = tmp_path / "whole.ckpt"
    torch.save({"state_dict": {"w": torch.arange(1000.0)}, "hyper_parameters": {"labels": ["O", "B-X"]}}, path)
    return path


def test_a_whole_checkpoint_is_read(whole):
    checkpoint = read_checkpoint(str(whole))
    assert checkpoint["hyper_parameters"] == {"labels": ["O", "B-X"]}
    assert torch.equal(checkpoint["state_dict"]["w"], torch.arange(1000.0))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.ckpt: expected a checkpoint, found no such file"):
        read_checkpoint(tmp_path / "nothing.ckpt")


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r": expected a checkpoint, found a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("part", [0, 1, 10, 100, 0.25, 0.5, 0.9, -100, -1])
def test_a_checkpoint_cut_short_is_refused(whole, part):
    content = whole.read_bytes()
    whole.write_bytes(content[: int(part * len(content)) if isinstance(part, float) else part])
    with pytest.raises(InputError, match=r"whole\.ckpt: not a whole checkpoint of this program"):
        read_checkpoint(whole)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=80) | st.binary(max_size=40).map(lambda rest: b"\x80\x02" + rest))
def test_garbage_is_refused_whatever_it_is(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "garbage.ckpt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a whole checkpoint|a file of another program"):
        read_checkpoint(path)


class Touch:
    """Pickled code that leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_code_in_a_checkpoint_does_not_run(tmp_path, save):
    trace = tmp_path / "trace"
    save({"state_dict": {}, "hyper_parameters": {"labels": Touch(trace)}}, tmp_path / "code.ckpt")
    with pytest.raises(InputError, match="not a whole checkpoint"):
        read_checkpoint(tmp_path / "code.ckpt")
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"w": torch.zeros(2)},  # the weights of a Hugging Face folder
        {"state_dict": {}},  # Lightning without hyperparameters
        {"state_dict": {}, "hyper_parameters": {"lr": 0.1}},
        {"state_dict": {}, "hyper_parameters": {"labels": 2}},
        {"state_dict": {}, "hyper_parameters": ["labels"]},
        {"state_dict": {}, "hyper_parameters": True},
        {"epoch": 1, "hyper_parameters": {"labels": ["O"]}},
        torch.zeros(2),
        [1, 2],
    ],
)
def test_a_checkpoint_of_other_software_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="a file of another program, without the labels"):
        read_checkpoint(tmp_path / "other.ckpt")


@pytest.fixture
def runs(tmp_path):
    """Make a run's folder with some checkpoints; later ones are newer."""
    made = []

    def make(name, *kinds, model="a"):
        folder = tmp_path / name / "checkpoints"
        folder.mkdir(parents=True)
        for kind in kinds:
            content = {"state_dict": {}, "hyper_parameters": {"labels": ["O"], "model_name_or_path": model}}
            torch.save(content, folder / f"{kind}.ckpt")
        made.append(name)
        for path in (*folder.iterdir(), folder):
            os.utime(path, (1e9 + len(made), 1e9 + len(made)))
        return folder

    return make


def test_the_newest_run_is_found_at_any_depth(tmp_path, runs):
    runs("z", "best", "last")
    newest = runs("b/a", "best", "last")
    assert newest_checkpoint(tmp_path) == newest / "best.ckpt"
    assert newest_checkpoint(tmp_path, kind="last") == newest / "last.ckpt"


def test_a_run_without_a_best_checkpoint_gives_its_last(tmp_path, runs):
    runs("a", "best", "last")
    assert newest_checkpoint(tmp_path) == tmp_path / "a" / "checkpoints" / "best.ckpt"
    newest = runs("b", "last")
    assert newest_checkpoint(tmp_path) == newest / "last.ckpt"


def test_a_folder_with_neither_is_passed_over(tmp_path, runs):
    older = runs("a", "best")
    runs("b", "epoch=1")
    assert newest_checkpoint(tmp_path) == older / "best.ckpt"


def test_runs_of_other_models_are_passed_over(tmp_path, runs):
    older = runs("a", "best", model="one")
    runs("b", "best", model="two")
    assert newest_checkpoint(tmp_path, model_name_or_path="one") == older / "best.ckpt"
    assert newest_checkpoint(tmp_path, model_name_or_path="three") is None


def test_a_run_that_writes_over_its_checkpoint_is_the_newest(tmp_path, runs):
    older = runs("a", "best", "last")
    runs("b", "best", "last")
    os.utime(older / "last.ckpt", (2e9, 2e9))  # in place, the folder stays as it was
    assert newest_checkpoint(tmp_path) == older / "best.ckpt"


def test_without_runs_there_is_none(tmp_path):
    assert newest_checkpoint(tmp_path) is None


def torn(path):
    path.write_bytes(path.read_bytes()[:-100])
    return path


@pytest.mark.parametrize(("kind", "other"), [("last", "best"), ("best", "last")])
def test_a_torn_checkpoint_is_passed_over_for_another_one_of_its_run(tmp_path, runs, caplog, kind, other):
    runs("a", "best", "last")
    folder = runs("b", "best", "last")
    torn(folder / f"{kind}.ckpt")
    for found in (
        newest_checkpoint(tmp_path, kind=kind),
        find_checkpoint(folder.parent, root=tmp_path, kind=kind),
        find_checkpoint(folder, root=tmp_path, kind=kind),
    ):
        assert found == folder / f"{other}.ckpt"
    (told,) = set(caplog.messages)
    assert re.search(rf"{kind}\.ckpt: not a whole checkpoint .*; \S*/{other}\.ckpt is used in its place$", told)


def test_where_no_checkpoint_can_be_read_the_first_is_named(tmp_path, runs):
    folder = runs("a", "best", "last")
    for name in ("best", "last"):
        torn(folder / f"{name}.ckpt")
    for asked in ("last", folder.parent, folder):
        with pytest.raises(InputError, match=r"checkpoints/last\.ckpt: not a whole checkpoint"):
            find_checkpoint(asked, root=tmp_path, kind="last")


def test_a_bit_that_has_changed_in_the_weights_is_noticed(whole):
    read_checkpoint(whole)  # of which it knows that it was whole
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 1
    whole.write_bytes(content)
    torch.load(whole, weights_only=True)  # which does not notice
    with pytest.raises(InputError, match=r"whole\.ckpt: not a whole checkpoint of this program"):
        read_checkpoint(whole)


def test_where_both_are_torn_the_newest_other_one_is_taken_and_then_the_run_before(tmp_path, runs):
    older = runs("a", "best", "last")
    folder = runs("b", "best", "last", "epoch=1", "epoch=2")
    for name in ("best", "last"):
        torn(folder / f"{name}.ckpt")
    os.utime(folder / "epoch=1.ckpt", (2e9, 2e9))
    assert newest_checkpoint(tmp_path, kind="last") == folder / "epoch=1.ckpt"
    torn(folder / "epoch=1.ckpt")
    torn(folder / "epoch=2.ckpt")
    assert newest_checkpoint(tmp_path, kind="last") == older / "last.ckpt"


def test_a_run_that_has_no_last_checkpoint_gives_its_best(tmp_path, runs):
    folder = runs("a", "best")
    assert newest_checkpoint(tmp_path, kind="last") == folder / "best.ckpt"
