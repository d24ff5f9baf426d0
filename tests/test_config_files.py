"""Config files by name: those of the package in a clone and in a wheel, and what stands in the current folder first."""

import tomllib
from pathlib import Path

import pytest

from ner_lightning.config_files import find_configs
from ner_lightning.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("config", [path.stem for path in sorted((ROOT / "configs").glob("*.yaml"))])
def test_a_name_is_that_of_a_config_of_the_package(config):
    path = str(ROOT / "configs" / f"{config}.yaml")
    assert find_configs(["fit", "--config", config, "--x=1"]) == ["fit", "--config", path, "--x=1"]
    assert find_configs([f"--config={config}", "-c", config]) == [f"--config={path}", "-c", path]


def test_everything_else_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("conll").write_text("model: {}")
    Path("own.yaml").write_text("model: {}")
    args = ["--config", "conll", "--config=own.yaml", "--config={}", "--config=nowhere.yaml", "--config", ".", "conll"]
    assert find_configs(args) == args
    assert find_configs(["--config"]) == ["--config"]


def test_a_name_of_nothing_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match=r"^--config=conl: no such file, .*: chunking, .*conll, pos, quickstart"):
        find_configs(["--config=conl"])


def test_a_checkpoint_is_no_config(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"PK\x03\x04\x80")
    with pytest.raises(InputError, match=r"x.ckpt: not a text file, which a config is; a checkpoint is .*--ckpt_path"):
        find_configs(["--config", str(tmp_path / "x.ckpt")])


@pytest.mark.parametrize(
    "content", ["seed_everything: " + "9" * 5000, "trainer: &x {callbacks: *x}", "a: &x [*x]", "a: 2026-13-01"]
)
def test_a_value_that_cannot_be_read_is_told_before_the_parser_meets_it(tmp_path, content):
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(InputError, match=r"^--config=.*x\.yaml: a value in it cannot be read: "):
        find_configs([f"--config={tmp_path / 'x.yaml'}"])


def test_a_wheel_has_all_packages_and_the_configs():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "ner_lightning").rglob("__init__.py")}
    assert set(setuptools["packages"]) == packages | {"ner_lightning.configs"}
    assert setuptools["package-dir"] == {"ner_lightning.configs": "configs"}
    assert setuptools["package-data"]["ner_lightning.configs"] == ["*.yaml"]
