"""Runs as one compares them: their seeds, options and scores, and sets of runs that differ in nothing but the seed.

All of it stands in checkpoints and beside them; Lightning is not needed.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from ner_lightning.checkpoints import data_state, find_checkpoint, read_checkpoint, run_folder
from ner_lightning.errors import InputError
from ner_lightning.intervals import Interval, difference_interval, f1_interval
from ner_lightning.scores import Counts, SplitScores, known_splits, read_test

log = logging.getLogger(__name__)

# options that make no other recipe: which run it is, where it runs, and what it shows
_FREE = {"seed_everything", "ckpt_path", "debug", "keep_memory"} | {
    f"trainer.{name}" for name in ("default_root_dir", "accelerator", "enable_progress_bar", "enable_model_summary")
}


@dataclass(frozen=True)
class Run:
    """A run: that of a checkpoint, with what its weights score."""

    checkpoint: Path
    seed: int | None  # None in a notebook
    options: dict[str, str]  # by their dotted names, without `_FREE`
    validation: dict[str, float]  # scores by name, empty where there are none
    test: SplitScores | None
    counts: Counts

    @property
    def folder(self) -> Path:
        """Of the run."""
        return run_folder(self.checkpoint)

    @property
    def tested_on(self) -> str:
        """The data of the test."""
        assert self.test is not None
        commit = f" at {self.test.commit[:7]}" if self.test.commit else ""
        return f"{self.test.dataset or self.test.file}{commit}"


class Spread(NamedTuple):
    """The mean of some scores and their standard deviation (of a sample: n - 1)."""

    mean: float
    sd: float | None  # None of a single one
    runs: int


class Difference(NamedTuple):
    """By how much the mean of one set is above that of another."""

    value: float
    interval: Interval | None  # None where there are no entities to draw


@dataclass(frozen=True)
class RunSet:
    """Runs of equal options; the seeds differ."""

    name: str
    runs: list[Run]  # by seed

    @property
    def tested(self) -> list[Run]:
        """Those with a test; none where they were tested on different data."""
        tested = [run for run in self.runs if run.test is not None]
        return [] if other_data(tested) else tested

    @property
    def validation(self) -> Spread | None:
        """F1 on validation."""
        return spread(run.validation["f1"] for run in self.runs if "f1" in run.validation)

    @property
    def test(self) -> Spread | None:
        """F1 on test."""
        return spread(scores(run)["f1"] for run in self.tested)

    @property
    def interval(self) -> Interval | None:
        """Of the mean F1 on test, by bootstrap over documents."""
        return f1_interval(_stacked(self.tested, "f1")) if _with_counts(self.tested) else None


def read_runs(place: str | Path) -> list[Run]:
    """The runs of a folder, or the one that a checkpoint is of; of runs with equal options and seed the newest.

    Args:
        place: A folder of runs (all below it count), that of a run (its best checkpoint), or a checkpoint.

    Raises:
        InputError: There is none.
    """
    path = Path(place).expanduser()
    if path.is_file() or path.suffix == ".ckpt":
        return [_read(path)]
    if not path.is_dir():
        raise InputError(f"{place}: no such folder; give that of a run or of several, or a checkpoint")
    runs = []
    folders = {file.parent for file in path.glob("**/checkpoints/*.ckpt")} or {path}
    for folder in sorted(folders):
        try:
            checkpoint = find_checkpoint(folder, root=folder)
            assert checkpoint is not None
            runs.append(_read(checkpoint))
        except InputError as error:
            if len(folders) == 1:
                raise
            log.warning("left out: %s", error)
    runs.sort(key=lambda run: run.checkpoint.stat().st_mtime)
    # a later one takes the place of an earlier one, which it went on from or repeated
    return list({(run.checkpoint if run.seed is None else run.seed, _recipe(run)): run for run in runs}.values())


def group(runs: Iterable[Run], *, place: Path) -> list[RunSet]:
    """Sets of runs that differ in nothing but their seed, best on validation first.

    Args:
        runs: The runs.
        place: The folder below which they are, for the names of the sets.
    """
    sets: dict[str, list[Run]] = {}
    for run in runs:
        sets.setdefault(_recipe(run), []).append(run)
    groups = [RunSet(_name(of_set, place), sorted(of_set, key=_by_seed)) for of_set in sets.values()]
    return sorted(groups, key=lambda of_set: -(of_set.validation.mean if of_set.validation else -1))


def one_set(place: str) -> RunSet:
    """The runs of a folder as one set.

    Raises:
        InputError: They differ in more than their seed.
    """
    runs = read_runs(place)
    sets = group(runs, place=Path(place))
    if len(sets) > 1:
        names = sorted({name for options in differing(sets) for name in options})
        raise InputError(
            f"{place}: its runs differ in more than their seed ({', '.join(names[:3])}{', ...' * (len(names) > 3)}): "
            "give the runs of one recipe, or this folder alone for a table of all"
        )
    return RunSet(place, sets[0].runs)


def differing(sets: Sequence[RunSet]) -> list[dict[str, str]]:
    """The options of each set in which it differs from any other."""
    every = [of_set.runs[0].options for of_set in sets]
    names = [n for n in sorted(set().union(*every)) if len({options.get(n) for options in every}) > 1]
    return [{name: options[name] for name in names if name in options} for options in every]


def other_data(runs: Sequence[Run]) -> str | None:
    """Why the tests of runs cannot be compared, in a sentence; None where they were made on the same data."""
    for run in runs[1:]:
        first = runs[0]
        both = f"{run.folder} and {first.folder}"
        if run.tested_on != first.tested_on:
            return f"{both} were tested on different data, {run.tested_on} and {first.tested_on}"
        if not _with_counts([run, first]):
            continue
        sizes = [len(next(iter(each.counts.values()))) for each in (run, first)]
        if sizes[0] != sizes[1]:
            return (
                f"{both} were tested on different data: {run.tested_on} had {sizes[0]:,} {unit(run)}, and {sizes[1]:,}"
            )
        if _gold(run) != _gold(first):
            return f"{both} were tested on different data: the entities of {run.tested_on} have changed"
    return None


def differences(of_set: RunSet, less: RunSet) -> dict[str, Difference]:
    """By how much the scores of a test are above those of another set, overall (`f1`) and by type (`f1_PER`).

    Args:
        of_set: Tested on the same data.
        less: The other set.
    """
    runs, others = of_set.tested, less.tested
    counted = _with_counts([*runs, *others])
    names = {name for run in (*runs, *others) for name in scores(run) if name.startswith("f1_")}
    found = {}
    for name in ["f1", *sorted(names), *(["accuracy"] if not counted else [])]:
        mean, other = (statistics.fmean(scores(run).get(name, 0.0) for run in each) for each in (runs, others))
        interval = difference_interval(_stacked(runs, name), _stacked(others, name)) if counted else None
        found[name] = Difference(mean - other, interval)
    return found


def spread(values: Iterable[float]) -> Spread | None:
    """Mean and standard deviation; None of nothing."""
    every = list(values)
    if not every:
        return None
    return Spread(statistics.fmean(every), statistics.stdev(every) if len(every) > 1 else None, len(every))


def scores(run: Run) -> dict[str, float]:
    """Of the test."""
    return run.test.scores if run.test else {}


def unit(run: Run) -> str:
    """What is drawn for the intervals of a test: documents, or sentences where there are none."""
    return "documents" if "interval_documents" in scores(run) else "sentences"


def _read(path: Path) -> Run:
    checkpoint = read_checkpoint(path)
    config = yaml.safe_load(checkpoint.get("config", "{}"))
    recorded = config or {
        "model": checkpoint["hyper_parameters"],
        "data": checkpoint.get("datamodule_hyper_parameters", {}),
    }
    options = {name: value for name, value in _flat(recorded) if name not in _FREE}
    validated = (split.scores for split in known_splits(checkpoint) if split.name == "validation")
    test, counts = read_test(path)
    seed = config.get("seed_everything", data_state(checkpoint).get("seed"))
    return Run(path, seed, options, next(validated, {}), test, counts)


def _flat(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str) else json.dumps(value, default=str)


def _recipe(run: Run) -> str:
    return json.dumps(run.options, sort_keys=True)


def _name(runs: list[Run], place: Path) -> str:
    """The folder that a set has for itself, or its runs."""
    names = sorted(os.path.relpath(run.folder, place) for run in runs)
    if (common := os.path.commonpath(names)) not in ("", "."):
        return common
    if names == ["."]:
        return str(place)
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _by_seed(run: Run) -> tuple[int, str]:
    return -1 if run.seed is None else run.seed, str(run.checkpoint)


def _with_counts(runs: Sequence[Run]) -> bool:
    return bool(runs) and all(run.counts for run in runs)


def _stacked(runs: Sequence[Run], name: str) -> NDArray[np.int64]:
    """The counts of runs, of one type or of all: (runs, units, 3)."""
    if name == "f1":
        return np.stack([np.sum(list(run.counts.values()), axis=0) for run in runs])
    types = [run.counts.get(name.removeprefix("f1_")) for run in runs]
    nothing = np.zeros_like(next(iter(runs[0].counts.values())))
    return np.stack([nothing if counts is None else counts for counts in types])


def _gold(run: Run) -> dict[str, list[int]]:
    gold = {name: counts[:, 2].tolist() for name, counts in run.counts.items()}
    return {name: numbers for name, numbers in gold.items() if any(numbers)}
