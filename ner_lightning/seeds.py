"""The same training with several seeds, each a `fit` in a process of its own: `python -m ner_lightning seeds`.

A set of seeds has a folder in the folder of runs, `seeds_0`. In it are the runs of each seed, in `seed_42`, and
`seeds.json`: the options, by which the same command finds its set again, which seeds are done, and their scores.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ner_lightning.errors import UsageError
from ner_lightning.files import replacing
from ner_lightning.processes import alone_in, config_of_fit, find_folder, finished_run, fit_in, run_command
from ner_lightning.reports.compare import as_json, seeds_text
from ner_lightning.reports.runs import Run, group, read_runs


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
    given = given_seeds(seeds)
    config = config_of_fit(fit_options, command="seeds")
    numbers = all_seeds(given, first=config.pop("seed_everything"))
    test = test and (config["data"]["test_file"] is not None or config["data"]["train_file"] is None)
    of_set = SeedSet(find_folder(Path(config["trainer"]["default_root_dir"] or "."), "seeds", config), config)
    with alone_in(of_set.folder):
        failed = of_set.train(numbers, fit_options, test=test)
    of_set.show()
    if failed:
        print(f"failed: {', '.join(failed)} (see above; the same command tries again)", file=sys.stderr)
    return not failed


def given_seeds(seeds: str) -> list[int]:
    """How many seeds, alone, or which ones.

    Args:
        seeds: The value of `--seeds`.

    Raises:
        UsageError: There are no such seeds.
    """
    try:
        numbers = [int(number) for number in seeds.split(",")]
    except ValueError as error:
        raise UsageError(f"--seeds={seeds}: give how many, such as 5, or which ones, such as 1,7,13") from error
    if len(numbers) == 1 and numbers[0] < 1:
        raise UsageError(f"--seeds={seeds}: give a number from 1")
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--seeds={seeds}: a seed is there twice")
    return numbers


def all_seeds(given: list[int], *, first: int | bool) -> list[int]:
    """Which seeds.

    Args:
        given: As `given_seeds` has them.
        first: The seed of the options, from which they are counted.

    Raises:
        UsageError: They are to be counted, and the first one is to be drawn.
    """
    if len(given) > 1:
        return given
    if isinstance(first, bool):
        raise UsageError(f"--seed_everything={first}: give the first seed, or all of them, such as --seeds=1,7,13")
    return list(range(first, first + given[0]))


class SeedSet:
    """A folder of seeds, and what is known of it.

    Args:
        folder: It; made if it is not there.
        config: Of its runs, without their seed.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self._path = folder, folder / "seeds.json"
        new = {"config": config, "trained": [], "tested": []}
        self._known: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else new

    def train(self, numbers: Sequence[int], fit_options: Sequence[str], *, test: bool) -> list[str]:
        """Train and test what is not done yet; gives what has failed.

        Args:
            numbers: The seeds.
            fit_options: All other options of `fit`.
            test: Test them, too.
        """
        self._save()
        failed = []
        for number in numbers:
            own = self.folder / f"seed_{number}"
            if not self._train(number, fit_options):
                failed.append(f"fit of seed {number}")
                if not any(own.glob("version_*")):  # an option or the data was refused, and would be again
                    break
            elif test and not self._test(number):
                failed.append(f"test of seed {number}")
        return failed

    def show(self) -> None:
        """Print the scores of all seeds that are trained, and write them."""
        if not (runs := self.runs()):
            return
        sets = group(runs, place=self.folder)
        self._save(scores=as_json(sets))
        print("\n" + "\n\n".join(map(seeds_text, sets)) + f"\n\nwritten     {self._path}")

    def runs(self) -> list[Run]:
        """Those that are trained."""
        trained = set(self._known["trained"])
        return [run for run in read_runs(self.folder) if run.seed in trained] if trained else []

    def _train(self, number: int, fit_options: Sequence[str]) -> bool:
        """Train, unless that was done before; whether it is done."""
        if number in self._known["trained"]:
            return True
        own = self.folder / f"seed_{number}"
        if finished_run(own) is None:
            args = fit_in(own, [*fit_options, f"--seed_everything={number}"])
            if run_command(f"seed {number}", args) != 0:
                return False
        self._save(trained=[*self._known["trained"], number])
        return True

    def _test(self, number: int) -> bool:
        if number in self._known["tested"]:
            return True
        args = ["test", f"--ckpt_path={self.folder / f'seed_{number}'}", *self._devices()]
        if run_command(f"seed {number}", args) != 0:
            return False
        self._save(tested=[*self._known["tested"], number])
        return True

    def _devices(self) -> list[str]:
        """Where to test: where the training was told to run."""
        trainer = self._known["config"]["trainer"]
        given = {name: trainer[name] for name in ("accelerator", "devices") if trainer[name] != "auto"}
        return [f"--trainer.{name}={v if isinstance(v, str) else json.dumps(v)}" for name, v in given.items()]

    def _save(self, **more: Any) -> None:
        self._known |= more
        with replacing(self._path) as partial:
            partial.write_text(json.dumps(self._known, indent=2) + "\n", encoding="utf-8")
