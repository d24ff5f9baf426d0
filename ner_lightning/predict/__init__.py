"""Use a trained model: `Tagger` in Python, `predict` for files."""

from ner_lightning.predict.files import predict
from ner_lightning.predict.tagger import TaggedWord, Tagger

__all__ = ["TaggedWord", "Tagger", "predict"]
