"""`python -m ner_lightning`: the first word of the command line decides what is imported and run."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import Parameter, signature
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ArgumentParser

from ner_lightning.errors import InputError, UsageError, in_one_sentence, suggestion, with_suggestion

# Threads of PyTorch that wait for each other sleep: beside any other load they would keep a processor busy by waiting,
# and two threads be several times slower than one. It is read when torch is imported, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_PROGRAM = "python -m ner_lightning"
# each is a function of that name, whose signature and docstring are the command
_COMMANDS = {
    "predict": "ner_lightning.predict.files",
    "serve": "ner_lightning.predict.serve",
    "demo": "ner_lightning.predict.demo",
    "export": "ner_lightning.hub.folder",
    "push": "ner_lightning.hub.pushing",
    "seeds": "ner_lightning.seeds",
    "tune": "ner_lightning.tune",
    "learning-curve": "ner_lightning.learning_curve",
    "compare": "ner_lightning.reports.compare",
    "report": "ner_lightning.reports.report",
}
_OF_THE_TRAINER = ("fit", "validate", "test", "inspect")  # see `cli`


def main(args: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Arguments without the name of the program; by default those that the program was started with.

    Returns:
        Exit code: 0, or 1 after an error that is told in one sentence. Wrong usage exits with 2.
    """
    args = sys.argv[1:] if args is None else args
    word = args[0] if args else "--help"
    try:
        if word in _COMMANDS:
            return _run(word, args[1:])
        if not word.startswith("-") and word not in _OF_THE_TRAINER:
            known = (*_OF_THE_TRAINER, *_COMMANDS)
            raise UsageError(f"no command {word!r} (there are {', '.join(known)}){suggestion(word, known)}")
        code: int = _imported("ner_lightning.cli").main(args)
        return code
    except (InputError, ModuleNotFoundError, OSError) as error:
        if "--debug" in args:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _imported(module: str) -> ModuleType:
    """Import a module without looking for garbage meanwhile: a quarter of the time, for nothing is thrown away."""
    if module in sys.modules or not gc.isenabled():
        return import_module(module)
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()  # nor is it looked for among what was imported
        gc.enable()


def _run(name: str, args: list[str]) -> int:
    if name in ("predict", "serve", "demo"):
        # read at the first product, which is later: oneDNN would keep the kernels of a thousand sizes of batches, by
        # and by 600 MB of them, and is no faster for it
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
        os.environ.setdefault("LRU_CACHE_CAPACITY", "16")  # torch's own, of the same
    command = getattr(_imported(_COMMANDS[name]), name.replace("-", "_"))
    flags = [f"--{each}" for each, hint in get_type_hints(command).items() if hint in (bool, bool | None)]
    following = [*args[1:], ""]
    args = [  # `--check` is `--check=true`, and takes no word that stands behind it
        f"{arg}=true" if arg in flags and then not in ("true", "false", "null") else arg
        for arg, then in zip(args, following, strict=False)
    ]
    parser = _parser(name, command)
    if "fit_options" in signature(command).parameters:
        args = _own_first(args, parser)
    options = vars(parser.parse_args(args))
    options.pop("debug")
    if name == "predict":
        from ner_lightning.hardware import keep_memory

        keep_memory()
    # what is half written goes with any end; Python alone would die of this signal without tidying up
    former = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        done = command(**options)
    finally:
        signal.signal(signal.SIGTERM, former)
    if isinstance(done, Path):
        print(f"{name}ed: {done}")
    return 1 if done is False else 0


def _own_first(args: list[str], parser: ArgumentParser) -> list[str]:
    """Put what is no option of this command behind `--`, as words of another one."""
    own, others, words = [], [], iter(args)
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in parser._option_string_actions or name == "--debug":  # argparse has no public list of them
            others.append(word)
        else:
            own += [word] if equals or name in ("-h", "--help") else [word, *islice(words, 1)]
    return [*own, *(["--", *others] if others else [])]


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say which option may have been meant, or what a value has to be."""
        # argparse has no public list of what is an option and no word that stands alone
        options = [option.lstrip("-") for action in self._actions for option in action.option_strings]
        super().error(with_suggestion(in_one_sentence(message), options), ex)


def _parser(name: str, command: Callable[..., Any]) -> ArgumentParser:
    """A parser for the signature of a function: what has no default stands alone, all else is `--name=value`."""
    told = docstring_parser.parse(command.__doc__ or "")
    hints, parameters = get_type_hints(command), signature(command).parameters
    required = [each for each, parameter in parameters.items() if parameter.default is Parameter.empty]
    several: set[str | int] = {each for each in required if get_origin(hints[each]) is Sequence}
    usage = [_PROGRAM, name, *(each.upper() + " ..." * (each in several) for each in required), "[options]"]
    parser = _Parser(
        f"{_PROGRAM} {name}", usage=" ".join(usage), description=told.short_description, allow_abbrev=False
    )
    for parameter in told.params:
        if parameter.arg_name in several:
            parser.add_argument(parameter.arg_name, nargs="+", type=str, help=parameter.description)
    parser.add_function_arguments(command, as_group=False, as_positional=True, skip=several)
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
