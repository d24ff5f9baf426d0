"""Hub datasets: an id, a configuration and a revision, to the rows of exactly one commit.

Ids that no longer load are answered with what to use instead, and a missing network with what can be done without it.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ner_lightning.cache import is_whole
from ner_lightning.errors import InputError, first_line
from ner_lightning.readers.folder import named_splits
from ner_lightning.readers.row import ReadOptions, Source
from ner_lightning.readers.tables import dataset_source

if TYPE_CHECKING:
    from datasets import DatasetDict

_CONVERTED = "refs/convert/parquet"  # the branch where the Hub keeps its own parquet copy of a dataset
# Ids that no longer load, and what holds the same corpus (id, revision).
_SUCCESSORS: dict[str, tuple[str, str | None]] = {
    "conll2003": ("tomaarsen/conll2003", _CONVERTED),  # of the copies this one keeps the documents
    "eriktks/conll2003": ("tomaarsen/conll2003", _CONVERTED),
    "tner/conll2003": ("tomaarsen/conll2003", _CONVERTED),
    "wikiann": ("unimelb-nlp/wikiann", None),
    "wnut_17": ("leondz/wnut_17", _CONVERTED),
    "ncbi_disease": ("ncbi/ncbi_disease", _CONVERTED),
    "universal_dependencies": ("universal-dependencies/universal_dependencies", _CONVERTED),
}


def read_hub(
    name: str, *, config: str | None, revision: str | None, options: ReadOptions
) -> tuple[dict[str, list[Source]], str]:
    """Load the splits of a dataset, and tell the commit that they are of.

    Raises:
        InputError: The dataset cannot be loaded; says what to change.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError

    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        if name in _SUCCESSORS:
            raise InputError(_use_instead(name))
        raise InputError(
            f"dataset_name {name}: expected an id like lhoestq/conll2003 or an existing folder (--data.dataset_name)"
        )
    try:
        splits, commit = (_cached if constants.HF_HUB_OFFLINE else _downloaded)(name, config, revision)
    except GatedRepoError as error:
        raise InputError(f"dataset {name} is gated: accept its terms on the Hub, then `hf auth login`") from error
    named = named_splits(f"dataset {name}", splits).items()
    sources = {
        split: [dataset_source(splits[found], name=f"{name}, {found} split", options=options)] for split, found in named
    }
    return sources, commit


def _downloaded(name: str, config: str | None, revision: str | None) -> tuple["DatasetDict", str]:
    from datasets import load_dataset_builder
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError

    commit, files = _look_up(name, revision)
    if f"{name.split('/')[1]}.py" in files:
        raise InputError(_use_instead(name))
    options = {"name": config}
    if _is_converted(files):
        # Folders config/split/*.parquet without a card: `datasets` would mix the configurations.
        configs = sorted({file.split("/")[0] for file in files if file.endswith(".parquet")})
        _check_config(name, config, configs)
        options = {"data_dir": config or configs[0]} if len(configs) > 1 else {}
    try:
        # Leaves a note of what the revision is in the cache, by which `_cached` finds the commit.
        with suppress(EntryNotFoundError):
            hf_hub_download(name, "README.md", repo_type="dataset", revision=revision)
        builder = load_dataset_builder(name, revision=commit, **options)
        if builder.hash != commit:
            # What `datasets` does where a commit does not load: it takes whatever its cache has.
            raise InputError(
                f"dataset {name} does not load at commit {commit}; the cache holds commit {builder.hash} "
                "(--data.dataset_revision)"
            )
        if not all(map(is_whole, Path(builder.cache_dir).glob("*.arrow"))):
            Path(builder.cache_dir, "dataset_info.json").unlink(missing_ok=True)  # without it, it is made anew
        builder.download_and_prepare()
    except (InputError, GatedRepoError):
        raise
    except Exception as error:
        if isinstance(error, ValueError):
            _check_config(name, config, _configs(name, commit))
        raise InputError(f"dataset {name} does not load at commit {commit}: {first_line(error)}") from error
    return builder.as_dataset(), commit


