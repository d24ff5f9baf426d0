"""The one exception for what the user can mend; it knows nothing of where it is raised or shown."""


class InputError(ValueError):
    """A file, an option or a checkpoint cannot be used as given.

    Its text is one sentence that names the file and line or the option, what was expected and what stands
    there. The command line prints that sentence instead of a traceback.
    """
