"""Fine-tune transformer token classifiers with PyTorch Lightning; every word is scored exactly once."""

__version__ = "0.1.0"

__all__ = [
    "EntityScore",
    "PushToHub",
    "Tagger",
    "TokenClassificationCLI",
    "TokenClassificationDataModule",
    "TokenClassificationModule",
]

_HOMES = {
    "EntityScore": "ner_lightning.metrics",
    "PushToHub": "ner_lightning.hub",
    "Tagger": "ner_lightning.predict",
    "TokenClassificationCLI": "ner_lightning.cli",
    "TokenClassificationDataModule": "ner_lightning.data",
    "TokenClassificationModule": "ner_lightning.model",
}


def __getattr__(name: str) -> object:
    """Import the public classes when they are first asked for: one corner of the package needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
