"""The config files that a command names: paths, or names of those that the package brings along."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from ner_lightning.errors import InputError, first_line

# in an installed package, in a clone
_FOLDERS = [Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs"]


def find_configs(args: Sequence[str]) -> list[str]:
    """Put the paths of config files in the places of their names: `--config conll` is `configs/conll.yaml`.

    Args:
        args: Arguments of a command.

    Raises:
        InputError: A file is no text, has a value that cannot be read, or there is no config of such a name.
    """
    found = list(args)
    for place, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name == "--config" and equals:
            found[place] = f"--config={_find(value)}"
        elif place and args[place - 1] in ("--config", "-c"):
            found[place] = _find(arg)
    return found


def _find(value: str) -> str:
    path = Path(value)
    if value.replace("-", "_").isidentifier() and not path.exists():
        shipped = {file.stem: file for folder in reversed(_FOLDERS) for file in sorted(folder.glob("*.yaml"))}
        if value not in shipped:
            raise InputError(f"--config={value}: no such file, and no config of the package: {', '.join(shipped)}")
        return str(shipped[value])
    try:
        if path.is_file():
            # a value that holds itself would keep the parser busy for ever
            json.dumps(yaml.safe_load(path.read_text(encoding="utf-8")), default=str, skipkeys=True)
    except UnicodeDecodeError as error:
        raise InputError(
            f"--config={value}: not a text file, which a config is; a checkpoint is given as --ckpt_path"
        ) from error
    except (ValueError, RecursionError) as error:  # a value that YAML cannot make, such as a month 13
        raise InputError(f"--config={value}: a value in it cannot be read: {first_line(error)}") from error
    except (OSError, yaml.YAMLError):  # what is malformed, or is a config itself and no path, is for the parser
        pass
    return value
