"""Share a model: `PushToHub` during training, `export` and `push` afterwards."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ner_lightning.hub.folder import export
    from ner_lightning.hub.push_to_hub import PushToHub
    from ner_lightning.hub.pushing import push

__all__ = ["PushToHub", "export", "push"]


def __getattr__(name: str) -> object:
    """Import what is asked for: the process that pushes needs neither torch nor Lightning."""
    import importlib

    homes = {"PushToHub": "push_to_hub", "export": "folder", "push": "pushing"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{homes[name]}"), name)
