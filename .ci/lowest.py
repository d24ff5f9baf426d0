"""Print the lowest version of each dependency that pyproject.toml allows, as constraints for pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
    floor = re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", requirement)
    if floor and floor[1] != "torch":  # .ci/constraints.txt has the one that is not gigabytes
        print(f"{floor[1]}=={floor[2]}")
