"""Push a run by hand: `python -m ner_lightning push RUN_DIR` sends what the run could not send, or its best model.

Torch and Lightning are imported only where a model has to be written.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from ner_lightning.errors import InputError, UsageError, refuse_without
from ner_lightning.hub import sender
from ner_lightning.hub.outbox import Destination, Outbox


def push(
    run_dir: str,
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    private: bool | None = None,
    trust_remote_code: bool = False,
    check: bool = False,
    forget: bool = False,
    timeout: float = 3600.0,
) -> bool:
    """Send what a run could not push to the Hugging Face Hub; nothing is sent twice.

    Args:
        run_dir: Folder of the run, such as `runs/version_0`.
        repo_id: Send the best model of the run here, with the scores of a test since, instead of what waits.
        revision: Branch to send it to; by default `main`.
        private: Make a private repository, and send nothing to one that is public; by default as the account says.
        trust_remote_code: Run the code that comes with the model, where it needs it.
        check: Only make the repository, prove the right to write, and send what waits: nothing is put in.
        forget: Drop what waits; the checkpoints of the run stay.
        timeout: Seconds after which this process ends, whatever the Hub client waits for.

    Returns:
        Whether nothing waits any more.

    Raises:
        UsageError: The options do not go together.
        InputError: The folder is not that of a run, its model cannot be written, or another process pushes from it.
    """
    if repo_id is None:
        refuse_without("--repo_id", check=check, revision=revision, private=private is not None)
    if forget and repo_id is not None:
        raise UsageError("--forget sends nothing: leave out --repo_id")
    if forget:
        sender.forget(run_dir)
        return True
    destination = None
    if repo_id is not None:
        sender.validate(repo_id)
        destination = Destination(repo_id, revision, private)
    outbox = Outbox(run_dir)
    with _ending_after(timeout, outbox):
        if check:
            return sender.send(run_dir, check=destination)
        stage = _what_to_stage(outbox, destination, trust_remote_code=trust_remote_code)
        return sender.send(run_dir, stage=stage)


@contextmanager
def _ending_after(seconds: float, outbox: Outbox) -> Iterator[None]:
    def give_up() -> None:
        try:
            print(f"error: {outbox.run_dir}: not finished within --timeout={seconds:g} s", file=sys.stderr)
            outbox.record("stopped", error=f"not finished within {seconds:g} s")
        finally:
            os._exit(1)  # an exception would wait for the threads of the Hub client

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _what_to_stage(
    outbox: Outbox, destination: Destination | None, *, trust_remote_code: bool
) -> Callable[[], None] | None:
    """What to put in before anything is sent: the model that was asked for, or scores that a model has got since."""
    if destination is not None:
        path = _best_of_run(outbox.run_dir)
        destination = replace(destination, repo_id=sender.full_id(destination.repo_id))
        return partial(_stage_best, outbox, path, destination, trust_remote_code=trust_remote_code)
    if not (waiting := outbox.waiting()):
        return None
    staged = (waiting[-1].folder / "push.json").stat().st_mtime_ns
    if not any(test.stat().st_mtime_ns > staged for test in outbox.run_dir.glob("**/checkpoints/*.test.json")):
        return None
    return partial(_stage_with_scores, outbox, trust_remote_code=trust_remote_code)


def _best_of_run(run_dir: Path) -> Path:
    for kind in ("best", "last"):
        if (path := run_dir / "checkpoints" / f"{kind}.ckpt").is_file():
            return path
    raise InputError(sender.runs_in(run_dir) or f"{run_dir}: no checkpoint below this folder; give the folder of a run")


def _stage_best(outbox: Outbox, path: Path, destination: Destination, *, trust_remote_code: bool) -> None:
    others = [staged for staged in outbox.waiting() if staged.destination != destination]
    _stage(outbox, path, destination, trust_remote_code=trust_remote_code)
    for staged in others:
        outbox.forget(staged)
        print(f"given up: {staged.name} ({staged.message}), which waited for {staged.destination.repo_id}")


def _stage_with_scores(outbox: Outbox, *, trust_remote_code: bool) -> None:
    """Stage the newest model that waits once more, with the scores of a test that was made since."""
    from ner_lightning.checkpoints import read_checkpoint
    from ner_lightning.hub.folder import commit_message

    waiting = outbox.waiting()
    for record in outbox.run_dir.glob("**/checkpoints/*.test.json"):
        path = record.with_name(record.name.removesuffix(".test.json") + ".ckpt")
        if waiting and path.is_file() and commit_message(read_checkpoint(path)) == waiting[-1].message:
            _stage(outbox, path, waiting[-1].destination, trust_remote_code=trust_remote_code)
            return


def _stage(outbox: Outbox, path: Path, destination: Destination, *, trust_remote_code: bool) -> None:
    from ner_lightning.checkpoints import read_checkpoint
    from ner_lightning.hub.folder import commit_message, failure, writer

    checkpoint = read_checkpoint(path)
    about = replace(outbox.read_about(), repo_id=destination.repo_id)
    write = writer(path, checkpoint, about=about, trust_remote_code=trust_remote_code)
    message, step = commit_message(checkpoint), checkpoint["global_step"]
    try:
        outbox.stage(write, step=step, destination=destination, message=message)
    except OSError as error:
        raise InputError(
            f"{outbox.folder}: {failure(error)}; nothing was put in or sent, and what waited there still waits"
        ) from error
