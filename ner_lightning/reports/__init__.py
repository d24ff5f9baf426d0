"""What people look at: the tables that a run prints."""

from ner_lightning.reports.tables import RunSummary, ScoreTable, batch_text, corpus_text, description_text

__all__ = ["RunSummary", "ScoreTable", "batch_text", "corpus_text", "description_text"]
