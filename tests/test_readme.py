"""What the README says runs as it stands there, and what it names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_the_python_of_the_readme_runs_from_top_to_bottom(hub, tiny_model, conll_files, tmp_path, monkeypatch):
    hub.add_repo("model", "bert-base-cased", {path.name: path.read_bytes() for path in tiny_model.iterdir()})
    monkeypatch.chdir(tmp_path)
    Path("train.conll").write_text((conll_files / "train.conll").read_text())
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    assert names["data"].labels == [".", "DT", "NNP", "VBD"]
    assert names["batch"]["input_ids"].shape == names["batch"]["labels"].shape
    assert names["model"].trainer.global_step == 3


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
