"""One page about the errors of a run, to be opened in a browser: `python -m ner_lightning report`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict
from json import dumps
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from ner_lightning.checkpoints import find_checkpoint, run_folder
from ner_lightning.errors import InputError, refuse_without
from ner_lightning.files import refuse_unwritable, replacing
from ner_lightning.predict.forms import TaskFormat
from ner_lightning.reports.against import changes, differences, refuse_other_words, verdict
from ner_lightning.reports.errors_of import Pair, confusion, kinds_by_type, pairs, sentence_errors
from ner_lightning.reports.page import MARK, is_foreign, render
from ner_lightning.reports.predictions import Predictions, predictions_of
from ner_lightning.reports.slices import by_type, reliability, slices, thresholds
from ner_lightning.reports.suspects import suspects as suspects_of
from ner_lightning.reports.suspects import write_suspects

_LOGGED = ("train_loss", "val_loss", "val_f1", "val_precision", "val_recall", "val_accuracy")


def report(
    run: str,
    *,
    split: Literal["test", "validation"] = "test",
    against: str | None = None,
    file: str | None = None,
    output: str | None = None,
    json: bool = False,
    figures: str | None = None,
    suspects: str | None = None,
    suspects_format: TaskFormat | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
) -> Path:
    """Write a page that shows the errors of a run: one file, to be opened in a browser, without network.

    Args:
        run: Folder of a run (its best checkpoint), of several (the newest of them), or a checkpoint.
        split: Which split of its data: `test` or `validation`.
        against: Another run, to show what this one mended and what it broke.
        file: Data of that split, in place of what the runs record.
        output: The page; by default `report-test.html` in the folder of the run, or `report-validation.html`.
        json: Write the same numbers beside the page, under its name with `.json`.
        figures: A folder for the figures, as PNG and SVG; needs matplotlib, the extra `report` of this package.
        suspects: A new file for the sentences with likely annotation errors, the likeliest first, as tasks for people.
        suspects_format: What imports it: `label-studio` (the default), `doccano` or `prodigy`.
        device: Where to run: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Returns:
        The page.

    Raises:
        InputError: There is no such run or no such data, the runs have other data, or the page cannot be written.
    """
    if suspects is None:
        refuse_without("--suspects", suspects_format=suspects_format)
    checkpoint = _checkpoint(run)
    former = None if against is None else _checkpoint(against)
    page = run_folder(checkpoint) / f"report-{split}.html" if output is None else Path(output).expanduser()
    if page.suffix != ".html":
        raise InputError(f"--output={output}: give a name that ends in .html")
    written = [page, *([page.with_suffix(".json")] if json else [])]
    for path in written:
        if is_foreign(path):
            raise InputError(f"{path} is there already and is no report: give another name as --output")
        refuse_unwritable(path)
    tasks = None if suspects is None else Path(suspects).expanduser()
    if tasks is not None:
        if tasks.exists():
            raise InputError(f"--suspects={suspects} is there already: give the name of a new file")
        refuse_unwritable(tasks)
    write_figures = _drawing() if figures is not None else None
    options: dict[str, Any] = {"split": split, "file": file, "device": device, "trust_remote_code": trust_remote_code}
    found = predictions_of(checkpoint, **options)
    other = None if former is None else predictions_of(former, **options)
    if other is not None:
        refuse_other_words(found, other)
    numbers = numbers_of(found, other, metrics=run_folder(checkpoint) / "metrics.csv", against=str(against))
    about = {"made_by": MARK, "run": str(run_folder(checkpoint)), "checkpoint": str(checkpoint), "against": against}
    numbers = about | numbers
    for path, text in zip(written, (render(numbers), dumps(numbers) + "\n"), strict=False):
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    if tasks is not None:
        write_suspects(found, tasks, form=suspects_format or "label-studio")
    if figures is not None and write_figures is not None:
        write_figures(numbers, Path(figures).expanduser())
    return page


def numbers_of(
    found: Predictions, other: Predictions | None = None, *, metrics: Path | None = None, against: str = ""
) -> dict[str, Any]:
    """All that the page shows, as JSON has it.

    Args:
        found: What the run predicts.
        other: What another run predicts for the same words.
        metrics: The `metrics.csv` of the run; there may be none.
        against: The name of the other run.
    """
    joined = _joined(found)
    former = None if other is None else _joined(other)
    numbers: dict[str, Any] = {
        "split": {name: value for name, value in asdict(found.split).items() if name != "scores"},
        "sentences": len(found.sentences) - 1,
        "scores": found.split.scores,
        "marks_entities": found.entities,
        **numbers_of_pairs(joined),
        "slices": slices(found, joined) if found.entities else {},
        "learning": _learning(metrics),
        "errors": sentence_errors(found, joined, former),
        "suspects": suspects_of(found),
    }
    if other is not None and former is not None:
        rows = differences(found, other)
        told = {"verdict": verdict(rows[0], against), "scores": other.split.scores}
        numbers["difference"] = told | {"rows": rows, "changes": changes(joined, former)}
    return numbers


def numbers_of_pairs(found: Sequence[Pair]) -> dict[str, Any]:
    """What the page shows of entities alone: by type, as confusions, and by their score.

    Args:
        found: The true entities of a split and the predicted ones.
    """
    types = sorted({span.type for pair in found for span in pair if span})
    kinds = kinds_by_type(found, types)
    return {
        "types": [row | {"kinds": kinds[row["name"]]} for row in by_type(found, types)],
        "confusion": {"types": types, "rows": confusion(found, types)},
        "reliability": reliability(found),
        "thresholds": thresholds(found),
    }


def _checkpoint(run: str) -> Path:
    path = Path(run).expanduser()
    found = find_checkpoint(path, root=path)
    assert found is not None
    return found


def _drawing() -> Callable[[dict[str, Any], Path], None]:
    """Import matplotlib early: without it nothing is to be done."""
    try:
        from ner_lightning.reports.figures import write_figures
    except ModuleNotFoundError as error:
        raise InputError('--figures needs matplotlib: pip install "ner-lightning[report]"') from error
    return write_figures


def _joined(split: Predictions) -> list[Pair]:
    return pairs(split.spans("gold"), split.spans("predicted"))


def _learning(path: Path | None) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of what was logged, by name; empty where there is no file."""
    if path is None or not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = {name: [(int(row["step"]), float(row[name])) for row in rows if row.get(name)] for name in _LOGGED}
    finite = {name: [(step, value) for step, value in line if isfinite(value)] for name, line in lines.items()}
    return {name: line for name, line in finite.items() if line}
