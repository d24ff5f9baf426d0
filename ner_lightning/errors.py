"""The exception for what the user can mend, and how messages say what was wrong."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from inspect import signature

# what jsonargparse tells of a value: each kind that it could have been, and why it is not; of one that names a class,
# first of all what that class says of its own options
_OPTION = re.compile(r'Parser key "([\w.]+)":')
_OF_CLASS = re.compile(r"Problem with given class_path '([\w.]+)':\s+(?:--(.+)|Option '(\w+)' is not accepted)?")
_VALUE = re.compile(
    r"Subtypes: \[(.*)\]\n(?:.*\n)*? *Given value: (?!NestedArg)(.*)|Expected an? (.*)\. Got value: (.*)"
)
_KIND = re.compile(r"typing\.Literal\[([^]]*)\]|<class '([^']*)'>")
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


def in_one_sentence(message: str) -> str:
    """Shorten what a parser says of a wrong value: the option, what was given, what is expected.

    Args:
        message: What the parser says; all else stays as it is.
    """
    if not (found := _OPTION.match(message)):
        return message
    option = f"--{found[1]}"
    if of_class := _OF_CLASS.search(message):
        path, told, unknown = of_class.groups()
        if told:
            return f"{option}.{told}"
        if unknown:
            from pydoc import locate  # of no use but here

            kind, name = locate(path), path.rpartition(".")[2]
            known = signature(kind).parameters if callable(kind) else ()
            return f"{option}.{unknown}: {name} has no such option{suggestion(unknown, known)}"
    if not (wrong := _VALUE.search(message)):
        return message
    kinds, value = wrong[1] or wrong[3], wrong[2] or wrong[4] or ""
    kinds = re.sub(r"[\w.]+\.(\w+)", r"\1", _KIND.sub(r"\1\2", kinds)).replace("'", "").replace("NoneType", "null")
    kinds = ", ".join(dict.fromkeys(kinds.split(", ")))  # 16, and 16 as text
    return f"{option}={value}: expected {' or '.join(kinds.rsplit(', ', 1))}"


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
