"""The parser of the command line: a help that shows our options, and the Trainer's on request; hints for misspelt ones.

LightningCLI tells it what the options are.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any, NoReturn, get_args

from lightning.pytorch.cli import LightningArgumentParser

from ner_lightning.errors import in_one_sentence, with_suggestion

_INCOMPLETE = re.compile(
    r"""Parser key "([\w.]+)":.*?given class_path '[\w.]*?(\w+)':\s+the following arguments are required: ([\w, ]+)""",
    re.DOTALL,
)


class Parser(LightningArgumentParser):
    """The parser of the program, and that of each subcommand."""

    def add_lightning_class_args(self, lightning_class: Any, *args: Any, **kwargs: Any) -> list[str]:
        """Add the options of a class; where both int and float are allowed, an int stays one."""
        # `typing` caches unions without regard to order: after somebody's Optional[Union[float, int]], Lightning's
        # Optional[Union[int, float]] is that one, and limit_test_batches=1 is read as 1.0, which means all of them
        # (of the class itself, and of those to which it hands options on)
        for owner in lightning_class.__mro__[:-1]:
            hints = vars(owner)["__init__"].__annotations__ if "__init__" in vars(owner) else {}
            for name, kinds in {name: get_args(hint) for name, hint in hints.items()}.items():
                if {int, float} <= set(kinds):
                    hints[name] = reduce(or_, (int, *(kind for kind in kinds if kind is not int)))
        names: list[str] = super().add_lightning_class_args(lightning_class, *args, **kwargs)
        return names

    def add_method_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add the arguments of a subcommand's method to the other options, in no group of their own."""
        names: list[str] = super().add_method_arguments(*args, **{**kwargs, "as_group": False})
        return names

    def format_help(self, *args: Any) -> str:
        """Text of `--help`: our groups of options first; the Trainer's are left to `--help.trainer`.

        Args:
            *args: A formatter, in newer releases of Python.
        """
        groups = self.groups or {}
        if "trainer" not in groups:  # of the program
            return self._help_of(self._action_groups, *args)
        first = [groups[name] for name in ("data", "model", "checkpoint")]
        others = [group for name, group in groups.items() if name != "trainer" and group not in first]
        # last those of argparse, for options without a group
        return self._help_of([*first, *others, *self._action_groups[:2]], *args)

    def trainer_help(self) -> str:
        """Text of `--help.trainer`."""
        return self._help_of([(self.groups or {})["trainer"]])

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with 2 after a sentence, which names the option that an unknown one is like, or what a value has to be.

        Args:
            message: What is wrong.
            ex: Where it was found.
        """
        if incomplete := _INCOMPLETE.search(message):  # in a dump of all that the option could have been
            option, name, missing = incomplete.groups()
            after = " ".join(f"--{option}.{each}=..." for each in missing.split(", "))
            message = f"--{option}: {name} needs {missing}: give it in its init_args, or after its name as {after}"
        message = in_one_sentence(message)
        # as jsonargparse finds the parser of the subcommand for which a config file is read
        parser = getattr(ex, "subcommand_parser", None) or self
        message = with_suggestion(message, [name for name, _ in parser.get_defaults().items()])
        super().error(message, ex)

    def _help_of(self, groups: Sequence[Any], *args: Any) -> str:
        # argparse has no public way to order groups or to leave one out
        every, self._action_groups = self._action_groups, list(groups)
        try:
            return super().format_help(*args)
        finally:
            self._action_groups = every


# a subclass of the private one, by which jsonargparse knows that it is no option of a config
class TrainerHelp(argparse._HelpAction):
    """Show the help of the Trainer's options."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print it, and exit."""
        assert isinstance(parser, Parser)
        print(parser.trainer_help(), end="")
        parser.exit()
