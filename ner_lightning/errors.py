"""The exception for what the user can mend, and how messages say what was wrong."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_UNKNOWN = re.compile(r"unrecognized arguments: .*?(--[\w.-]+)|does not accept option '([\w.]+)'")


class InputError(ValueError):
    """A file, an option or a checkpoint cannot be used as given.

    Its text is one sentence that names the file and line or the option, what was expected and what stands
    there. The command line prints that sentence instead of a traceback.
    """

    def __str__(self) -> str:
        """The sentence, with escapes for what a file may hold and a terminal obeys, and for line ends."""
        return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in super().__str__())


def first_line(error: Exception) -> str:
    """Shorten what a library says to what fits into a sentence.

    Args:
        error: An error of another library.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class UsageError(InputError):
    """Options that do not go together; the command line exits as it does for a misspelt one."""


def refuse_without(other: str, **given: object) -> None:
    """Refuse options that have no effect, as the one that they belong to is not given.

    Args:
        other: That one, such as `--onnx`.
        given: Values of the options by name; None or False where one is not given.

    Raises:
        UsageError: One is given.
    """
    for name, value in given.items():
        if value is not None and value is not False:
            raise UsageError(f"--{name} belongs to {other}: give both, or leave it out")


def suggestion(word: str, known: Iterable[str]) -> str:
    """What a message says after an unknown word: `; did you mean X?`, or nothing where no known word is like it.

    Args:
        word: What was given.
        known: What could have been given.
    """
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def with_suggestion(message: str, options: Iterable[str]) -> str:
    """Add the option that was meant to what a parser says of an unknown one.

    Args:
        message: What the parser says.
        options: Names of its options, without dashes.
    """
    if not (unknown := _UNKNOWN.search(message)):
        return message
    typed, of_a_file = unknown.groups()
    return message + suggestion(typed or of_a_file, [f"--{name}" if typed else name for name in options])
