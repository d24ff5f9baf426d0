"""Commands of this program that another one runs, each in a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from ner_lightning.checkpoints import newest_checkpoint, read_checkpoint, what_is_done
from ner_lightning.errors import UsageError
from ner_lightning.files import locked

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]  # which stop a run, see `interruption`
GRACE = 5.0  # seconds that one of several processes has to say why it ends, while the others do
_LAUNCHER = "NER_LIGHTNING_LAUNCHER"  # the process that starts others, in their environment


def config_of_fit(fit_options: Sequence[str], *, command: str) -> dict[str, Any]:
    """What options make of `fit`, which itself refuses those that are none.

    Args:
        fit_options: All options.
        command: The one that runs `fit` several times.

    Raises:
        UsageError: They go on with a single run.
    """
    print_config = [sys.executable, "-m", "ner_lightning", "fit", *fit_options, "--print_config"]
    asked = subprocess.run(print_config, stdout=subprocess.PIPE, text=True, check=False)
    if asked.returncode:
        raise SystemExit(asked.returncode)
    config: dict[str, Any] = yaml.safe_load(asked.stdout)
    if config["ckpt_path"] is not None:
        raise UsageError(
            f"--ckpt_path goes on with a single run: leave it out, `{command}` itself goes on with its own"
        )
    return config


def find_folder(root: Path, name: str, config: dict[str, Any]) -> Path:
    """The folder of a command that was run with this config before, or a new one.

    Args:
        root: The folder in which runs are kept.
        name: Of the command; `seeds` finds the config in files such as `seeds_0/seeds.json`.
        config: What its options make of `fit`.
    """
    for path in root.glob(f"{name}_*/{name}.json"):
        with suppress(ValueError, OSError):
            if json.loads(path.read_text(encoding="utf-8"))["config"] == config:
                return path.parent
    return new_folder(root, name)


def new_folder(root: Path, name: str) -> Path:
    """Make a folder for the runs of a command, such as `seeds_0`.

    Args:
        root: The folder in which runs are kept.
        name: Of the command.
    """
    number = 0
    while True:
        try:
            (folder := root / f"{name}_{number}").mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from such a folder, and remove it at the end where no run has begun.

    Args:
        folder: It; the runs are in folders of their own in it.

    Raises:
        InputError: Another process is there.
    """
    with locked(folder, does="trains here"):
        try:
            yield
        finally:
            if not any(folder.glob("**/version_*")):
                shutil.rmtree(folder)


def finished_run(own: Path) -> dict[str, Any] | None:
    """The last checkpoint of a run that has nothing left to do, though it may have been killed before it said so.

    Args:
        own: The folder of the run and of those that it goes on from.
    """
    path = newest_checkpoint(own, kind="last")
    checkpoint = None if path is None else read_checkpoint(path)
    if checkpoint is None:
        return None
    limits = yaml.safe_load(checkpoint["config"])["trainer"]
    done = what_is_done(checkpoint, max_epochs=limits["max_epochs"], max_steps=limits["max_steps"])
    return checkpoint if done else None


def fit_in(own: Path, options: Sequence[str]) -> list[str]:
    """A `fit` with its runs in a folder of its own, on from the last checkpoint there.

    Args:
        own: The folder.
        options: All else.
    """
    goes_on = [] if newest_checkpoint(own, kind="last") is None else ["--ckpt_path=last"]
    return ["fit", *options, f"--trainer.default_root_dir={own}", *goes_on]


def run_command(title: str, args: Sequence[str], *, inside: Sequence[str] = ()) -> int:
    """Run a command, show it, and pass on to it what signals tell this process, which ends when it has ended.

    Args:
        title: What it is for.
        args: The command and its arguments.
        inside: The module of this package that runs it, and its own arguments; by default the program itself.

    Returns:
        Its exit code.
    """
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        # Ctrl-C, which a terminal sends to both: twice it would end the child within a step
        child.send_signal(signal.SIGTERM if number == signal.SIGINT else number)

    print(f"\n{title}     python -m ner_lightning {shlex.join(args)}", flush=True)
    env = os.environ | {_LAUNCHER: str(os.getpid())}
    child = subprocess.Popen([sys.executable, "-m", *(inside or ["ner_lightning"]), *args], env=env)
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signals:
        print("stopped     the same command goes on", file=sys.stderr)
        raise SystemExit(128 + signals[0])
    return code


@contextmanager
def ending_with_launcher() -> Iterator[None]:
    """End this process when the one that started it does, for whatever reason: Lightning's first, torchrun, a command.

    Beside a first one that is gone it might wait in the network for half an hour; after a command it would train beside
    the next one, which goes on with the same runs.
    """
    torchrun = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
    before = os.environ.get(_LAUNCHER, torchrun)
    if before is not None and ("LOCAL_RANK" in os.environ or int(before) == os.getppid()):
        threading.Thread(target=_end_with, args=[int(before)], daemon=True).start()
    os.environ[_LAUNCHER] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(_LAUNCHER, None)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    if "LOCAL_RANK" in os.environ:
        time.sleep(GRACE)
    os._exit(1)
