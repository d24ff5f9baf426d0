"""The same training with several seeds, each a `fit` in a process of its own: `python -m ner_lightning seeds`.

A set of seeds has a folder in the folder of runs, `seeds_0`. In it are the runs of each seed, in `seed_42`, and
`seeds.json`: the options, by which the same command finds its set again, which seeds are done, and their scores.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ner_lightning.errors import InputError, UsageError
from ner_lightning.files import replacing
from ner_lightning.reports.compare import as_json, seeds_text
from ner_lightning.reports.runs import group, read_runs

_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]  # which stop a run, see `interruption`


def seeds(fit_options: Sequence[str], *, seeds: str = "5", test: bool = True) -> bool:
    """Train with several seeds, one after another, and show their scores with mean and standard deviation.

    Args:
        fit_options: All options of `fit`, such as `--config conll`. The same command again goes on where it was
            stopped, and trains no seed twice.
        seeds: How many, from that of `--seed_everything` on, or which ones, such as `1,7,13`.
        test: Test the best checkpoint of each seed, where there is test data.

    Returns:
        Whether all were trained and tested.

    Raises:
        UsageError: There are no such seeds, or an option is for a single run.
        InputError: Another process trains them.
    """
    given = _given(seeds)
    config = _config(fit_options)
    first = config.pop("seed_everything")
    numbers = given if len(given) > 1 else _following(first, given[0])
    test = test and (config["data"]["test_file"] is not None or config["data"]["train_file"] is None)
    of_set = _find(Path(config["trainer"]["default_root_dir"] or "."), config)
    try:
        with FileLock(of_set.folder / ".lock", timeout=0):
            failed = of_set.train(numbers, fit_options, test=test)
    except Timeout as error:
        raise InputError(f"{of_set.folder}: another process trains these seeds; wait for it, or end it") from error
    of_set.show()
    if failed:
        print(f"failed: {', '.join(failed)} (see above; the same command tries again)", file=sys.stderr)
    return not failed


class _SeedSet:
    """A folder of seeds, and what is known of it."""

    def __init__(self, folder: Path, known: dict[str, Any]) -> None:
        self.folder, self._known = folder, known

    def train(self, numbers: Sequence[int], fit_options: Sequence[str], *, test: bool) -> list[str]:
        """Train and test what is not done yet; gives what has failed."""
        self._save()
        failed = []
        try:
            for number in numbers:
                own = self.folder / f"seed_{number}"
                goes_on = ["--ckpt_path=last"] if any(own.glob("version_*/checkpoints/*.ckpt")) else []
                place = [f"--seed_everything={number}", f"--trainer.default_root_dir={own}"]
                if not self._done("trained", number, ["fit", *fit_options, *place, *goes_on]):
                    failed.append(f"fit of seed {number}")
                    if not any(own.glob("version_*")):  # an option or the data was refused, and would be again
                        break
                elif test and not self._done("tested", number, ["test", f"--ckpt_path={own}", *self._devices()]):
                    failed.append(f"test of seed {number}")
        finally:
            if not any(self.folder.glob("seed_*")):  # no run has begun
                shutil.rmtree(self.folder)
        return failed

    def show(self) -> None:
        """Print the scores of all seeds that are trained, and write them."""
        trained = set(self._known["trained"])
        if not trained:
            return
        runs = [run for run in read_runs(self.folder) if run.seed in trained]
        sets = group(runs, place=self.folder)
        self._save(scores=as_json(sets))
        print("\n" + "\n\n".join(map(seeds_text, sets)) + f"\n\nwritten     {self.folder / 'seeds.json'}")

    def _done(self, what: str, number: int, args: list[str]) -> bool:
        """Run a command, unless that was done before; whether it is done."""
        if number in self._known[what]:
            return True
        print(f"\nseed {number}     python -m ner_lightning {shlex.join(args)}", flush=True)
        code, stopped = _run(args)
        if code == 0:
            self._save(**{what: [*self._known[what], number]})
        if stopped is not None:
            print("stopped     the same command goes on", file=sys.stderr)
            raise SystemExit(128 + stopped)
        return code == 0

    def _devices(self) -> list[str]:
        """Where to test: where the training was told to run."""
        trainer = self._known["config"]["trainer"]
        given = {name: trainer[name] for name in ("accelerator", "devices") if trainer[name] != "auto"}
        return [f"--trainer.{name}={v if isinstance(v, str) else json.dumps(v)}" for name, v in given.items()]

    def _save(self, **more: Any) -> None:
        self._known |= more
        with replacing(self.folder / "seeds.json") as partial:
            partial.write_text(json.dumps(self._known, indent=2) + "\n", encoding="utf-8")


def _given(seeds: str) -> list[int]:
    """How many seeds, alone, or which ones."""
    try:
        numbers = [int(number) for number in seeds.split(",")]
    except ValueError as error:
        raise UsageError(f"--seeds={seeds}: give how many, such as 5, or which ones, such as 1,7,13") from error
    if len(numbers) == 1 and numbers[0] < 1:
        raise UsageError(f"--seeds={seeds}: give a number from 1")
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--seeds={seeds}: a seed is there twice")
    return numbers


def _following(first: int | bool, count: int) -> list[int]:
    if isinstance(first, bool):
        raise UsageError(f"--seed_everything={first}: give the first seed, or all of them, such as --seeds=1,7,13")
    return list(range(first, first + count))


def _config(fit_options: Sequence[str]) -> dict[str, Any]:
    """What the options make of `fit`, which itself refuses those that are none."""
    command = [sys.executable, "-m", "ner_lightning", "fit", *fit_options, "--print_config"]
    asked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if asked.returncode:
        raise SystemExit(asked.returncode)
    config: dict[str, Any] = yaml.safe_load(asked.stdout)
    if config["ckpt_path"] is not None:
        raise UsageError("--ckpt_path goes on with a single run: leave it out, `seeds` itself goes on with its own")
    return config


def _find(root: Path, config: dict[str, Any]) -> _SeedSet:
    """The set with these options, or a new one."""
    for path in root.glob("seeds_*/seeds.json"):
        with suppress(ValueError, OSError):
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["config"] == config:
                return _SeedSet(path.parent, known)
    number = 0
    while True:
        try:
            (folder := root / f"seeds_{number}").mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return _SeedSet(folder, {"config": config, "trained": [], "tested": []})


def _run(args: list[str]) -> tuple[int, int | None]:
    """Run a command of this program; gives its exit code, and the signal that stops it and this process."""
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        if number != signal.SIGINT:  # which the terminal sends to both
            child.send_signal(number)

    child = subprocess.Popen([sys.executable, "-m", "ner_lightning", *args])
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code, signals[0] if signals else None
