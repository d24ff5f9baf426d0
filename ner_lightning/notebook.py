"""Dictionaries that a notebook shows as tables: what `describe` tells of a corpus, and scores.

In all else they are the dictionaries that they hold. Words and file names of others stand in them: all is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_SHOWN = 40  # sub-words of the first sentence


def table(header: Sequence[object], rows: Iterable[Sequence[object]], *, left: int = 1) -> str:
    """Rows as HTML.

    Args:
        header: Of the columns.
        rows: Cells; whole numbers have their thousands parted.
        left: So many columns stand to the left, all others, which hold numbers, to the right.
    """

    def line(tag: str, cells: Sequence[object]) -> str:
        sides = ["left"] * left + ["right"] * (len(cells) - left)
        texts = (f"{cell:,}" if type(cell) is int else escape(str(cell)) for cell in cells)
        parts = (f'<{tag} style="text-align: {s}">{text}</{tag}>' for s, text in zip(sides, texts, strict=True))
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line("td", cells) for cells in rows)
    return f"<table><thead>{line('th', header)}</thead><tbody>{body}</tbody></table>"


class Description(dict[str, Any]):
    """What `TokenClassificationDataModule.describe` tells of a corpus."""

    def _repr_html_(self) -> str:
        """Show source, splits, labels and the first sentence."""
        known = [(name, value) for name, value in self["source"].items() if value is not None]
        parts = [table(["source", "value"], known, left=2)]
        for title, rows in (("split", self["splits"]), ("label", self["labels"])):
            columns = list(next(iter(rows.values()), {}))
            parts.append(table([title, *columns], [[name, *row.values()] for name, row in rows.items()]))
        if self["first_row"]:
            pieces = [[piece, word or "", label or "-"] for piece, word, label in self["alignment"][:_SHOWN]]
            parts.append(f"<p>first sentence: {escape(' '.join(self['first_row']['tokens']))}</p>")
            parts.append(table(["sub-word", "word", "label"], pieces, left=3))
        return "".join(parts)


class Scores(dict[str, float]):
    """Scores as `EntityScore` computes them, or as `trainer.test` gives them back: `Scores(trainer.test(...)[0])`."""

    def _repr_html_(self) -> str | None:
        """Show them by type, in percent; None, for the usual form, where there are none."""
        prefix = next((prefix for prefix in ("", "test_", "val_") if f"{prefix}f1" in self), None)
        if prefix is None:
            return None

        def row(title: str, suffix: str) -> list[object]:
            numbers = [f"{100 * self[f'{prefix}{name}{suffix}']:.2f}" for name in ("precision", "recall", "f1")]
            return [title, *numbers, int(self[f"{prefix}support{suffix}"])]

        types = sorted(name.removeprefix(f"{prefix}f1_") for name in self if name.startswith(f"{prefix}f1_"))
        rows = [*(row(name, f"_{name}") for name in types), row("all", "")]
        told = f"accuracy {100 * self[f'{prefix}accuracy']:.2f}, {self[f'{prefix}words']:,.0f} words scored"
        if f"{prefix}interval_low" in self:
            low, high = (100 * self[f"{prefix}interval_{end}"] for end in ("low", "high"))
            told += f", 95 % interval of F1 {low:.2f} to {high:.2f}"
        return f"{table(['type', 'precision', 'recall', 'F1', 'support'], rows)}<p>{told}</p>"
