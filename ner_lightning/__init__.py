"""Fine-tune transformer token classifiers with PyTorch Lightning; every word is scored exactly once."""

from ner_lightning.version import __version__

__all__ = ["EntityScore", "PushToHub", "TokenClassificationDataModule", "TokenClassificationModule", "__version__"]

_HOMES = {
    "EntityScore": "ner_lightning.metrics",
    "PushToHub": "ner_lightning.hub",
    "TokenClassificationDataModule": "ner_lightning.data",
    "TokenClassificationModule": "ner_lightning.model",
}


def __getattr__(name: str) -> object:
    """Import the public classes when they are first asked for: one corner of the package needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
