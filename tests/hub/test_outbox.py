"""What is put into the outbox comes out whole, once, whenever a process is killed, and the journal says so."""

import errno
import itertools
import json
import multiprocessing
import re
import shutil
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ner_lightning.hub.outbox as outbox_module
from ner_lightning.errors import InputError
from ner_lightning.files import process_mark
from ner_lightning.hub.outbox import Destination, Outbox

TO = Destination("user/ner")
FILES = ("config.json", "model.safetensors", "tokenizer.json")


def write(folder, *, step):
    assert not list(folder.iterdir())
    for name in FILES:
        (folder / name).write_text(f"{name} of step {step}\n" * 20)


def whole(staged):
    """The step of which all files are."""
    step = int(staged.name.rpartition("-")[2])
    assert {path.name for path in staged.model.iterdir()} == set(FILES)
    for name in FILES:
        assert (staged.model / name).read_text() == f"{name} of step {step}\n" * 20
    return step


def stage(outbox, step):
    return outbox.stage(partial(write, step=step), step=step, destination=TO, message=f"step {step}")


def events(outbox):
    return [(record["event"], record["name"]) for record in outbox.records()]


@pytest.fixture
def outbox(tmp_path):
    return Outbox(tmp_path / "run")


class Killed(BaseException):
    """As a SIGKILL: nothing is tidied up after it."""


def test_a_staged_model_says_all_that_the_sender_must_know(outbox):
    to = Destination("user/ner", revision="été", private=True)
    name = outbox.stage(partial(write, step=7), step=7, destination=to, message="step 7: val_f1 0.5")
    (staged,) = Outbox(outbox.run_dir).waiting()
    assert (staged.name, staged.destination, staged.message) == (name, to, "step 7: val_f1 0.5")
    assert whole(staged) == 7


def test_an_outbox_that_nothing_was_put_into_makes_no_folder(outbox):
    assert (outbox.waiting(), outbox.records(), outbox.take()) == ([], [], None)
    assert not outbox.folder.exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_model_that_could_not_be_written_whole_is_not_there_at_all(outbox, error):
    stage(outbox, 1)

    def fail(folder):
        (folder / "config.json").write_text("half")
        raise error

    with pytest.raises(type(error)):
        outbox.stage(fail, step=2, destination=TO, message="step 2")
    assert [whole(staged) for staged in outbox.waiting()] == [1]
    assert {path.name for path in outbox.folder.iterdir()} == {"pushes.jsonl", "000001-step-1"}
    assert stage(outbox, 3) == "000002-step-3"


@pytest.fixture
def dead():
    """The mark of a process that has ended."""
    process = multiprocessing.get_context("spawn").Process()
    process.start()
    process.join()
    return process_mark().rpartition("-")[0] + f"-{process.pid}"


@pytest.mark.parametrize("call", ["stage", "sender"])
def test_what_a_killed_process_was_writing_is_cleared_by_the_next(outbox, dead, call):
    """That of a process that runs, or of another machine, which may share the disk, is left."""
    kept = {f"000001-step-1.{mark}.partial" for mark in (process_mark(), "elsewhere-1", "no mark")}
    for name in (*kept, f"000001-step-1.{dead}.partial"):
        (outbox.folder / name / "model").mkdir(parents=True)
    if call == "stage":
        assert stage(outbox, 2) == "000002-step-2"
    else:
        with outbox.sender():
            pass
    assert {path.name for path in outbox.folder.glob("*.partial")} == kept


def test_a_kill_before_older_ones_are_replaced_sends_none_of_them(outbox, monkeypatch):
    stage(outbox, 1)
    monkeypatch.setattr(Outbox, "replace", lambda *args, **options: (_ for _ in ()).throw(Killed))
    asked = Destination("user/ner", private=True)
    with pytest.raises(Killed):
        outbox.stage(partial(write, step=2), step=2, destination=asked, message="m")
    monkeypatch.undo()
    assert outbox.take().destination == asked
    assert [whole(staged) for staged in outbox.waiting()] == [2]


def test_of_one_place_the_newest_says_whether_it_is_private(outbox):
    stage(outbox, 1)
    outbox.stage(partial(write, step=2), step=2, destination=Destination("user/ner", private=True), message="m")
    assert [staged.destination.private for staged in outbox.waiting()] == [True]


