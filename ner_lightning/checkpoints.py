"""Checkpoints of Lightning as files: which is the one to use, and what one holds. Neither needs Lightning.

The callbacks that write them are in `saving`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from ner_lightning.errors import InputError
from ner_lightning.lora import merged

if TYPE_CHECKING:
    from torch import Tensor

    from ner_lightning.decoding import Decoding

log = logging.getLogger(__name__)

_DATA_STATE = {"dataset_commit", "given_labels"}  # by which the state of a TokenClassificationDataModule is known


def kept_in(folder: str | Path) -> str:
    """Which checkpoints a folder holds, for a message that something could not be written.

    Args:
        folder: Where checkpoints are kept.
    """
    names = sorted(path.name for path in Path(folder).glob("*.ckpt"))
    return f"kept in {folder}: {', '.join(names)}" if names else "no checkpoint was saved before"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint without running any code in it, and compare its checksums (260 MB in 0.05 s).

    Args:
        path: The file.

    Raises:
        InputError: There is no such file, or it is not a whole checkpoint of this program.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint, found {'a folder' if path.is_dir() else 'no such file'}")
    try:
        state = path.stat()
        _compare_checksums(path, state.st_ino, state.st_mtime_ns, state.st_size)
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever the bytes of another file make the unpickler stumble over
        raise InputError(
            f"{path}: not a whole checkpoint of this program; it may have been cut short or damaged while it was "
            "written or copied"
        ) from error
    own = isinstance(checkpoint, dict) and "state_dict" in checkpoint
    options = checkpoint.get("hyper_parameters") if own else None
    if not isinstance(options, dict) or not isinstance(options.get("labels"), list):
        raise InputError(f"{path}: a file of another program, without the labels that a checkpoint holds")
    return checkpoint


def data_state(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The state that the datamodule saved, which Lightning keeps under the name of its class.

    Args:
        checkpoint: Its content.

    Returns:
        Its state, whatever the class is called; empty where there is none.
    """
    states = (state for state in checkpoint.values() if isinstance(state, dict))
    return next((state for state in states if state.keys() >= _DATA_STATE), {})


def what_is_done(checkpoint: dict[str, Any], *, max_epochs: int | None, max_steps: int | None) -> str | None:
    """What a run has done that has nothing left to do, such as `3 epochs`.

    Args:
        checkpoint: Its content.
        max_epochs: Of the Trainer; -1 and None are no limit.
        max_steps: Likewise.
    """
    done = {
        "steps": (checkpoint["global_step"], max_steps),
        "epochs": (data_state(checkpoint).get("epoch", 0), max_epochs),
    }
    reached = (f"{count} {of}" for of, (count, most) in done.items() if most is not None and 0 <= most <= count)
    return next(reached, None)


