"""Start-up: `fit` with a warm cache to its first step, `--help` of each subcommand, loading a trained model.

Each is compared with importing what it stands on, in a process of its own. Reading the corpus for the first time is
in `benchmarks.training`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.inputs import options_of, prepared
from benchmarks.measuring import Job, Result, Seconds, fresh_process, medians, report, serve, since, table

_COMMANDS = ("fit", "validate", "test", "inspect", "predict", "export", "push")
_CLI = ("lightning.pytorch.cli",)
# beside the classes of the model, which its configuration names
_FOR_FIT = ("lightning.pytorch.cli", "datasets", "transformers", "seqeval.metrics", "torchmetrics", "tensorboard")
_FOR_TAGGER = ("torch", "transformers")


def main() -> None:
    """Measure, print, write."""
    options = options_of("startup", __doc__).parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = prepared(options, folder) | {"steps": 1, "epochs": 1, "batch_size": 8, "eval_batch_size": 32}
        job |= {"evaluate": False, "keep_weights": "", "warm_up": 0, "system": "ours"}
        cache = folder / "cache"
        commands = _COMMANDS[::3] if options.quick else _COMMANDS
        results: dict[str, list[Result]] = {}

        def measure(name: str, module: str, **more: Any) -> None:
            print(name, flush=True)
            result = fresh_process(f"benchmarks.{module}", job | more, folder=folder, cache=cache)
            results.setdefault(name, []).append(result)

        measure("to fill the cache", "training")
        for _ in range(options.runs):
            measure("imports of fit", "startup", imports=_FOR_FIT, model=True)
            measure("fit to its first step, warm cache", "training")
            measure("import lightning.pytorch.cli", "startup", imports=_CLI)
            for command in commands:
                results.setdefault(f"{command} --help", []).append(_timed(command, "--help"))
            measure("imports of Tagger", "startup", imports=_FOR_TAGGER, model=True)
            measure("Tagger.load", "startup", imports=(), load=True)
            measure("predict, one sentence", "startup", imports=(), predict=True)
    report("startup", _text(options, job, commands, results), readme=options.readme)


def work(job: Job) -> Result:
    """What a process of its own does.

    Args:
        job: `imports`, and what is done besides: `model` imports its classes, `load` and `predict` use it.
    """
    from importlib import import_module

    for module in job["imports"]:
        import_module(module)
    if job.get("model"):
        from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

        config = AutoConfig.from_pretrained(job["classifier"])
        AutoModelForTokenClassification._model_mapping[type(config)]
        AutoTokenizer.from_pretrained(job["classifier"])
    if job.get("load"):
        from ner_lightning.predict import Tagger

        Tagger.load(job["classifier"])
    if job.get("predict"):
        from ner_lightning.__main__ import main as command

        text = Path(job["folder"], "sentence.txt")
        text.write_text("Mira Toll visited Arvenholm .\n")
        if command(["predict", str(text), f"--model={job['classifier']}", f"--output={text.with_suffix('.jsonl')}"]):
            raise SystemExit("the prediction failed")
    return {
        "seconds": since(Seconds(job["started"], 0)),
        "lightning": "lightning" in sys.modules or "pytorch_lightning" in sys.modules,
    }


def _timed(*arguments: str) -> Result:
    """Run the command line as a person does."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "ner_lightning", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {process.returncode}")
    return {"seconds": [time.monotonic() - start, used.ru_utime + used.ru_stime]}


def _text(options: Any, job: Job, commands: Any, results: dict[str, list[Result]]) -> str:
    def row(name: str, base: str | None = None, *, of: str = "seconds") -> list[str]:
        seconds, its = medians(results[name], of), medians(results[base or name], "seconds")
        assert seconds is not None
        assert its is not None
        ratio = Seconds(*(a / b for a, b in zip(seconds, its, strict=True)))
        imported = results[name][0].get("lightning")
        return [
            name,
            " / ".join(f"{each:.2f}" for each in seconds),
            " / ".join(f"{each:.2f}" for each in ratio) if base else "",
            base or "",
            "" if imported is None else "yes" if imported else "no",
        ]

    cli = "import lightning.pytorch.cli"
    rows = [
        row("imports of fit"),
        row("fit to its first step, warm cache", "imports of fit", of="first_step"),
        row(cli),
        *(row(f"{command} --help", cli) for command in commands),
        row("imports of Tagger"),
        row("Tagger.load", "imports of Tagger"),
        row("predict, one sentence", "imports of Tagger"),
    ]
    told = (
        f"{job['sentences']} sentences for training, medians of {options.runs} runs, wall time / processor time, "
        f"from the start of the process. Imports of fit: {', '.join(_FOR_FIT)} and the classes of model and tokenizer; "
        f"of Tagger: {', '.join(_FOR_TAGGER)} and these classes.\n\n"
    )
    return told + table(["", "s", "times", "of", "imports lightning"], rows)


if __name__ == "__main__":
    serve(work, main)
