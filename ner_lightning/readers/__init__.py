"""Files and tables of every format, read to the same rows, for training, evaluation and prediction alike."""

from ner_lightning.readers.folder import read_folder
from ner_lightning.readers.formats import read
from ner_lightning.readers.hub import read_hub
from ner_lightning.readers.label_names import read_label_names
from ner_lightning.readers.memory import read_memory
from ner_lightning.readers.row import ReadOptions, Row, Source

__all__ = ["ReadOptions", "Row", "Source", "read", "read_folder", "read_hub", "read_label_names", "read_memory"]