def is_within_epoch(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint was saved between two batches of an epoch.

    Args:
        checkpoint: Its content.
    """
    loaders = checkpoint.get("loops", {}).get("fit_loop", {}).get("state_dict", {}).get("combined_loader", [])
    return any(isinstance(loader, dict) and loader.get("position") for loader in loaders)


def best_score(checkpoint: dict[str, Any]) -> float | None:
    """The score of the best checkpoint of a run.

    Args:
        checkpoint: Another one of it.
    """
    states = checkpoint["callbacks"].items()
    score = next((state["best_model_score"] for key, state in states if key.startswith("BestCheckpoint")), None)
    return None if score is None else float(score)


def decoding_of(options: dict[str, Any]) -> Decoding:
    """How a module chooses labels: as was said, or by default.

    Args:
        options: Its hyper-parameters; one from before there was a choice took the most probable labels.
    """
    from ner_lightning.decoding import default_decoding  # takes torch, as reading a checkpoint does

    return options.get("decoding", "argmax") or default_decoding(options["labels"])


def classifier_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of the classifier alone, under the names that transformers gives them, with adapters merged.

    Args:
        checkpoint: Its content, with the weights of the whole module.
    """
    state = checkpoint["state_dict"].items()
    weights = {name.removeprefix("model."): tensor for name, tensor in state if name.startswith("model.")}
    lora = checkpoint["hyper_parameters"].get("lora")
    return weights if lora is None else merged(weights, lora)


def find_checkpoint(
    asked: str | Path | None, *, root: str | Path, kind: str = "best", model_name_or_path: str | None = None
) -> Path | None:
    """Find the checkpoint that an option names.

    Args:
        asked: A file, the folder of a run or of several, of which the newest is taken, or `best` or `last`, which are
            those of the newest run.
        root: The folder in which runs are kept.
        kind: `best` or `last`, where nothing else is asked; what a folder does not have it gives the other for.
        model_name_or_path: Look only at runs that started from this model, where the newest is asked for.

    Returns:
        Its path, which may not exist; None where there is no run.

    Raises:
        InputError: The folder has no checkpoint, or none that can be read.
    """
    if asked in (None, "best", "last"):
        return newest_checkpoint(root, kind=str(asked or kind), model_name_or_path=model_name_or_path)
    folder = Path(str(asked))
    if not folder.is_dir():
        return folder
    own = next((place for place in (folder / "checkpoints", folder) if _candidates(place, kind)), None)
    if own is not None:
        return _first_whole([own], kind, None)
    path = newest_checkpoint(folder, kind=kind, model_name_or_path=model_name_or_path)
    if path is None:
        raise InputError(f"{asked}: no best.ckpt and no last.ckpt in this folder; give that of a run")
    return path


def newest_checkpoint(root: str | Path, *, kind: str = "best", model_name_or_path: str | None = None) -> Path | None:
    """Find the checkpoint of the newest run below a folder.

    One that cannot be read is passed over with a warning: the newest other one of the same run is taken, else one of
    the run before.

    Args:
        root: The folder in which runs are kept.
        kind: `best` or `last`; a run that was never validated has only a last one, and gives that.
        model_name_or_path: Look only at runs that started from this model.

    Raises:
        InputError: There are some, and none can be read.
    """
    files = sorted(Path(root).glob("**/checkpoints/*.ckpt"), key=_written, reverse=True)
    return _first_whole(dict.fromkeys(path.parent for path in files), kind, model_name_or_path)


@cache  # a command reads its checkpoint several times, and may have one of some GB
def _compare_checksums(path: Path, *state: int) -> None:
    """Compare the checksums that torch writes and does not read; once for each state of a file."""
    with ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise BadZipFile(damaged)


def _first_whole(folders: Iterable[Path], kind: str, model_name_or_path: str | None) -> Path | None:
    passed: list[InputError] = []
    for folder in folders:
        for path in _candidates(folder, kind):
            try:
                started_from = read_checkpoint(path)["hyper_parameters"].get("model_name_or_path")
            except InputError as error:
                passed.append(error)
                continue
            if model_name_or_path not in (None, started_from):
                break
            for reason in passed:
                log.warning("%s; %s is used in its place", reason, path)
            return path
    if passed:
        raise passed[0]
    return None


def _candidates(folder: Path, kind: str) -> list[Path]:
    """The checkpoints of a run, that which is asked for first; none in a folder that has no best and no last one."""
    files = {path.name: path for path in sorted(folder.glob("*.ckpt"), key=_written, reverse=True)}
    first = [files.pop(name) for name in dict.fromkeys((f"{kind}.ckpt", "last.ckpt")) if name in files]
    return [*first, *files.values()] if first or "best.ckpt" in files else []


def _written(path: Path) -> float:
    return path.stat().st_mtime


def run_folder(ckpt_path: Path) -> Path:
    """The folder of the run that a checkpoint belongs to.

    Args:
        ckpt_path: The checkpoint.
    """
    return ckpt_path.parent.parent if ckpt_path.parent.name == "checkpoints" else ckpt_path.parent
