"""The figures of a report as PNG and SVG, by matplotlib, for papers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ner_lightning.errors import InputError
from ner_lightning.files import replacing
from ner_lightning.reports.charts import Chart
from ner_lightning.reports.errors_of import KINDS, NONE
from ner_lightning.reports.page import MARK, SLICES, charts_of, is_foreign

_STYLES = ("-", "--", ":", "-.")


def write_figures(numbers: dict[str, Any], folder: Path) -> None:
    """Write each figure as PNG and SVG.

    Args:
        numbers: As `report.numbers_of` gives them.
        folder: Where to; it is made.

    Raises:
        InputError: A file would be replaced that is no figure of a report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = figures_of(numbers).items()
    files = {folder / f"{name}{suffix}": figure for name, figure in figures for suffix in (".png", ".svg")}
    for path in files:
        if is_foreign(path):
            raise InputError(f"--figures={folder}: {path.name} is there already and is no figure of a report")
    for path, figure in files.items():
        of_report = {"Title" if path.suffix == ".svg" else "Software": MARK}
        with replacing(path) as partial:
            figure.savefig(partial, format=path.suffix[1:], dpi=200, metadata=of_report)


def figures_of(numbers: dict[str, Any]) -> dict[str, Figure]:
    """Draw each figure that has something to show, by its name.

    Args:
        numbers: As `report.numbers_of` gives them; of `report.numbers_of_pairs` too, which has no slices and no curves.
    """
    figures = {chart.name: _lines(chart) for chart in charts_of(numbers)}
    slices = numbers.get("slices", {}).items()
    figures |= {name: _bars(rows, SLICES[name]) for name, rows in slices if rows}
    if types := numbers["types"]:
        confusion = _confusion(**numbers["confusion"])
        figures |= {"types": _by_type(types), "kinds": _kinds(types), "confusion": confusion}
    return figures


def _lines(chart: Chart) -> Figure:
    figure, axes = _figure(chart.x, chart.y)
    if chart.unit:
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for number, (name, line) in enumerate(chart.lines.items()):
        xs, ys = zip(*line, strict=True)
        axes.plot(xs, ys, _STYLES[number % 4], marker="o" if len(line) <= 20 else None, label=name)
    if len(chart.lines) > 1:
        axes.legend()
    return figure


def _bars(rows: list[dict[str, Any]], title: str) -> Figure:
    figure, axes = _figure(title, "F1")
    axes.bar([f"{row['name']}\n({row['gold']})" for row in rows], [row["f1"] or 0 for row in rows])
    axes.tick_params("x", labelsize=7)
    axes.set_ylim(0, 1)
    return figure


def _by_type(types: list[dict[str, Any]]) -> Figure:
    figure, axes = _figure("F1", "", rows=len(types))
    bars = axes.barh([f"{row['name']} ({row['gold']})" for row in types], [row["f1"] or 0 for row in types])
    axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
    axes.set_xlim(0, 1.1)
    axes.invert_yaxis()
    return figure


def _kinds(types: list[dict[str, Any]]) -> Figure:
    figure, axes = _figure("entities", "", rows=len(types))
    left = [0] * len(types)
    for kind in KINDS[1:]:
        counts = [row["kinds"][kind] for row in types]
        axes.barh([row["name"] for row in types], counts, left=left, label=kind)
        left = [before + count for before, count in zip(left, counts, strict=True)]
    axes.legend(fontsize=7)
    axes.invert_yaxis()
    return figure


def _confusion(types: list[str], rows: list[list[int]]) -> Figure:
    figure, axes = _figure("predicted", "true", rows=len(rows))
    wrong = [[0 if row == column else count for column, count in enumerate(counts)] for row, counts in enumerate(rows)]
    axes.imshow(wrong, cmap="Reds")
    names = [*types, NONE]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    for row, counts in enumerate(rows if len(names) <= 20 else []):
        for column, count in enumerate(counts):
            colour = "white" if wrong[row][column] > max(map(max, wrong)) / 2 else "black"
            axes.text(column, row, count or "", color=colour, ha="center", va="center", fontsize=7)
    return figure


def _figure(x: str, y: str, *, rows: int = 0) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4.8, max(3.2, 0.2 * rows)), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes
