"""`python -m ner_lightning`: its first word decides what is imported."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ner_lightning.errors import InputError

if TYPE_CHECKING:
    from ner_lightning.outbox import Destination, Outbox


def main(args: list[str] | None = None) -> int:
    """Run the command line: `push` and `export` here, which need no Trainer, all else in `cli`.

    Args:
        args: Arguments without the name of the program; by default those that the program was started with.

    Returns:
        Exit code: 0, or 1 after an error that is told in one sentence. Wrong usage exits with 2.
    """
    args = sys.argv[1:] if args is None else args
    command = {"push": _push, "export": _export}.get(args[0] if args else "")
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
    from ner_lightning.outbox import Destination, Outbox
    from ner_lightning.push import full_id, push

    parser = argparse.ArgumentParser(
        "python -m ner_lightning push",
        allow_abbrev=False,
        description="Send what a run could not push to the Hugging Face Hub. Nothing is sent twice.",
    )
    parser.add_argument("run_dir", help="folder of the run, such as runs/version_0")
    parser.add_argument(
        "--repo_id", help="send the best model of the run to this repository, with the scores of a test since"
    )
    parser.add_argument("--revision", help="branch to send it to (default: main)")
    parser.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        help="make a private repository (default: as the account says)",
    )
    parser.add_argument("--trust_remote_code", action="store_true", help="run the code that comes with the model")
    parser.add_argument("--check", action="store_true", help="first make the repository, and prove the right to write")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds after which to give up (default: 3600)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(args)
    if options.repo_id is None and (options.check or options.revision or options.private is not None):
        parser.error("--check, --revision and --private belong to --repo_id")
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
            if not options.check:
                destination_there = replace(destination, repo_id=full_id(options.repo_id))
                _stage(outbox, destination_there, trust_remote_code=options.trust_remote_code)
        # each line at once: a process that is killed keeps none for later
        done = push(options.run_dir, check=destination if options.check else None, say=partial(print, flush=True))
        return 0 if done else 1
    finally:
        timer.cancel()


def _stage(outbox: Outbox, destination: Destination, *, trust_remote_code: bool) -> None:
    """Stage the best model of a run, unless one waits already."""
    waiting = outbox.waiting()
    if not waiting:
        from ner_lightning.export import stage_best

        stage_best(outbox, destination, trust_remote_code=trust_remote_code)
    elif (theirs := waiting[-1].destination.repo_id) not in (destination.repo_id, destination.repo_id.split("/")[-1]):
        raise InputError(f"{outbox.run_dir}: a model waits for {theirs}; send it first, without --repo_id")


def _export(args: list[str]) -> int:
    from jsonargparse import ArgumentParser

    from ner_lightning.export import export

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


if __name__ == "__main__":
    sys.exit(main())
