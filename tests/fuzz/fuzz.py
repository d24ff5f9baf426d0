"""A fuzzer of all that reads a file of a user: an `InputError` of one sentence may leave it, and nothing else.

    python -m tests.fuzz.fuzz                     10,000 files for each target; needs atheris
    python -m tests.fuzz.fuzz json --runs=100000  one target
    python -m tests.fuzz.fuzz json FILE           what a finding left, once more

`test_fuzz.py` does the same for a second, without atheris, which looks for files that reach other code. A finding is
mended at its cause, and becomes a case of the tests of that reader.
"""

import argparse
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import yaml

_TEXT = "Mira Toll left Oslo\n\nat 5 .\n"
_COLUMNS = "-DOCSTART- O\n\nMira NN B-PER\nToll NN I-PER\nleft VB O\n\n5 CD O\n"
_CONLLU = "# newdoc\n# text = x\n1-2\tdu\t_\t_\n1\tde\t_\tADP\n2\tle\t_\tDET\n2.1\tx\t_\t_\n\n1\tOslo\t_\tPROPN\n"
_TOKENS = '{"tokens": ["Mira", "left"], "ner_tags": ["B-PER", "O"], "document_id": 1}\n'
_NUMBERS = '{"tokens": ["Mira", "left"], "tags": [1, 0], "document_id": "a\\u00e9"}\n'
_ENTITIES = '{"text": "Mira left", "entities": [{"start": 0, "end": 4, "label": "PER", "text": "Mira"}]}\n'
_LISTS = '{"text": "Mira left", "label": [[0, 4, "PER"]], "_task_hash": 1, "answer": "accept"}\n'
_MARKED = '{"type": "labels", "value": {"start": 0, "end": 4, "text": "Mira", "labels": ["PER"]}}'
_BY = '{"id": 3, "email": "bo@x.org"}'
_TASK = (
    f'{{"id": 5, "data": {{"text": "Mira left"}}, "annotations": [{{"completed_by": {_BY}, "result": [{_MARKED}]}}]}}'
)
_WORDS = 'sentence,word,tag,document_id\n1,Mira,B-PER,x\n,"""",O,\n2,left,1,y\n'
_ROWS = 'tokens,ner_tags\n"[""Mira"", ""left""]","[\'B-PER\', \'O\']"\n'
_ANN = "T1\tPER 0 9\tMira Toll\nT2\tLOC 15 19\tOslo\nR1\tIn Arg1:T1 Arg2:T2\n#1\tNotes T1\ta\n*\tEquiv T1 T2\n"
_CONFIG = """
seed_everything: 1
trainer:
  max_epochs: 2
  callbacks:
  - class_path: PushToHub
    init_args: {repo_id: a/b}
"""
_OPTIONS = """
data:
  train_file: [a.conll]
  labels: [O, B-X]
  annotated_types: {a.conll: [X]}
model: {learning_rate: 1e-5}
"""
_CONTENT = (
    '{"hyper_parameters": {"labels": ["O", "B-X"], "model_name_or_path": "a", "lora": null, "decoding": "viterbi"}, '
    '"datamodule_hyper_parameters": {"train_file": ["a.conll"], "max_seq_length": 9}, "validation_scores": '
    '{"val_f1": 0.5}, "config": "seed_everything: 1", "D": {"dataset_commit": null, "given_labels": null, "seed": 1}}'
)
_TABLE = '[{"tokens": ["Mira"], "ner_tags": [1], "document_id": 1}, {"tokens": ["left"], "ner_tags": [0]}]'
_TEXTS = (
    '[{"text": "Mira left", "entities": [{"start": 0, "end": 4, "label": "PER"}]}, {"text": "left", "entities": []}]'
)
# by target: the suffix of its files, and what the first of them are; binary ones are made in `_seeds_of`
SEEDS: dict[str, tuple[str, list[str]]] = {
    "conll": (".conll", [_COLUMNS, _COLUMNS.replace(" ", "\t"), "# a comment\n" + _COLUMNS]),
    "conllu": (".conllu", [_CONLLU]),
    "json": (".json", [_TOKENS, _NUMBERS, f"[{_TOKENS},\n{_TOKENS}]"]),
    "offsets": (".jsonl", [_ENTITIES, _LISTS, f"[{_ENTITIES}, {_ENTITIES}]"]),
    "label_studio": (".json", [_TASK, f"[{_TASK}]", _TASK.replace("annotations", "predictions")]),
    "csv": (".csv", [_WORDS, _WORDS.replace(",", ";"), _ROWS]),
    "tsv": (".tsv", [_WORDS.replace(",", "\t"), _COLUMNS.replace(" ", "\t")]),
    "table": (".parquet", [_TABLE, _TEXTS]),  # of any columns
    "parquet": (".parquet", []),  # of any bytes
    "brat": (".txt", [f"{_TEXT}\0{_ANN}"]),
    "text": (".txt", [_TEXT, _COLUMNS, _ENTITIES]),
    "label_names": (".json", ['["O", "B-X"]', '{"id2label": {"0": "O", "1": "B-X"}}', '{"O": 0}', "O\nB-X\n"]),
    "checkpoint": (".ckpt", []),  # of any bytes
    "pickle": (".ckpt", []),  # of any pickle, in an archive that is whole
    "content": (".ckpt", [_CONTENT]),  # of any values
    "config": (".yaml", [_CONFIG, _OPTIONS]),
}
# what takes the place of a part of a file, and of a value in it
_PIECES = [
    b"",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b"\n\n",
    b"\t",
    b" ",
    b'"',
    b"'",
    b"[",
    b"{",
    b"]",
    b"\\",
    b"\\ud800",
]
_PIECES += [
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"9" * 4400,
    b"[" * 2000,
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xcc\x81",
    b"B-",
    b"#",
    b"-DOCSTART-",
]
_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**70,
    0.5,
    float("inf"),
    "",
    " ",
    "O",
    "I-PER",
    "\ud800",
    "a\nb",
    "\0",
    "9" * 4400,
]
_VALUES += [[], {}, [[]], [None], ["O"], {"O": 0}, "x" * 2000]