def test_what_is_forgotten_is_told_in_the_journal(outbox):
    stage(outbox, 1)
    (staged,) = outbox.waiting()
    for _ in range(2):
        outbox.forget(staged)
    assert events(outbox) == [("staged", "000001-step-1"), ("forgotten", "000001-step-1")]
    assert outbox.waiting() == []
    assert stage(outbox, 2) == "000002-step-2"


def test_the_newest_replaces_what_waits(outbox):
    names = [stage(outbox, step) for step in (10, 20, 5)]
    assert [whole(staged) for staged in outbox.waiting()] == [5]
    assert [event for event in events(outbox) if event[0] == "replaced"] == [("replaced", name) for name in names[:2]]


def test_the_model_that_is_being_pushed_is_never_touched(outbox):
    stage(outbox, 1)
    sending = outbox.take()
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sending.model.iterdir()}
    for step in (2, 3):
        stage(outbox, step)
    assert whole(sending) == 1
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sending.model.iterdir()} == before
    outbox.finish(sending, commit="c0ffee", url="https://example.org/c0ffee")
    assert whole(outbox.take()) == 3


def test_what_could_not_be_pushed_is_taken_again(outbox):
    stage(outbox, 1)
    outbox.put_back(outbox.take())
    assert whole(outbox.take()) == 1


def test_what_a_dead_sender_had_taken_is_taken_again(outbox):
    stage(outbox, 1)
    outbox.take()
    assert whole(Outbox(outbox.run_dir).take()) == 1


def test_what_a_dead_sender_had_taken_gives_way_to_a_newer_one(outbox):
    stage(outbox, 1)
    outbox.take()
    stage(outbox, 2)
    assert whole(outbox.take()) == 2
    assert ("replaced", "000001-step-1") in events(outbox)
    assert len(outbox.waiting()) == 1


def test_a_model_that_is_replaced_while_it_is_taken_gives_way(outbox, monkeypatch):
    stage(outbox, 1)
    real = Outbox.waiting
    listings = iter([None])

    def waiting(self):
        listing = real(self)
        if self is outbox and next(listings, True) is None:
            stage(Outbox(outbox.run_dir), 2)
        return listing

    monkeypatch.setattr(Outbox, "waiting", waiting)
    assert whole(outbox.take()) == 2


def test_a_model_is_replaced_once(outbox):
    stage(outbox, 1)
    (staged,) = outbox.waiting()
    for newer in ("000002-step-2", "000003-step-3"):
        outbox.replace(staged, by=newer)
    assert [record["by"] for record in outbox.records() if record["event"] == "replaced"] == ["000002-step-2"]


def test_a_pushed_model_is_in_the_journal_and_not_in_the_folder(outbox):
    stage(outbox, 1)
    outbox.finish(outbox.take(), commit="c0ffee", url="https://example.org/c0ffee")
    assert outbox.records()[-1].items() >= {"event": "pushed", "name": "000001-step-1", "commit": "c0ffee"}.items()
    assert [path.name for path in outbox.folder.iterdir()] == ["pushes.jsonl"]


def test_a_number_is_given_once(outbox):
    assert stage(outbox, 1) == "000001-step-1"
    outbox.finish(outbox.take(), commit="c0ffee", url="https://example.org/c0ffee")
    assert stage(outbox, 1) == "000002-step-1"
    shutil.rmtree(outbox.waiting()[0].folder)
    assert stage(outbox, 1) == "000003-step-1"


def test_the_ten_thousandth_model_is_newer_than_the_one_before(outbox):
    outbox.folder.mkdir(parents=True)
    outbox.record("staged", "009999-step-1")
    for step in (2, 3):
        stage(outbox, step)
    assert whole(outbox.take()) == 3


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "notes", "000007-step-7.partial"])
def test_a_folder_that_is_no_model_is_left_alone(outbox, name):
    (outbox.folder / name).mkdir(parents=True)
    stage(outbox, 1)
    stage(outbox, 2)
    assert whole(outbox.take()) == 2
    assert (outbox.folder / name).is_dir()


def test_one_process_pushes_at_a_time(outbox):
    named = f"{re.escape(str(outbox.run_dir))}: another process pushes"
    with outbox.sender(), pytest.raises(InputError, match=named), Outbox(outbox.run_dir).sender():
        raise AssertionError
    with outbox.sender():  # the one before has gone
        pass


