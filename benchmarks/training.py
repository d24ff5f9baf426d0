"""Training: `fit` of this package beside the `Trainer` of transformers and a plain loop, on equal work.

`python -m benchmarks.training --quick` tries it; `--ours "NAME=OPTIONS"`, given several times, compares variants of
`fit`, and with `--peers` and nothing behind it only those.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.inputs import options_of, prepared
from benchmarks.measuring import Clock, Job, Result, Seconds, fresh_process, medians, report, serve, table

_PEERS = {"tutorial": "Trainer, tutorials", "best": "Trainer, best", "plain": "plain PyTorch"}
_MILLISECONDS = ("step", "  data", "  forward", "  backward", "  clip", "  optimizer", "  other")
_SECONDS = ("read", "tokenise", "epoch", "evaluation", "metric", "checkpoint", "first_step", "warm", "process")
_NAMES = {
    "read": "reading the corpus, s",
    "tokenise": "tokenisation, s",
    "epoch": "an epoch of training, s",
    "evaluation": "evaluation of validation, s",
    "metric": "  metric, s",
    "checkpoint": "checkpoints of an epoch, s",
    "first_step": "start to first step, cold, s",
    "warm": "start to first step, warm cache, s",
    "process": "whole process, s",
}


def main() -> None:
    """Measure, print, write."""
    options = _parser().parse_args()
    if options.quick:
        options.steps, options.warm_up = options.steps or 12, min(options.warm_up, 3)
    variants = dict(each.partition("=")[::2] for each in options.ours or ["ours="])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = prepared(options, folder) | {
            "steps": options.steps,
            "epochs": 1 if options.steps else options.epochs,
            "batch_size": options.batch_size,
            "eval_batch_size": options.eval_batch_size,
            "warm_up": options.warm_up,
            "evaluate": True,
            "keep_weights": "",
        }
        results: dict[str, list[Result]] = {name: [] for name in (*variants, *options.peers)}
        large: dict[str, list[Result]] = {name: [] for name in variants}
        for run in range(options.runs):
            for name in results:
                print(f"run {run + 1} of {options.runs}: {name}", flush=True)
                own = job | {"system": "ours" if name in variants else name}
                own["options"] = shlex.split(variants.get(name, ""))
                if name in variants and run == 0 and len(variants) > 1:
                    own["keep_weights"] = str(folder / f"weights of {name}")
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    results[name].append(_measured(own, Path(place)))
                    if name not in variants:
                        continue
                    _add_products(results[name], own, folder)
                    if options.large_batch_size:
                        large[name].append(_measured_large(own, Path(place), options.large_batch_size))
                        _add_products(large[name], own, folder)
        first, *others = variants
        apart = {
            name: fresh_process(
                "benchmarks.training",
                {
                    "work": "compare",
                    "one": str(folder / f"weights of {first}"),
                    "other": str(folder / f"weights of {name}"),
                },
                folder=folder,
            )
            for name in others
        }
    text = "\n\n".join(_sections(options, variants, job, results, large, apart))
    report("training", text, readme=options.readme)


def work(job: Job) -> Result:
    """What a process of its own does.

    Args:
        job: `work` says what, if it is not to train; the rest is for it.
    """
    import torch

    if job.get("work") == "compare":
        from benchmarks.ours import compare_weights

        return compare_weights(job)
    if job.get("work") == "products":
        from benchmarks.arithmetic import products

        return products(job)
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else None
    clock = Clock(started=job["started"], warm_up=job["warm_up"], synchronize=synchronize)
    if job["system"] == "ours":
        from benchmarks.ours import fit

        result = fit(job, clock)
    else:
        from benchmarks.peers import train_plainly, train_with_trainer

        result = train_plainly(job, clock) if job["system"] == "plain" else train_with_trainer(job, clock)
    result |= clock.result()
    for name in ("evaluation", "metric", "checkpoint"):
        if name in result:
            result[name] = [seconds / job["epochs"] for seconds in result[name]]
    return result


def _parser() -> argparse.ArgumentParser:
    parser = options_of("training", __doc__)
    add = parser.add_argument
    add("--no_dropout", action="store_true", help="For all, so that the weights of variants can be compared.")
    add(
        "--ours", action="append", metavar="NAME=OPTIONS", help="A variant of `fit`, which each other is compared with."
    )
    add("--peers", nargs="*", choices=_PEERS, default=[*_PEERS], help="Measured beside ours; none to compare variants.")
    add("--steps", type=int, default=0, help="One epoch of as many steps, instead of whole epochs.")
    add("--epochs", type=int, default=1)
    add("--warm_up", type=int, default=10, help="Steps of an epoch that do not count.")
    add("--batch_size", type=int, default=8)
    add("--eval_batch_size", type=int, default=32, help="Of the Trainer at its best; the other peers have 8.")
    add("--large_batch_size", type=int, default=0, help="Measure steps of ours with this batch size, too.")
    add("--peak_tflops", type=float, help="Of the device, in the precision used: gives MFU.")
    return parser


def _measured(job: Job, place: Path) -> Result:
    """A whole run with an empty cache, and the beginning of another one with what it left there."""
    result = fresh_process("benchmarks.training", job | {"folder": str(place)}, folder=place, cache=place / "cache")
    result["warm"] = _short(job | {"steps": 1}, place)["first_step"]
    steps = -(-job["sentences"] // job["batch_size"])
    result["epoch"] = [seconds * steps for seconds in result["step"]]
    return result


def _measured_large(job: Job, place: Path, batch_size: int) -> Result:
    """Steps with larger batches, of as many sentences."""
    steps = max((job["steps"] or 200) * job["batch_size"] // batch_size, job["warm_up"] + 5)
    return _short(job | {"batch_size": batch_size, "steps": steps}, place)


def _short(job: Job, place: Path) -> Result:
    job = job | {"folder": str(place / "short"), "epochs": 1, "evaluate": False, "keep_weights": ""}
    return fresh_process("benchmarks.training", job, folder=place, cache=place / "cache")


def _add_products(results: list[Result], job: Job, folder: Path) -> None:
    """Time the products of the batches of the first run; the same ones each time."""
    by_size = sorted(results[0]["shapes"], key=lambda shape: shape[0] * shape[1])
    shapes = by_size[:: max(1, len(by_size) // 20)]
    sample = {"work": "products", "shapes": shapes, "precision": results[-1]["precision"]}
    found = fresh_process("benchmarks.training", job | sample, folder=folder)
    results[-1] |= {name: found[name] for name in ("products", "flop", "rates")}


def _sections(
    options: Any,
    variants: dict[str, str],
    job: Job,
    results: dict[str, list[Result]],
    large: dict[str, list[Result]],
    apart: dict[str, Result],
) -> list[str]:
    systems = [_PEERS.get(name, name) for name in results]
    length = f"{job['steps']} steps" if job["steps"] else f"{job['epochs']} epochs"
    told = [
        f"{job['sentences']} sentences for training, {length}, batches of {job['batch_size']}, on {job['device']}. "
        f"Medians of {options.runs} runs, wall time / processor time. Start-up counts from the start of the process, "
        "imports with it; checkpoints of this package are two, the best and the last.",
        "\n".join(
            f"- `{name}`: `fit --config conll {variant}`".rstrip("` ") + "`" for name, variant in variants.items()
        ),
        table(["", *systems], _rows(options, job, results)),
        *(
            f"**{name}**, share of the time of the others:\n\n{_ratios(name, results)}"
            for name in variants
            if len(results) > 1
        ),
    ]
    for size, of_size in ((options.batch_size, results), (options.large_batch_size, large)):
        if of_size[next(iter(variants))]:
            told.append(
                f"Batches of {size}, the step against its matrix products alone:\n\n"
                f"{_arithmetic(variants, of_size, peak=options.peak_tflops)}"
            )
    rates = results[next(iter(variants))][0]["rates"]
    kinds = list(next(iter(rates.values())))
    rows = [[size, *(f"{rate[kind]:.0f}" for kind in kinds)] for size, rate in rates.items()]
    told.append(f"Products of this machine, GFLOP/s of a thread:\n\n{table(['sub-words x in x out', *kinds], rows)}")
    first = next(iter(variants))
    for name, found in apart.items():
        told.append(
            f"Weights of `{name}` after training differ from those of `{first}` by at most {found['apart']:.1e} "
            f"({found['worst']}), {found['apart'] / max(found['change'], 1e-30):.1e} of the largest change of a weight."
        )
    return told


def _rows(options: Any, job: Job, results: dict[str, list[Result]]) -> list[list[str]]:
    def row(name: str, show: Any) -> list[str]:
        return [name, *(show(runs) for runs in results.values())]

    def median(runs: list[Result], name: str, digits: str) -> str:
        values = [run[name] for run in runs if run[name] is not None]
        return format(statistics.median(values), digits) if values else "-"

    rows = [row("precision", lambda runs: runs[0]["precision"])]
    for name in _MILLISECONDS:
        title = f"{name}, ms" if name == "step" else name
        rows.append(row(title, lambda runs, name=name: _pair(medians(runs, name), 1000, ".1f")))
    rows += [row(_NAMES[name], lambda runs, name=name: _pair(medians(runs, name), 1, ".2f")) for name in _SECONDS]
    rows += [
        row("peak memory, MB", lambda runs: f"{statistics.median(run['memory'] for run in runs) / 1e6:.0f}"),
        row("useful sub-words of padded", lambda runs: median(runs, "useful", ".3f")),
        row("sub-words a second", lambda runs: f"{_rate(runs):,.0f}"),
        row("validation F1", lambda runs: median(runs, "f1", ".4f")),
    ]
    return rows


def _ratios(name: str, results: dict[str, list[Result]]) -> str:
    others = {other: _PEERS.get(other, other) for other in results if other != name}
    rows = []
    for measure in (*_MILLISECONDS, *_SECONDS):
        own, cells = medians(results[name], measure), []
        for other in others:
            theirs = medians(results[other], measure)
            ratio = own and theirs and Seconds(*(a / b if b > 1e-9 else 0 for a, b in zip(own, theirs, strict=True)))
            cells.append(_pair(ratio or None, 1, ".2f"))
        rows.append([_NAMES.get(measure, measure).removesuffix(", s"), *cells])
    memory = {other: statistics.median(run["memory"] for run in runs) for other, runs in results.items()}
    rows.append(["peak memory", *(f"{memory[name] / memory[other]:.2f}" for other in others)])
    return table(["", *others.values()], rows)


def _arithmetic(variants: dict[str, str], results: dict[str, list[Result]], *, peak: float | None) -> str:
    heads = ["", "step, ms", "products, ms", "ratio", "GFLOP", "GFLOP/s, products", "GFLOP/s, step"]
    rows = []
    for name in variants:
        step, products = medians(results[name], "step"), medians(results[name], "products")
        assert step is not None
        assert products is not None
        flop = results[name][0]["flop"]
        cells = [
            f"{name}, {results[name][0]['precision']}",
            _pair(step, 1000, ".1f"),
            _pair(products, 1000, ".1f"),
            _pair(Seconds(*(a / b for a, b in zip(step, products, strict=True))), 1, ".2f"),
            f"{flop / 1e9:.1f}",
            *(_pair(Seconds(*(flop / each for each in seconds)), 1e-9, ".0f") for seconds in (products, step)),
        ]
        rows.append([*cells, *([f"{flop / step.wall / peak / 1e12:.3f}"] if peak else [])])
    return table([*heads, *(["MFU"] if peak else [])], rows)


def _rate(runs: list[Result]) -> float:
    return float(statistics.median(run["subwords"] / run["step"][0] for run in runs if run["step"][0]))


def _pair(seconds: Seconds | None, factor: float, digits: str) -> str:
    return "-" if seconds is None else " / ".join(format(factor * each, digits) for each in seconds)


if __name__ == "__main__":
    serve(work, main)
