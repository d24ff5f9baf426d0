"""The page itself: a template with its style and its script, which become one file that needs no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from ner_lightning.reports.charts import Chart
from ner_lightning.reports.errors_of import KINDS

MARK = "ner_lightning report"  # stands at the beginning of what may be replaced
SLICES = {
    "seen": "Seen in training",
    "words": "Words of the entity",
    "pieces": "Sub-words a word",
    "sentence": "Words of the sentence",
}


def render(numbers: dict[str, Any]) -> str:
    """The page as HTML.

    Args:
        numbers: As `report.numbers_of` gives them.
    """
    templates = Environment(
        loader=PackageLoader("ner_lightning.reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= {"percent": _percent, "signed": lambda share: f"{100 * share:+.2f}"}
    charts = {chart.name: chart for chart in charts_of(numbers)}
    wrong = (
        n for row, counts in enumerate(numbers["confusion"]["rows"]) for column, n in enumerate(counts) if row != column
    )
    more = {"charts": charts, "slice_titles": SLICES, "kinds": KINDS, "most": max([*wrong, 1])}
    return templates.get_template("page.html").render(numbers | more)


def charts_of(numbers: dict[str, Any]) -> list[Chart]:
    """The charts of a page, without those that have nothing to show.

    Args:
        numbers: As above.
    """
    learning = numbers.get("learning", {})
    losses = {name: learning[name] for name in ("train_loss", "val_loss") if name in learning}
    scores = {name: line for name, line in learning.items() if name not in losses}
    bins, rows = numbers["reliability"], numbers["thresholds"]
    by_name = {
        name: [(row["threshold"], row[name]) for row in rows if row[name] is not None]
        for name in ("precision", "recall", "f1")
        if any(row[name] is not None for row in rows)
    }
    points = {"predicted entities": [(each["score"], each["right"]) for each in bins]} if bins else {}
    charts = [
        Chart("loss", "Loss by step", "step", "loss", losses),
        Chart("scores", "Scores of validation by step", "step", "score", scores, share=True),
        Chart("reliability", "Share of right entities by their score", "mean score", "right", points, unit=True),
        Chart("thresholds", "Scores by the least score of what is kept", "least score", "share", by_name, share=True),
    ]
    return [chart for chart in charts if any(chart.lines.values())]


def is_foreign(path: Path) -> bool:
    """Whether a file is there that no report has written.

    Args:
        path: The file.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.encode() not in file.read(1000)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
