"""What people look at: the tables that a run prints, those that compare runs, and the page about errors."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ner_lightning.reports.tables import RunSummary, ScoreTable, batch_text, corpus_text, description_text
    from ner_lightning.reports.validation_figures import ValidationFigures

__all__ = ["RunSummary", "ScoreTable", "ValidationFigures", "batch_text", "corpus_text", "description_text"]


def __getattr__(name: str) -> object:
    """Import what is asked for: to compare runs takes no Lightning."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "validation_figures" if name == "ValidationFigures" else "tables"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
