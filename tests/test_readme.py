"""What the README says runs as it stands there, and what it names is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_hub import FakeHub
from test_configs import serve

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title, language):
    """The code of a section in a language."""
    return "".join(
        re.findall(rf"```{language}\n(.*?)```", README.partition(f"\n## {title}\n")[2].partition("\n## ")[0], re.DOTALL)
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_its_commands_and_its_python_run_line_by_line(tiny_model, tmp_path):
    """From fit to the pipeline, as they stand there, with the real client of the Hub."""
    (tmp_path / "notes.txt").write_text("Mira Toll left Quill Works.\n")
    row = {"tokens": ["Mira", "Toll", "left"], "ner_tags": ["B-PER", "I-PER", "O"]}
    for name in ("train.jsonl", "dev.jsonl"):
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    with FakeHub(user="you") as fake:
        serve(fake, tiny_model)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= fake.env(tmp_path / "home") | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

        def run(*command):
            return subprocess.run(
                command, cwd=tmp_path, env=environment, check=True, text=True, stdout=subprocess.PIPE
            ).stdout

        told = run("bash", "-ec", section("Train, test, predict, share", "sh"))
        assert "pushed " in told.splitlines()[-1]
        assert json.loads((tmp_path / "notes.jsonl").read_text())["text"] == "Mira Toll left Quill Works."
        assert "### test" in fake.repo("model", "you/bert-conll2003").head()["README.md"].data.decode()
        shown = "print(len(several), len(words[0]), len(table['entities']))"
        assert run(sys.executable, "-c", section("In Python", "python") + shown).splitlines()[-1] == "2 5 2"
        code = section("Train, test, predict, share", "python") + "print(type(find).__name__)"
        assert run(sys.executable, "-c", code) == "TokenClassificationPipeline\n"
        assert "val_f1" in run("bash", "-ec", section("Your own data", "sh"))


def test_readme_and_ci_run_the_same_two_commands():
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for command in (
        "pip install -e . && python -m ner_lightning fit --config configs/quickstart.yaml",
        'pip install -e ".[test]" && python -m pytest',
    ):
        assert f"\n{command}\n" in README
        assert f"\n{command}\n" in ci


def test_readme_is_short():
    assert len(README.split()) <= 900


def test_its_tree_names_what_is_there():
    tree = README.partition("## What is where")[2].split("```")[1]
    package = ROOT / "ner_lightning"
    for name in re.findall(r"[a-z_]+\.py|[a-z_]+/", tree):
        assert (package / name).exists() or (ROOT / name).exists(), name
    for folder in package.iterdir():
        if folder.is_dir() and list(folder.glob("*.py")) and folder.name != "quickstart":
            assert f" {folder.name}/ " in tree
