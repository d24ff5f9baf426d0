"""`python -m ner_lightning`: its first word decides what is imported."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ner_lightning.errors import InputError

if TYPE_CHECKING:
    from ner_lightning.hub.outbox import Destination, Outbox


def main(args: list[str] | None = None) -> int:
    """Run the command line: `push`, `export` and `predict` here, which need no Trainer, all else in `cli`.

    Args:
        args: Arguments without the name of the program; by default those that the program was started with.

    Returns:
        Exit code: 0, or 1 after an error that is told in one sentence. Wrong usage exits with 2.
    """
    args = sys.argv[1:] if args is None else args
    command = {"push": _push, "export": _export, "predict": _predict}.get(args[0] if args else "")
    try:
        return _train(args) if command is None else command(args[1:])
    except (InputError, OSError) as error:
        if "--debug" in args:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _train(args: list[str]) -> int:
    from ner_lightning.cli import main as cli

    return cli(args)


def _push(args: list[str]) -> int:
    from ner_lightning.hub.outbox import Destination, Outbox
    from ner_lightning.hub.push import forget, push, validate

    parser = argparse.ArgumentParser(
        "python -m ner_lightning push",
        allow_abbrev=False,
        description="Send what a run could not push to the Hugging Face Hub. Nothing is sent twice.",
    )
    parser.add_argument("run_dir", help="folder of the run, such as runs/version_0")
    parser.add_argument(
        "--repo_id",
        help="send the best model of the run here, with the scores of a test since, instead of what waits",
    )
    parser.add_argument("--revision", help="branch to send it to (default: main)")
    parser.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        help="make a private repository, and send nothing to one that is public (default: as the account says)",
    )
    parser.add_argument("--trust_remote_code", action="store_true", help="run the code that comes with the model")
    parser.add_argument(
        "--check",
        action="store_true",
        help="only make the repository, prove the right to write, and send what waits: nothing is put in",
    )
    parser.add_argument("--forget", action="store_true", help="drop what waits; the checkpoints of the run stay")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds after which to give up (default: 3600)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(args)
    if options.repo_id is None and (options.check or options.revision or options.private is not None):
        parser.error("--check, --revision and --private belong to --repo_id")
    if options.forget and options.repo_id is not None:
        parser.error("--forget sends nothing: leave out --repo_id")
    say = partial(print, flush=True)  # each line at once: a process that is killed keeps none for later
    if options.forget:
        forget(options.run_dir, say=say)
        return 0
    if options.repo_id is not None:
        validate(options.repo_id)
    outbox = Outbox(options.run_dir)

    def give_up() -> None:
        try:
            print(f"error: {options.run_dir}: not finished within --timeout={options.timeout:g} s", file=sys.stderr)
            outbox.record("stopped", error=f"not finished within {options.timeout:g} s")
        finally:
            os._exit(1)  # whatever the HTTP client waits for

    timer = threading.Timer(options.timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        destination = None
        if options.repo_id is not None:
            destination = Destination(options.repo_id, options.revision, options.private)
        check = destination if options.check else None
        stage = None if options.check else _stage(outbox, destination, trust=options.trust_remote_code)
        return 0 if push(options.run_dir, check=check, stage=stage, say=say) else 1
    finally:
        timer.cancel()


def _stage(outbox: Outbox, destination: Destination | None, *, trust: bool) -> Callable[[], None] | None:
    """What is to be put in before anything is sent: what was asked for, or scores that a model has got since."""
    if destination is not None:
        from ner_lightning.hub.export import best_of_run, stage_best
        from ner_lightning.hub.push import full_id

        path = best_of_run(outbox.run_dir)
        destination = replace(destination, repo_id=full_id(destination.repo_id))
        return partial(stage_best, outbox, path, destination, trust_remote_code=trust)
    if not (waiting := outbox.waiting()):
        return None
    staged = (waiting[-1].folder / "push.json").stat().st_mtime_ns
    tests = outbox.run_dir.glob("**/checkpoints/*.test.json")
    if not any(test.stat().st_mtime_ns > staged for test in tests):
        return None
    from ner_lightning.hub.export import stage_with_scores

    return partial(stage_with_scores, outbox, trust_remote_code=trust)


def _export(args: list[str]) -> int:
    from jsonargparse import ArgumentParser

    from ner_lightning.hub.export import export

    parser = ArgumentParser(
        "python -m ner_lightning export",
        description="Write the model of a checkpoint as a folder that transformers loads, with its card and scores.",
    )
    parser.add_function_arguments(export, as_group=False)
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    options = vars(parser.parse_args(args))
    options.pop("debug")
    print(f"exported: {export(**options)}")
    return 0


def _predict(args: list[str]) -> int:
    from jsonargparse import ArgumentParser

    from ner_lightning.predict import predict

    parser = ArgumentParser("python -m ner_lightning predict", description="Label the words of files of any format.")
    parser.add_argument("inputs", nargs="+", help="Files of any format that is read, or - for standard input.")
    parser.add_function_arguments(predict, as_group=False, skip={"inputs"})
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    options = vars(parser.parse_args(args))
    options.pop("debug")
    # what is half written goes with any end; Python alone would die of this signal without tidying up
    former = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        predict(**options)
    finally:
        signal.signal(signal.SIGTERM, former)
    return 0


if __name__ == "__main__":
    sys.exit(main())