def main() -> int:
    """Fuzz one target, or all of them, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", choices=SEEDS)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=10_000, help="Files for a target.")
    options = parser.parse_args()
    if options.target:
        _fuzz(options.target, options.file, options.runs)
    command = [sys.executable, "-m", "tests.fuzz.fuzz", f"--runs={options.runs}"]
    failed = [name for name in SEEDS if subprocess.run([*command, name]).returncode]
    print(f"something was found in {', '.join(failed)}" if failed else "nothing was found")
    return len(failed)


def check(target: str, data: bytes, folder: Path) -> None:
    """Give a file to what reads it; raises what a user would see as a traceback.

    Args:
        target: One of `SEEDS`.
        data: What is in the file.
        folder: An empty one for it.
    """
    from ner_lightning.checkpoints import newest_checkpoint, read_checkpoint
    from ner_lightning.cli import main as command
    from ner_lightning.errors import InputError
    from ner_lightning.readers import read_label_names

    path = folder / "checkpoints" / f"a{SEEDS[target][0]}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    try:
        match target:
            case "label_names":
                "".join(read_label_names(path)).encode()
            case "checkpoint" | "pickle" | "content":
                if target != "checkpoint":
                    _repack(path, data, is_pickle=target == "pickle")
                newest_checkpoint(folder)
                read_checkpoint(path)
            case "config":
                # a file: atheris writes there itself where an input takes too long
                with open(os.devnull, "w") as no, suppress(SystemExit), redirect_stderr(no), redirect_stdout(no):
                    command(["fit", f"--config={path}", "--print_config"])
            case _:
                _read(target, path, data)
    except InputError as error:
        told = str(error)
    else:
        return
    assert told
    assert told.isprintable(), told


def mutated(data: bytes, chance: random.Random, change: Callable[[bytes], bytes]) -> bytes:
    """Change a file: half of the time a value in it, where it is JSON or YAML, else any part of it.

    Args:
        data: The file.
        chance: Decides.
        change: Changes any bytes.
    """
    if chance.random() < 0.5:
        with suppress(ValueError, RecursionError, yaml.YAMLError):
            value = (json.loads if data.lstrip()[:1] in (b"[", b"{") else yaml.safe_load)(data)
            if isinstance(value, dict | list):
                return json.dumps(_other(value, chance)).encode()
    return change(data)


def bytes_changed(data: bytes, chance: random.Random) -> bytes:
    """Put something else in place of a part of a file."""
    start = chance.randrange(len(data) + 1)
    end = min(start + chance.choice([0, 1, 1, 2, 5, 20, len(data)]), len(data))
    flipped = bytes([data[start] ^ 1 << chance.randrange(8)]) if start < len(data) else b""
    return data[:start] + chance.choice([flipped, data[start:end] * 2, chance.choice(_PIECES)]) + data[end:]


def seeds_of(target: str) -> list[bytes]:
    """The first files of a target, all well formed."""
    files = [content.encode() for content in SEEDS[target][1]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        for rows in (_TABLE, _TEXTS) if target == "parquet" else ():
            _write_table(path, rows.encode())
            files.append(path.read_bytes())
        if target in ("checkpoint", "pickle"):
            _repack(path, _CONTENT.encode(), is_pickle=False)
            with zipfile.ZipFile(path) as archive:
                pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
            files.append(pickled if target == "pickle" else path.read_bytes())
    return files


def _other(value: Any, chance: random.Random) -> Any:
    """Another value at one place of a value."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return chance.choice(_VALUES)
    key = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
    if chance.random() < 0.1:
        del value[key]
    else:
        value[key] = _other(value[key], chance)
    return value


