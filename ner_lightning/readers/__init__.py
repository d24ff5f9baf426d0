"""Files and tables of every format, read to the same rows, for training, evaluation and prediction alike."""

from ner_lightning.readers.formats import read
from ner_lightning.readers.row import ReadOptions, Row, Source

__all__ = ["ReadOptions", "Row", "Source", "read"]
