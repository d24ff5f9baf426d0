"""Prediction: `predict` and `Tagger` beside `transformers.pipeline` at its best batch size, on the same texts.

The texts are the sentences of the validation file, and the model is trained before for some steps. `pipeline` gets
them sorted by length and in the batch size that is fastest for it, of those tried on a part of them.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.inputs import fit_arguments, options_of, prepared
from benchmarks.measuring import (
    Clock,
    Job,
    Result,
    fresh_process,
    medians,
    now,
    peak_memory,
    report,
    serve,
    since,
    table,
)

_BATCH_SIZES = (1, 8, 16, 32, 64, 128)
_SYSTEMS = ("Tagger", "predict", "pipeline")


def main() -> None:
    """Measure, print, write."""
    parser = options_of("prediction", __doc__)
    parser.add_argument("--steps", type=int, default=200, help="Of the training before, in batches of 32.")
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    options = parser.parse_args()
    if options.quick:
        options.steps = min(options.steps, 20)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = prepared(options, folder) | {"steps": options.steps, "precision": options.precision, "batch_size": 32}

        def measure(work: str, **more: Any) -> Result:
            return fresh_process("benchmarks.prediction", job | more | {"work": work}, folder=folder)

        job |= measure("train")
        tried = measure("try", sizes=_BATCH_SIZES[2:4] if options.quick else _BATCH_SIZES)["tried"]
        best = min(tried, key=lambda size: tried[size][1])
        results: dict[str, list[Result]] = {system: [] for system in _SYSTEMS}
        for run in range(options.runs):
            for system in _SYSTEMS:
                print(f"run {run + 1} of {options.runs}: {system}", flush=True)
                results[system].append(measure(system, pipeline_batch_size=int(best)))
    report("prediction", _text(options, job, tried, best, results), readme=options.readme)


def work(job: Job) -> Result:
    """What a process of its own does.

    Args:
        job: `work` says what; the rest is for it.
    """
    if job["work"] == "train":
        return _train(job)
    lines = Path(job["json"]["validation"]).read_text(encoding="utf-8").splitlines()
    texts = [text for line in lines if (text := " ".join(json.loads(line)["tokens"]))]
    match job["work"]:
        case "try":
            pipeline = _pipeline(job)
            part = sorted(texts[:512], key=len)
            return {"tried": {size: pipeline(part, size)[1] for size in job["sizes"]}}
        case "pipeline":
            order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
            found, seconds = _pipeline(job)([texts[number] for number in order], job["pipeline_batch_size"])
            entities = [
                [order[i], e["start"], e["end"], e["entity_group"]] for i, each in enumerate(found) for e in each
            ]
        case "Tagger":
            from ner_lightning.predict import Tagger

            tagger = Tagger.load(job["model"], precision=job["precision"])
            tagger(texts[:32])
            start = now()
            found = tagger(texts)
            seconds = since(start)
            entities = _entities(found)
        case _:
            found, seconds = _predict(job, texts)
            entities = _entities(found)
    return {"seconds": seconds, "entities": sorted(entities), "memory": peak_memory(), "words": sum(map(_words, texts))}


def _train(job: Job) -> Result:
    from ner_lightning.cli import main as cli
    from ner_lightning.hub.folder import export

    steps = f"--trainer.max_steps={job['steps']}"
    rate = [
        "--model.learning_rate=5e-4"
        if Path(job["encoder"]).parent == Path(job["folder"])
        else "--model.learning_rate=1e-4"
    ]
    bare = ["--model.decoding=argmax", "--trainer.limit_val_batches=0"]  # labels as a pipeline takes them
    if cli([*fit_arguments(job), steps, *rate, *bare, "--trainer.max_epochs=100"]):
        raise SystemExit("the training failed")
    return {"model": str(export(default_root_dir=str(Path(job["folder"], "runs"))))}


def _pipeline(job: Job) -> Any:
    """A function from texts and a batch size to entities and seconds."""
    import torch
    from transformers import pipeline

    tag = pipeline("token-classification", model=job["model"], aggregation_strategy="first")
    bf16 = job["precision"] == "bf16-mixed"

    def run(texts: list[str], batch_size: int) -> Any:
        with torch.autocast(tag.device.type, dtype=torch.bfloat16, enabled=bf16):
            tag(texts[:32], batch_size=batch_size)
            start = now()
            return tag(texts, batch_size=batch_size), since(start)

    return run


def _predict(job: Job, texts: list[str]) -> Any:
    """The command on a file, reading and writing with it, but for loading the model."""
    from ner_lightning.predict import Tagger
    from ner_lightning.predict.files import predict

    clock = Clock(started=0, warm_up=0)
    load = Tagger.load

    def timed(*args: Any, **options: Any) -> Tagger:
        with clock.span("load"):
            return load(*args, **options)

    Tagger.load = timed  # type: ignore[method-assign]
    given, output = Path(job["folder"], "texts.jsonl"), Path(job["folder"], "found.jsonl")
    given.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    start = now()
    predict([str(given)], model=job["model"], output=str(output), precision=job["precision"])
    seconds, loading = since(start), clock.spans["load"][0]
    found = [json.loads(line)["entities"] for line in output.open(encoding="utf-8")]
    output.unlink()
    return found, [whole - part for whole, part in zip(seconds, loading, strict=True)]


def _entities(found: Any) -> list[list[Any]]:
    return [[number, e["start"], e["end"], e["type"]] for number, each in enumerate(found) for e in each]


def _words(text: str) -> int:
    return len(text.split())


def _text(options: Any, job: Job, tried: dict[str, Any], best: str, results: dict[str, list[Result]]) -> str:
    of_pipeline = {tuple(entity) for entity in results["pipeline"][0]["entities"]}
    base = medians(results["pipeline"], "seconds")
    assert base is not None
    rows = []
    for system, runs in results.items():
        seconds = medians(runs, "seconds")
        assert seconds is not None
        entities = {tuple(entity) for entity in runs[0]["entities"]}
        rows.append(
            [
                f"{system}, batches of {best}" if system == "pipeline" else system,
                *(f"{runs[0]['words'] / each:,.0f}" for each in seconds),
                " / ".join(f"{theirs / own:.2f}" for own, theirs in zip(seconds, base, strict=True)),
                f"{statistics.median(run['memory'] for run in runs) / 1e6:.0f}",
                f"{len(entities):,}",
                f"{len(entities ^ of_pipeline):,}",
            ]
        )
    heads = [
        "",
        "words/s",
        "words/s of processor",
        "times pipeline",
        "peak memory, MB",
        "entities",
        "other than pipeline's",
    ]
    trials = ", ".join(f"{size}: {seconds[1]:.2f}" for size, seconds in tried.items())
    return (
        f"{results['pipeline'][0]['words']:,} words, precision {options.precision}, on {job['device']}; medians of "
        f"{options.runs} runs, wall time / processor time. Seconds of the processor that `pipeline` took for a part of "
        f"them, by batch size: {trials}. `predict` reads and writes files, too.\n\n{table(heads, rows)}"
    )


if __name__ == "__main__":
    serve(work, main)
