"""What the README says runs as it stands there, and what it names is there."""

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
TO_THE_HUB = README.partition("## From a run to a model that others load")[2].partition("\n##")[0]


@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_the_python_of_the_readme_runs_from_top_to_bottom(hub, tiny_model, conll_files, tmp_path, monkeypatch):
    hub.add_repo("model", "bert-base-cased", {path.name: path.read_bytes() for path in tiny_model.iterdir()})
    monkeypatch.chdir(tmp_path)
    Path("train.conll").write_text((conll_files / "train.conll").read_text())
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README.replace(TO_THE_HUB, ""), re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    assert names["data"].labels == [".", "DT", "NNP", "VBD"]
    assert names["batch"]["input_ids"].shape == names["batch"]["labels"].shape
    assert names["model"].trainer.global_step == 3


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_fit_to_pipeline_line_by_line(tiny_model, tmp_path):
    """The commands and the Python of that section as they stand, with the real client."""
    (commands,) = re.findall(r"```sh\n(.*?)```", TO_THE_HUB, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", TO_THE_HUB, re.DOTALL)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    with FakeHub(user="you") as fake:
        serve(fake, tiny_model)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= fake.env(tmp_path / "home") | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

        def run(*command):
            return subprocess.run(
                command, cwd=tmp_path, env=environment, check=True, text=True, stdout=subprocess.PIPE
            ).stdout

        told = run("bash", "-ec", commands)
        assert "on the Hub  step 1: val_f1" in told  # the first epoch is as good as the others
        assert "pushed " in told.splitlines()[-1]
        titles = [commit.title for commit in fake.repo("model", "you/bert-conll2003").log()]
        assert len(titles) >= 3  # the Hub's own, at least one of training, the scores of the test
        assert "### test" in fake.repo("model", "you/bert-conll2003").head()["README.md"].data.decode()
        assert run(sys.executable, "-c", code + "print(type(find).__name__)") == "TokenClassificationPipeline\n"


def test_readme_and_ci_run_the_same_two_commands():
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for command in (
        "pip install -e . && python -m ner_lightning fit --config configs/quickstart.yaml",
        'pip install -e ".[test]" && python -m pytest',
    ):
        assert f"\n{command}\n" in README
        assert f"\n{command}\n" in ci


def test_readme_names_every_module_and_config():
    for path in (ROOT / "ner_lightning").glob("[a-z]*.py"):
        if path.stem not in {"errors", "version"}:
            assert f"  {path.name} " in README
    for path in (ROOT / "configs").iterdir():
        assert path.stem in README
