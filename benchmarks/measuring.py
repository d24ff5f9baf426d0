"""What the benchmarks share: fresh processes, a clock, medians, tables, and their place in `benchmarks/README.md`.

Knows nothing of what is measured, and imports no torch: a process that it starts counts its own memory only.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
README = Path(__file__).with_name("README.md")
_VERSIONS = ("torch", "transformers", "lightning", "datasets", "tokenizers", "accelerate")

Job = dict[str, Any]
Result = dict[str, Any]


class Seconds(NamedTuple):
    """A time on the wall and the processor's for it, of all threads."""

    wall: float
    processor: float


def now() -> Seconds:
    """The time, of a clock that all processes of this machine share, and the processor time of this one."""
    return Seconds(time.monotonic(), time.process_time())


def since(start: Seconds) -> Seconds:
    """What has passed.

    Args:
        start: From `now`.
    """
    return Seconds(time.monotonic() - start.wall, time.process_time() - start.processor)


def peak_memory() -> int:
    """Bytes that this process has had resident at most."""
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` counts what the process that started this one had, too
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        return int(found[1]) * 1024 if found else 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fresh_process(module: str, job: Job, *, folder: Path, cache: Path | None = None) -> Result:
    """Do a job in a process of its own.

    Args:
        module: A module of this package that ends with `serve(...)`.
        job: What JSON can hold; `started` is added, the time of `now`.
        folder: For what it writes.
        cache: Of `datasets`; by default an empty one.

    Returns:
        What the job returned, and `process`, the seconds that the process took.

    Raises:
        SystemExit: It failed; its last lines are shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        answer = Path(own, "answer.json")
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(cache or Path(own, "cache")),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "TOKENIZERS_PARALLELISM": "false",  # tokenisation on one processor, whoever does it
            # as `python -m ner_lightning` sets it, before torch is imported
            **({"OMP_WAIT_POLICY": "passive"} if job.get("system") == "ours" else {}),
        }
        with Path(own, "log").open("w+") as log:
            start = time.monotonic()
            command = [sys.executable, "-m", module, "--job", json.dumps(job | {"started": start}), str(answer)]
            process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
            _, status, used = os.wait4(process.pid, 0)
            wall = time.monotonic() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                log.seek(0)
                sys.exit(f"{shlex.join(command)}\nended with {process.returncode}:\n{log.read()[-3000:]}")
        result: Result = json.loads(answer.read_text())
        return result | {"process": [wall, used.ru_utime + used.ru_stime]}


def serve(work: Callable[[Job], Result], command: Callable[[], None] | None = None) -> None:
    """Do the job of `fresh_process` where this process is one, else run the command.

    Args:
        work: Does a job.
        command: What a person runs.
    """
    if sys.argv[1:2] == ["--job"]:
        job, answer = sys.argv[2:]
        sys.argv[1:] = []  # argument parsers and Lightning look there
        Path(answer).write_text(json.dumps(work(json.loads(job))))
    elif command is not None:
        command()


class Clock:
    """What a process spent on steps, by phase, and on other things.

    Args:
        started: When the process was started, of the clock of `now`.
        warm_up: Steps of an epoch that are left out.
        synchronize: Called before each time that counts: a GPU works behind the back of the process. Then only
            each fiftieth step is looked at, and phases are the time of the process alone.
    """

    def __init__(self, *, started: float, warm_up: int, synchronize: Callable[[], None] | None = None) -> None:
        self.shapes: list[tuple[int, int]] = []  # (windows, length) of each batch
        self.subwords: Any = 0  # without padding; a tensor, so that nothing waits for it
        self.spans: dict[str, list[Seconds]] = {}
        self._phases: dict[str, Seconds] = {}
        self._steps = Seconds(0, 0)
        self._counted = 0
        self._started = started
        self._warm_up = warm_up
        self._synchronize = synchronize
        self._first: Seconds | None = None
        self._stack: list[tuple[str, Seconds]] = []
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Say that what follows is no part of a step that began before."""
        self._in_epoch = 0
        self._mark: Seconds | None = None
        self._pending: dict[str, Seconds] = {}

    def end_step(self, input_ids: Any, pad_token_id: int) -> None:
        """Say that a step is over.

        Args:
            input_ids: Its batch, (windows, length).
            pad_token_id: Fills it.
        """
        if self._first is None:
            if self._synchronize:
                self._synchronize()
            self._first = Seconds(time.monotonic() - self._started, time.process_time())
        self.shapes.append(tuple(input_ids.shape))
        self.subwords = self.subwords + (input_ids != pad_token_id).sum()
        self._in_epoch += 1
        after_warm_up = self._in_epoch - self._warm_up
        if after_warm_up < 0 or (self._synchronize and after_warm_up % 50):
            return
        if self._synchronize:
            self._synchronize()
        here = now()
        if self._mark is not None:
            self._counted += 50 if self._synchronize else 1
            self._steps = _plus(self._steps, _minus(here, self._mark))
            for name, seconds in self._pending.items():
                self._phases[name] = _plus(self._phases.get(name, Seconds(0, 0)), seconds)
        self._mark, self._pending = here, {}

    def start(self, phase: str) -> None:
        """Begin a phase of a step; the time of one within it is not its own.

        Args:
            phase: Its name.
        """
        self._leave()
        self._stack.append((phase, now()))

    def stop(self) -> None:
        """End the phase that began last."""
        self._leave()
        self._stack.pop()
        if self._stack:
            self._stack[-1] = (self._stack[-1][0], now())

    def _leave(self) -> None:
        if self._stack:
            phase, start = self._stack[-1]
            self._pending[phase] = _plus(self._pending.get(phase, Seconds(0, 0)), since(start))

    def timed(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        """A function whose calls are a phase.

        Args:
            function: Any.
            phase: Its name.
        """

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.start(phase)
            try:
                return function(*args, **kwargs)
            finally:
                self.stop()

        return call

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Measure something that is no part of a step.

        Args:
            name: What it is called.
        """
        if self._synchronize:
            self._synchronize()
        start = now()
        yield
        if self._synchronize:
            self._synchronize()
        self.spans.setdefault(name, []).append(since(start))

    def result(self) -> Result:
        """Seconds of a step and of its phases, of the first step since the process was started, of other things."""
        steps = max(self._counted, 1)
        phases = {name: _share(seconds, steps) for name, seconds in self._phases.items() if name != "other"}
        named = Seconds(*map(sum, zip(*phases.values(), strict=True))) if phases else Seconds(0, 0)
        step = _share(self._steps, steps)
        return {
            "step": step,
            **{f"  {name}": seconds for name, seconds in phases.items()},
            "  other": _minus(step, named),
            "first_step": self._first,
            **{name: Seconds(*map(sum, zip(*each, strict=True))) for name, each in self.spans.items()},
            "shapes": self.shapes,
            "useful": float(self.subwords) / max(sum(windows * length for windows, length in self.shapes), 1),
            "subwords": float(self.subwords) / max(len(self.shapes), 1),
            "memory": peak_memory(),
        }


def medians(results: Sequence[Result], name: str) -> Seconds | None:
    """The middle of a measurement, on the wall and of the processor; None where it was not made.

    Args:
        results: Of each run.
        name: What was measured.
    """
    found = [result[name] for result in results if result.get(name) is not None]
    return Seconds(*map(statistics.median, zip(*found, strict=True))) if found else None


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown.

    Args:
        columns: Their heads; all but the first hold numbers.
        rows: Cells.
    """
    widths = [max(len(line[i]) for line in (columns, *rows)) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([line(columns), f"|{rule}|", *map(line, rows)])


def report(name: str, text: str, *, readme: Path | None) -> None:
    """Print what a benchmark found, and write it to its section.

    Args:
        name: Of the benchmark.
        text: Markdown; the command and the machine are put above it.
        readme: The file with the section, or None.
    """
    text = f"{_circumstances(name)}\n\n{text}"
    print(text)
    if readme is None:
        return
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n\n{text}\n\n{end}"
    whole = readme.read_text(encoding="utf-8") if readme.exists() else "# Benchmarks\n"
    if begin in whole:
        before, rest = whole.split(begin)
        whole = before + section + rest.split(end)[1]
    else:
        whole += f"\n## {name.capitalize()}\n\n{section}\n"
    readme.write_text(whole, encoding="utf-8")


def processor_name() -> str:
    """What the system calls the processor."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor()


def _circumstances(name: str) -> str:
    command = shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]])
    versions = ", ".join(f"{package} {version(package)}" for package in _VERSIONS)
    threads = os.environ.get("OMP_NUM_THREADS", "as torch chooses")
    return (
        f"`{command}`, {date.today()}; {processor_name()}, {os.cpu_count()} cores; "
        f"threads: {threads}; load: {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, {versions}."
    )


def _plus(one: Seconds, other: Seconds) -> Seconds:
    return Seconds(one.wall + other.wall, one.processor + other.processor)


def _minus(one: Seconds, other: Seconds) -> Seconds:
    return Seconds(one.wall - other.wall, one.processor - other.processor)


def _share(seconds: Seconds, parts: int) -> Seconds:
    return Seconds(seconds.wall / parts, seconds.processor / parts)
