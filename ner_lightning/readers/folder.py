"""The splits of a folder: files named after them, a snapshot of a Hub dataset, or what `save_to_disk` wrote."""

import re
from collections.abc import Iterable
from pathlib import Path

from ner_lightning.errors import InputError, first_line
from ner_lightning.readers.formats import read
from ner_lightning.readers.row import ReadOptions, Source
from ner_lightning.readers.tables import dataset_source

# What the splits are called, in the order in which the names are looked for.
_SPLITS = {"train": ("train",), "validation": ("validation", "dev", "valid"), "test": ("test",)}
_SUFFIXES = (".conll", ".conllu", ".txt", ".tsv", ".csv", ".jsonl", ".json", ".ndjson", ".parquet")


def read_folder(folder: Path, *, config: str | None, options: ReadOptions) -> dict[str, list[Source]]:
    """Find the splits of a folder, or of the one in it for `config`, as a snapshot has one for each configuration.

    Raises:
        InputError: No split is there, or more than one candidate for one.
    """
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return _saved(folder, options)
    files = _files_of(folder, config)
    return {split: [read(path, options=options) for path in paths] for split, paths in files.items()}


def named_splits(name: str, found: Iterable[str]) -> dict[str, str]:
    """Find the splits among names of any convention.

    Raises:
        InputError: None is one of a split.
    """
    found = list(found)
    splits = {split: next((alias for alias in aliases if alias in found), None) for split, aliases in _SPLITS.items()}
    if not any(splits.values()):
        raise InputError(f"{name}: expected a split train, validation or test, found {', '.join(found)}")
    return {split: alias for split, alias in splits.items() if alias is not None}


def _saved(folder: Path, options: ReadOptions) -> dict[str, list[Source]]:
    from datasets import Dataset, load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except Exception as error:
        raise InputError(f"{folder}: what `save_to_disk` wrote here cannot be read: {first_line(error)}") from error
    if isinstance(saved, Dataset):
        name = str(saved.split)
        alone = next((split for split, aliases in _SPLITS.items() if name in aliases), "train")
        found = {alone: (folder, saved)}
    else:
        found = {split: (folder / name, saved[name]) for split, name in named_splits(str(folder), saved).items()}
    return {split: [dataset_source(rows, name=str(place), options=options)] for split, (place, rows) in found.items()}


def _files_of(folder: Path, config: str | None) -> dict[str, list[Path]]:
    # a snapshot of the Hub has the files of its default configuration in data/, those of others under their names
    for place in [*([folder / config] if config else []), folder, folder / "data"]:
        if files := _split_files(place):
            return files
    configs = {path.name: files for path in sorted(folder.iterdir()) if path.is_dir() and (files := _split_files(path))}
    if len(configs) == 1:
        return next(iter(configs.values()))
    if configs:
        raise InputError(
            f"{folder}: expected the files of one corpus, found the folders {', '.join(configs)}; give one of them "
            "(--data.dataset_config_name)"
        )
    raise InputError(
        f"{folder}: expected files named train, validation or test with a suffix of {', '.join(_SUFFIXES)}, folders of "
        "brat of these names, or shards such as data/train-00000-of-00001.parquet"
    )


def _split_files(folder: Path) -> dict[str, list[Path]]:
    files = {}
    for split, stems in _SPLITS.items():
        found = [[path] for stem in stems for suffix in _SUFFIXES if (path := folder / (stem + suffix)).is_file()]
        found += [[folder / stem] for stem in stems if any((folder / stem).glob("*.ann"))]
        found += [shards for stem in stems if (shards := _shards(folder, stem))]
        if len(found) > 1:
            names = ", ".join(str(paths[0].relative_to(folder)) for paths in found)
            raise InputError(f"{folder}: expected one file for {split}, found {names}; give --data.{split}_file")
        if found:
            files[split] = found[0]
    return files


def _shards(folder: Path, stem: str) -> list[Path]:
    """The parquet files of a split as the Hub names them: `train-00000-of-00002.parquet`, or `train/0000.parquet`."""
    shards = sorted(folder.glob(f"{stem}-[0-9]*-of-[0-9]*.parquet"))
    if not shards:
        return sorted((folder / stem).glob("[0-9]*.parquet"))
    (count,) = re.findall(r"-of-([0-9]+)", shards[0].name)
    if len(shards) != int(count):
        raise InputError(f"{folder}: expected {int(count)} files like {shards[0].name}, found {len(shards)}")
    return shards
