"""The one exception for what the user can mend, and the hint for a misspelt word."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A file, an option or a checkpoint cannot be used as given.

    Its text is one sentence that names the file and line or the option, what was expected and what stands
    there. The command line prints that sentence instead of a traceback.
    """


def suggestion(word: str, known: Iterable[str]) -> str:
    """What a message says after an unknown word: `; did you mean X?`, or nothing where no known word is like it.

    Args:
        word: What was given.
        known: What could have been given.
    """
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