def _is_converted(files: list[str]) -> bool:
    """Whether these are the Hub's own copy, known by its layout: the revision may be a commit of that branch."""
    rows = [file for file in files if file.endswith(".parquet")]
    return bool(rows) and all(re.fullmatch(r"[^/]+/[^/]+/\d+\.parquet", file) for file in rows)


def _look_up(name: str, revision: str | None) -> tuple[str, list[str]]:
    """The commit that a revision is now, and its files."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RevisionNotFoundError

    try:
        info = HfApi().dataset_info(name, revision=revision, timeout=30)
    except GatedRepoError:
        raise
    except RevisionNotFoundError as error:
        raise InputError(
            f"dataset {name} has no revision {revision}; expected a branch, tag or commit (--data.dataset_revision)"
        ) from error
    except Exception as error:
        # By status: the class of a 401 depends on the address of the Hub.
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403, 404):
            raise InputError(
                f"dataset {name}: the Hub shows no such dataset (--data.dataset_name); a private one needs "
                "`hf auth login`"
            ) from error
        raise InputError(
            f"dataset {name}: the Hub cannot be reached ({first_line(error)}); {_offline_ways(name)}"
        ) from error
    assert info.sha is not None
    return info.sha, [file.rfilename for file in info.siblings or []]


def _use_instead(name: str) -> str:
    successor, revision = _SUCCESSORS.get(name, (name, _CONVERTED))
    option = f" --data.dataset_revision={revision}" if revision else ""
    return (
        f"dataset {name} no longer loads, as it was made for a loading script; use "
        f"--data.dataset_name={successor}{option}"
    )


def _configs(name: str, commit: str) -> list[str]:
    from datasets import get_dataset_config_names

    try:
        return list(get_dataset_config_names(name, revision=commit))
    except Exception:  # the dataset is broken elsewhere, and the first error says where
        return []


def _check_config(name: str, config: str | None, configs: list[str]) -> None:
    listed = f"{', '.join(configs)} (--data.dataset_config_name)"
    if config is not None and configs and config not in configs:
        raise InputError(f"dataset {name} has no configuration {config}; expected one of {listed}")
    if config is None and len(configs) > 1:
        raise InputError(f"dataset {name} has several configurations; give one of {listed}")


def _cached(name: str, config: str | None, revision: str | None) -> tuple["DatasetDict", str]:
    """The copy of exactly that revision: `datasets` itself would give the last one loaded, whichever it was."""
    from datasets.packaged_modules.cache.cache import Cache
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="dataset"))
    note = folder / "refs" / (revision or constants.DEFAULT_REVISION)
    commit = note.read_text() if note.is_file() else revision
    copies = [copy for copy in _copies(name) if copy[2] == commit and config in (None, copy[0])]
    if len(copies) != 1:
        wanted = f"{config or 'any configuration'} at {revision or constants.DEFAULT_REVISION}"
        raise InputError(
            f"dataset {name}: expected one cached copy of {wanted}, as HF_HUB_OFFLINE is set, found {len(copies)}; "
            f"{_offline_ways(name)}"
        )
    cached, version, commit = copies[0]
    builder = Cache(repo_id=name, dataset_name=name.split("/")[1], config_name=cached, version=version, hash=commit)
    if not all(map(is_whole, Path(builder.cache_dir).glob("*.arrow"))):
        raise InputError(f"dataset {name}: the cached copy in {builder.cache_dir} is cut; load it once with network")
    return builder.as_dataset(), commit


def _copies(name: str) -> list[tuple[str, str, str]]:
    """What the cache holds of a dataset: (configuration, version, commit)."""
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    namespace, dataset = name.split("/")
    folder = Path(config.HF_DATASETS_CACHE, f"{namespace}___{camelcase_to_snakecase(dataset)}")
    parts = (path.parts for path in sorted(folder.glob("*/*/*/dataset_info.json")))
    return [(part[-4], part[-3], part[-2]) for part in parts]


def _offline_ways(name: str) -> str:
    cached = ", ".join(f"{config} at {commit}" for config, _, commit in _copies(name))
    again = f"HF_HUB_OFFLINE=1 with a cached copy ({cached}), " if cached else ""
    return (
        f"without network use {again}files (--data.train_file and its siblings), or the packaged sample "
        "(--data.dataset_name=ner_lightning/quickstart)"
    )
