"""Growth: the same work on a corpus, on ten and on a hundred times as much; seconds and bytes a sentence stay flat.

The corpus is invented: sentences of 15 words on average, of which a larger one has ever more different ones, in
documents of 20. Bytes are those that a process has for itself: pages of mapped files can be given back at any time.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import options_of, prepared
from benchmarks.measuring import Job, Result, fresh_process, medians, now, report, serve, since, table

_WORKS = {
    "read": "reading and tokenising",
    "load": "the batches of an epoch",
    "inspect": "`inspect`",
    "fit": "training, a fixed number of steps",
    "validate": "evaluation",
    "predict": "prediction",
}
_TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


def main() -> None:
    """Measure, print, write."""
    parser = options_of("growth", __doc__)
    parser.add_argument("--sentences", type=int, default=1000, help="Of the smallest corpus.")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--works", nargs="+", choices=_WORKS, default=list(_WORKS), help="What is measured.")
    parser.add_argument("--steps", type=int, default=100, help="Of the training.")
    options = parser.parse_args()
    if options.quick:
        options.sentences, options.factors, options.steps = 100, [1, 3], 5
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = prepared(options, folder, sizes=_TINY) | {"steps": options.steps}
        few = folder / "few.conll"
        _invent(few, 20, job["labels"])
        results: dict[tuple[str, int], list[Result]] = {}
        sizes = {}
        for factor in options.factors:
            file = folder / f"{factor}.conll"
            sizes[factor] = options.sentences * factor
            _invent(file, sizes[factor], job["labels"])
            for run in range(options.runs):
                cache = folder / f"cache of {factor}, {run}"
                for each in options.works:
                    print(f"{factor} times, run {run + 1} of {options.runs}: {_WORKS[each]}", flush=True)
                    own = job | {"work": each, "file": str(file), "few": str(few)}
                    result = fresh_process("benchmarks.growth", own, folder=folder, cache=cache)
                    results.setdefault((each, factor), []).append(result)
    report("growth", _text(options, sizes, results), readme=options.readme)


def work(job: Job) -> Result:
    """What a process of its own does: first on a few sentences, so that imports do not count.

    Args:
        job: `work` says what, `file` and `few` on which corpora.
    """
    _do(job, job["few"])
    with _memory() as peak:
        start = now()
        _do(job, job["file"])
        seconds = since(start)
    return {"seconds": seconds, "bytes": peak()}


def _do(job: Job, file: str) -> None:
    from ner_lightning.__main__ import main as command
    from ner_lightning.data import TokenClassificationDataModule

    # all of them encode alike, so that each finds what reading has left in the cache
    data = {"labels": job["labels"], "label_all_tokens": True}
    options = [
        *(f"--data.{name}={value}" for name, value in data.items()),
        f"--model.model_name_or_path={job['classifier']}",
        f"--trainer.default_root_dir={Path(job['folder'], 'runs')}",
    ]
    match job["work"]:
        case "read" | "load":
            module = TokenClassificationDataModule(train_file=file, model_name_or_path=job["classifier"], **data)
            module.prepare_data()
            if job["work"] == "load":
                deque(module.train_dataloader(), maxlen=0)
            return
        case "inspect":
            arguments = ["inspect", f"--data.train_file={file}", *options]
        case "fit":
            steps = ["--trainer.max_epochs=1", f"--trainer.limit_train_batches={job['steps']}"]
            arguments = ["fit", f"--data.train_file={file}", *options, *steps]
        case "validate":
            arguments = ["validate", f"--data.validation_file={file}", *options]
        case _:
            arguments = ["predict", file, f"--model={job['classifier']}", f"--output={file}.found.conll"]
    if command(arguments):
        raise SystemExit(f"{job['work']} failed")


def _invent(file: Path, sentences: int, labels: list[str]) -> None:
    """Write columns of words and tags; the rank of a word is drawn as in a language, where rare ones never end."""
    chance = np.random.default_rng(sentences)
    syllables = [first + second for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u")]
    types = sorted({label[2:] for label in labels if label.startswith("B-")})
    with file.open("w", encoding="utf-8") as written:
        for document in range(0, sentences, 20):
            written.write("-DOCSTART- O\n\n")
            for length in chance.integers(5, 26, min(20, sentences - document)).tolist():
                ranks = (1e7 ** chance.random(length)).astype(int).tolist()
                kind, start = types[ranks[0] % len(types)], ranks[-1] % length
                tags = ["O"] * start + [f"B-{kind}", f"I-{kind}"] + ["O"] * length
                words = (
                    "".join(syllables[rank // 70**place % 70] for place in range(len(str(rank)) // 2 + 1))
                    for rank in ranks
                )
                written.write("".join(f"{word} {tag}\n" for word, tag in zip(words, tags, strict=False)) + "\n")


@contextmanager
def _memory() -> Iterator[Callable[[], int]]:
    """Look, a hundred times a second, how much memory this process has for itself; gives what it grew by at most."""
    before, most, done = _own_memory(), 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, _own_memory())
            time.sleep(0.01)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: max(most - before, 0)
    finally:
        done.set()
        thread.join()


def _own_memory() -> int:
    found = re.search(r"RssAnon:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def _text(options: Any, sizes: dict[int, int], results: dict[tuple[str, int], list[Result]]) -> str:
    rows = []
    for each in options.works:
        for unit in ("ms", "bytes"):
            cells = []
            for factor, sentences in sizes.items():
                runs = results[each, factor]
                if unit == "ms":
                    seconds = medians(runs, "seconds")
                    assert seconds is not None
                    cells.append(" / ".join(f"{1000 * part / sentences:.3f}" for part in seconds))
                else:
                    used = statistics.median(run["bytes"] for run in runs)
                    cells.append(f"{used / sentences:,.0f} ({used / 1e6:,.0f} MB)")
            rows.append([f"{_WORKS[each]}, {unit}", *cells])
    told = (
        f"A sentence, medians of {options.runs} runs, wall time / processor time; training of "
        f"{options.steps} batches of 8 divided by the "
        "size of the corpus, too: what does not depend on it becomes less. Only reading begins with an empty cache; "
        "imports do not count.\n\n"
    )
    return told + table(["", *(f"{count:,} sentences" for count in sizes.values())], rows)


if __name__ == "__main__":
    serve(work, main)
