"""The exception for what the user can mend, and what other libraries say in a sentence."""


class InputError(ValueError):
    """A file, an option or a checkpoint cannot be used as given.

    Its text is one sentence that names the file and line or the option, what was expected and what stands
    there. The command line prints that sentence instead of a traceback.
    """


def first_line(error: Exception) -> str:
    """Shorten what a library says to what fits into a sentence.

    Args:
        error: An error of another library.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