def _read(target: str, path: Path, data: bytes) -> None:
    """Read the rows, and make a corpus of them where they have tags."""
    from ner_lightning.corpus import load_corpus
    from ner_lightning.readers import ReadOptions, read

    if target == "brat":
        text, _, annotations = data.partition(b"\0")
        path.write_bytes(text)
        path.with_suffix(".ann").write_bytes(annotations)
    if target == "table" and not _write_table(path, data):
        return
    variants = [
        ReadOptions(),
        ReadOptions(labels=("O", "B-PER", "I-PER"), overlapping="longest", span_alignment="expand"),
        ReadOptions(comment_prefix="#", entity_type="X", split_at="spaces", annotator="bo@x.org"),
        ReadOptions(tags=False),
    ]
    options = variants[zlib.crc32(data) % len(variants)]  # the same for the same file
    rows = list(read(path, options=options))
    for row in rows:
        assert row.tags is None or len(row.tags) == len(row.words), row
        "".join([*row.words, *(row.tags or ())]).encode()
    if options.tags:
        load_corpus(train_file=path, options=options, labels=options.labels)


def _write_table(path: Path, data: bytes) -> bool:
    """Write JSON as parquet; false where it is no table."""
    from pyarrow import ArrowException, Table, parquet

    with suppress(ArrowException, ValueError, RecursionError, TypeError, AttributeError, OverflowError, KeyError):
        parquet.write_table(Table.from_pylist(json.loads(data)), path, compression="none")
        return True
    return False


def _repack(path: Path, data: bytes, *, is_pickle: bool) -> None:
    """Write a checkpoint that is whole, around a pickle or with the values of a JSON object."""
    import torch

    values: Any = {}
    if not is_pickle:
        with suppress(ValueError, RecursionError):
            values = json.loads(data)
    torch.save({"state_dict": {"w": torch.arange(3.0)}} | values if isinstance(values, dict) else values, path)
    if not is_pickle:
        return
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, data if name.endswith("data.pkl") else content)


def _fuzz(target: str, file: Path | None, runs: int) -> None:
    """Does not come back: libFuzzer ends the process."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    cache = folder / "cache"
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(cache)}
    import atheris

    with atheris.instrument_imports(include=["ner_lightning"]):
        import ner_lightning.cli
        import ner_lightning.corpus  # noqa: F401

    logging.disable(logging.CRITICAL)  # warnings of what was mended
    seeds = folder / "seeds"
    seeds.mkdir()
    for number, content in enumerate(seeds_of(target)):
        (seeds / str(number)).write_bytes(content)

    def run(data: bytes) -> None:
        check(target, data, folder / "file")
        shutil.rmtree(cache, ignore_errors=True)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        return mutated(data, random.Random(seed), lambda part: atheris.Mutate(part, most))[:most]

    limits = ["-timeout=20", "-rss_limit_mb=4096", "-max_len=8192", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, f"-runs={runs}", str(file or seeds)], run, custom_mutator=mutate)
    (folder / "file").mkdir()
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
