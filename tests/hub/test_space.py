"""The files of a Space: its page finds what the run finds, with the model beside it or that of the Hub."""

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from ner_lightning.__main__ import main
from ner_lightning.errors import InputError
from ner_lightning.hub import export
from ner_lightning.hub.space import SDK_VERSION
from ner_lightning.predict import Tagger

TEXT = "Hal Minnow likes Keldra."


@pytest.fixture(scope="module")
def run(tmp_path_factory, conll_files, tiny_model):
    folder = tmp_path_factory.mktemp("run")
    files = [f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation")]
    trainer = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.max_steps=1"]
    options = [f"--model.model_name_or_path={tiny_model}", f"--trainer.default_root_dir={folder}"]
    assert main(["fit", *options, *files, *trainer, "--trainer.log_every_n_steps=1"]) == 0
    return folder / "version_0"


@pytest.fixture
def launched(monkeypatch):
    """What the page of a Space is launched with, in place of a launch."""
    calls = []
    page = ModuleType("ner_lightning.predict.page")
    page.launch = lambda tagger, **options: calls.append((tagger, options))
    monkeypatch.setitem(sys.modules, page.__name__, page)
    return calls


def metadata(folder):
    _, head, _ = (folder / "README.md").read_text().split("---\n")
    return yaml.safe_load(head)


def test_a_space_holds_its_model_and_finds_what_the_run_finds(run, tmp_path, launched, capsys):
    target = tmp_path / "space"
    assert main(["export", "--space", f"--ckpt_path={run}", f"--output={target}", "--license=mit"]) == 0
    assert capsys.readouterr().out == f"exported: {target}\n"
    assert {path.name for path in target.iterdir()} == {"app.py", "requirements.txt", "README.md", "model"}
    assert metadata(target) == {
        "title": "tiny_model0-token-classifier",
        "sdk": "gradio",
        "sdk_version": SDK_VERSION,
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": "app.py",
        "license": "mit",
    }
    runpy.run_path(str(target / "app.py"))
    ((tagger, options),) = launched
    assert tagger(TEXT) == Tagger.load(run)(TEXT)
    assert options["title"] == "tiny_model0-token-classifier"
    assert len(options["examples"]) == 2
    with pytest.raises(InputError, match="holds no exported model, and is not replaced"):
        export(ckpt_path=str(run), output=str(target), overwrite=True, space=True)


def test_a_space_may_load_its_model_from_the_hub(run, tmp_path, launched, monkeypatch):
    example = "It's \"{Mira}\" '''\\ Toll."
    options = {"ckpt_path": str(run), "repo_id": "you/tiny", "space": True, "widget_examples": [example]}
    target = export(output=str(tmp_path / "space"), **options)
    assert {path.name for path in target.iterdir()} == {"app.py", "requirements.txt", "README.md"}
    assert metadata(target)["models"] == ["you/tiny"]
    monkeypatch.setattr(Tagger, "load", lambda model: model)
    runpy.run_path(str(target / "app.py"))
    assert launched == [("you/tiny", {"title": "you/tiny", "examples": [example]})]


@pytest.mark.parametrize("options", [{"repo_id": "tiny"}, {"repo_id": "you/tiny", "onnx": True}])
def test_a_model_of_the_hub_has_a_whole_id_and_weights(run, options):
    with pytest.raises(InputError, match=r"give the id with its namespace \(you/tiny\), without --onnx"):
        export(ckpt_path=str(run), space=True, **options)


def test_the_version_of_gradio_is_the_oldest_of_the_extra():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    (oldest,) = re.findall(r'^demo = \["gradio>=([\d.]+)"\]', text, re.MULTILINE)
    assert f"{oldest}.0" == SDK_VERSION
