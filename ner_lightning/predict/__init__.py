"""Use a trained model: `Tagger` in Python, `predict` for files."""

from ner_lightning.predict.files import predict
from ner_lightning.predict.markup import TaggedWord
from ner_lightning.predict.tagger import Tagger

__all__ = ["TaggedWord", "Tagger", "predict"]
