"""Tables that compare runs, and what may be said of their difference: `python -m ner_lightning compare`."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from json import dumps
from pathlib import Path
from typing import Any

from ner_lightning.errors import InputError
from ner_lightning.intervals import Interval
from ner_lightning.reports.columns import table
from ner_lightning.reports.runs import (
    Difference,
    RunSet,
    Spread,
    differences,
    differing,
    group,
    one_set,
    other_data,
    read_runs,
    scores,
    unit,
)

_FEW = 3  # seeds, of which fewer say little of others


def compare(runs: Sequence[str], *, json: bool = False) -> None:
    """Compare the scores of runs, or of sets of runs that differ in their seed.

    Args:
        runs: One folder, for a table of all runs in it, or two and more to compare: folders of runs with several
            seeds, of a run, or checkpoints. Each is compared with the first.
        json: Print JSON instead of tables.

    Raises:
        InputError: There is no such run, the runs of a set differ in more than their seed, or they were tested on
            different data.
    """
    if len(runs) == 1:
        every, place = read_runs(runs[0]), Path(runs[0]).expanduser()
        sets = group(every, place=place if place.is_dir() else every[0].folder)
        pairs: list[tuple[RunSet, RunSet]] = []
    else:
        sets = [one_set(place) for place in runs]
        pairs = [(later, sets[0]) for later in sets[1:]]
        if other := other_data([run for of_set in sets for run in of_set.runs if run.test is not None]):
            raise InputError(f"{other}: test them on the same with `test --ckpt_path=... --data.test_file=...`")
    if json:
        print(dumps({"sets": as_json(sets), "differences": [_difference_json(*pair) for pair in pairs]}, indent=2))
        return
    parts = [seeds_text(sets[0])] if len(sets) == 1 else [_sets_text(sets)]
    print("\n\n".join([*parts, *(_difference_text(*pair) for pair in pairs)]))


def seeds_text(of_set: RunSet) -> str:
    """The runs of a set as a table, best on validation first, with their mean and standard deviation."""
    rows = []
    for run in sorted(of_set.runs, key=lambda run: -run.validation.get("f1", -1)):
        numbers = [_percent(each.get("f1")) for each in (run.validation, scores(run))]
        rows.append(["-" if run.seed is None else str(run.seed), str(run.folder), *numbers, _own_interval(scores(run))])
    if len(rows) > 1:
        both = (of_set.validation, of_set.test)
        rows.append(["mean", "", *(_percent(each and each.mean) for each in both), _between(of_set.interval)])
        rows.append(["sd", "", *(_percent(each and each.sd) for each in both), ""])
    return table(["seed", "run", "val_f1", "test_f1", "95 % interval"], rows, left=2)


def as_json(sets: Sequence[RunSet]) -> list[dict[str, Any]]:
    """Sets with their runs and scores, as JSON has them: shares of one, as everywhere but in tables."""
    return [
        {
            "set": of_set.name,
            "options": options,
            "validation": _spread_json(of_set.validation),
            "test": _spread_json(of_set.test) | ({"interval": of_set.interval} if of_set.interval else {}),
            "runs": [
                {"checkpoint": str(run.checkpoint), "seed": run.seed, "validation": run.validation, "test": scores(run)}
                for run in of_set.runs
            ],
        }
        for of_set, options in zip(sets, differing(sets), strict=True)
    ]


def _sets_text(sets: Sequence[RunSet]) -> str:
    rows = []
    for of_set in sets:
        runs = len(of_set.runs)
        cells = [_spread(of_set.validation, runs), _spread(of_set.test, runs), _between(of_set.interval)]
        rows.append([of_set.name, str(runs), *cells])
    parts = [table(["runs", "seeds", "val_f1", "test_f1", "95 % interval"], rows)]
    if any(options := differing(sets)):
        width = max(40, shutil.get_terminal_size().columns - max(len(of_set.name) for of_set in sets) - 2)
        rows = []
        for of_set, own in zip(sets, options, strict=True):
            text = textwrap.wrap("  ".join(f"{name}={value}" for name, value in own.items()), width) or [""]
            rows += map(list, zip_longest([of_set.name], text, fillvalue=""))
        parts.append(table(["runs", "options that differ"], rows, left=2))
    data = {of_set.name: sorted({run.tested_on for run in of_set.runs if run.test}) for of_set in sets}
    if len({name for names in data.values() for name in names}) > 1:
        rows = [[name, ", ".join(names) or "-"] for name, names in data.items()]
        parts.append("not all were tested on the same data:\n" + table(["runs", "tested on"], rows, left=2))
    return "\n\n".join(parts)


def _difference_text(of_set: RunSet, less: RunSet) -> str:
    title = f"{of_set.name} less {less.name}"
    untested = [run for each in (of_set, less) for run in each.runs if run.test is None]
    if untested:
        both = [each.validation for each in (of_set, less)]
        told = f", {100 * (both[0].mean - both[1].mean):+.2f} in val_f1" if both[0] and both[1] else ""
        return (
            f"{title}: no test to compare{told}; run `python -m ner_lightning test --ckpt_path={untested[0].folder}`"
            f"{' and those of the other seeds' if len(untested) > 1 else ''}"
        )
    found = differences(of_set, less)
    rows = [[name.removeprefix("f1_"), _signed(value), _between(interval)] for name, (value, interval) in found.items()]
    shown = table(["", "difference", "95 % interval"], [*rows[1:], ["all", *rows[0][1:]]])
    return f"{title}, test F1:\n\n{shown}\n\n{_verdict(found['f1'], of_set, less)}"


def _verdict(f1: Difference, of_set: RunSet, less: RunSet) -> str:
    if f1.interval is None:
        why = "these labels mark no entities"
        if any(_own_interval(scores(each)) != "-" for each in (*of_set.runs, *less.runs)):
            why = "a test was made before counts were kept: run it again"
        return f"the difference is {_signed(f1.value)}, without an interval: {why}"
    low, high = (round(100 * end, 2) + 0.0 for end in f1.interval)  # as it is shown, and without -0
    if low <= 0 <= high:
        told = f"no difference can be told: {low:.2f} to {high:.2f}"
    else:
        better, (low, high) = (of_set, (low, high)) if low > 0 else (less, (-high, -low))
        told = f"{better.name} is better by {abs(100 * f1.value):.2f} ({low:.2f} to {high:.2f})"
    run = less.runs[0]
    few = min(len(of_set.runs), len(less.runs)) < _FEW
    others = "; other seeds may say otherwise: `seeds` trains more of them" * few
    return f"{told}\n(over {len(next(iter(run.counts.values()))):,} {unit(run)}{others})"


def _difference_json(of_set: RunSet, less: RunSet) -> dict[str, Any]:
    tested = all(run.test for each in (of_set, less) for run in each.runs)
    found = differences(of_set, less) if tested else {}
    return {"set": of_set.name, "less": less.name, "test": {name: each._asdict() for name, each in found.items()}}


def _spread_json(scores: Spread | None) -> dict[str, Any]:
    return scores._asdict() if scores else {}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.2f}"


def _between(interval: Interval | None) -> str:
    return "-" if interval is None else f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"


def _own_interval(scores: dict[str, float]) -> str:
    low, high = (scores.get(f"interval_{end}") for end in ("low", "high"))
    return "-" if low is None or high is None else _between(Interval(low, high))


def _spread(scores: Spread | None, runs: int) -> str:
    """Mean and standard deviation, with the number of scores where it is not that of the runs."""
    if scores is None:
        return "-"
    sd = "" if scores.sd is None else f" +- {100 * scores.sd:.2f}"
    return f"{100 * scores.mean:.2f}{sd}{f' ({scores.runs})' if scores.runs != runs else ''}"