@given(text=st.text(), cut=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_a_line_that_was_cut_short_spoils_no_other(tmp_path_factory, text, cut):
    outbox = Outbox(tmp_path_factory.mktemp("run"))
    outbox.folder.mkdir()
    outbox.record("failed", "000001-step-1", error=text)
    outbox.record("failed", "000002-step-2", error="cut")
    outbox.journal.write_bytes(outbox.journal.read_bytes()[:-cut])
    outbox.record("pushed", "000003-step-3", message=text)
    first, *_, last = outbox.records()
    assert (first["name"], first["error"]) == ("000001-step-1", text)
    assert (last["name"], last["message"]) == ("000003-step-3", text)
    assert outbox.journal.read_bytes().endswith(b"\n")


def test_a_kill_between_any_two_steps_loses_no_model(tmp_path, monkeypatch):
    """Taken, put back, staged, taken, staged, finished: with a kill before each step on the disk in turn."""
    for steps in itertools.count():
        outbox = Outbox(tmp_path / str(steps))
        stage(outbox, 1)
        staged, pushed = [1], []
        with monkeypatch.context() as patch:
            left = iter(range(steps))
            for name in ("mkdir", "write_text", "rename", "open"):
                patch.setattr(Path, name, dying(getattr(Path, name), left))
            patch.setattr(outbox_module.shutil, "rmtree", dying(shutil.rmtree, left))
            try:
                outbox.put_back(outbox.take())
                stage(outbox, 2)
                staged.append(2)
                sending = outbox.take()
                stage(outbox, 3)
                staged.append(3)
                pushed.append("000002-step-2")
                outbox.finish(sending, commit="c0ffee", url="https://example.org/c0ffee")
            except Killed:
                ended = False
            else:
                ended = True
        after = Outbox(outbox.run_dir)
        assert whole(after.take()) >= staged[-1]
        assert {record["name"] for record in after.records() if record["event"] == "pushed"} <= set(pushed)
        known = {name for _, name in events(after)}
        assert stage(after, 9) not in known
        assert whole(after.take()) == 9
        if ended:
            break
    assert steps > 20


def dying(real, left):
    """A step on the disk that is taken as long as there is one left."""

    def call(*args, **kwargs):
        if next(left, None) is None:
            raise Killed
        return real(*args, **kwargs)

    return call


def _put(run_dir, steps):
    outbox = Outbox(run_dir)
    for step in steps:
        stage(outbox, step)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_staging_and_taking_at_once_lose_nothing(outbox, kind):
    """A model that is taken is whole; each one ends as pushed or as replaced, once; the last one is pushed."""
    steps = range(1, 61)
    make = threading.Thread if kind == "thread" else multiprocessing.get_context("spawn").Process
    writer = make(target=_put, args=(outbox.run_dir, steps))
    writer.start()
    taken = []
    while True:
        alive = writer.is_alive()
        staged = outbox.take()
        if staged is None:
            if not alive:
                break
            continue
        taken.append(whole(staged))
        if len(taken) % 3 == 0:
            outbox.put_back(staged)
        else:
            outbox.finish(staged, commit=f"c{len(taken)}", url=f"https://example.org/c{len(taken)}")
    writer.join()
    assert taken[-1] == 60
    assert taken == sorted(taken)
    ends = Counter(name for event, name in events(outbox) if event in ("pushed", "replaced"))
    assert ends == Counter(name for event, name in events(outbox) if event == "staged")
    assert set(ends.values()) == {1}
    assert len(ends) == 60
    assert sorted(path.name for path in outbox.folder.iterdir()) == ["pushes.jsonl"]


def test_the_journal_is_one_object_a_line_with_its_time(outbox):
    stage(outbox, 1)
    (line,) = outbox.journal.read_text().splitlines()
    assert json.loads(line).keys() == {"time", "event", "name", "message"}


def test_a_model_for_another_repository_gives_way_to_none(tmp_path):
    """Without a logger, runs share their folder."""
    outbox = Outbox(tmp_path)
    for step, name in enumerate(("user/a", "user/b", "user/b")):
        outbox.stage(lambda folder: None, step=step, destination=Destination(name), message="m")
    assert [staged.destination.repo_id for staged in outbox.waiting()] == ["user/a", "user/b"]
    assert outbox.take().destination == Destination("user/b")
    assert [staged.destination.repo_id for staged in outbox.waiting()] == ["user/a", "user/b"]
