"""`ValidationFigures` gives TensorBoard what a report shows: one step a validation, also of a run that goes on."""

import io
import re
import sys
from pathlib import Path

import pytest
from conftest import room
from lightning.pytorch import LightningModule, Trainer

from ner_lightning.__main__ import main
from ner_lightning.errors import InputError
from ner_lightning.reports.predictions import predictions_of
from ner_lightning.reports.report import numbers_of

pytest.importorskip("matplotlib", reason="needs the extra `report`")
from ner_lightning.reports.validation_figures import ValidationFigures

pytestmark = pytest.mark.slow  # so that CI runs it where matplotlib is
FIGURES = ["confusion", "kinds", "reliability", "thresholds", "types"]


@pytest.fixture
def fit(tmp_path, monkeypatch, conll_files, tiny_model):
    monkeypatch.chdir(tmp_path)

    def call(*args):
        files = [f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation")]
        quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]
        model = [f"--model.model_name_or_path={tiny_model}", "--model.learning_rate=5e-2", "--data.batch_size=1"]
        return main(["fit", *files, *model, *quiet, *args])

    return call


def images(folder):
    """Steps and bytes of the images of each name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(folder, size_guidance={"images": 0}).Reload()
    return {name: events.Images(name) for name in events.Tags()["images"]}, events


def test_each_validation_is_a_step_also_after_a_resume(fit, monkeypatch):
    from PIL import Image

    drawn, draw = [], ValidationFigures.__init__

    def noting(callback):
        draw(callback)
        figures_of = callback._figures_of
        callback._figures_of = lambda numbers: drawn.append(numbers) or figures_of(numbers)

    monkeypatch.setattr(ValidationFigures, "__init__", noting)
    assert fit("--trainer.callbacks+=ValidationFigures", "--trainer.max_epochs=2") == 0
    assert fit("--trainer.max_epochs=3", "--ckpt_path=last") == 0  # which knows the callback
    found, events = images("runs/version_0")
    assert sorted(found) == [f"validation/{name}" for name in FIGURES]
    steps = [each.step for each in events.Scalars("val_f1")]
    assert len(steps) == len(drawn) == 3
    assert [each.step for each in found["validation/types"]] == steps  # the first have no entity to be reliable
    for each in (each[-1] for each in found.values()):
        assert each.step == steps[-1]
        assert len(Image.open(io.BytesIO(each.encoded_image_string)).convert("L").getcolors(10_000)) > 10
    last = Path("runs/version_0/checkpoints/last.ckpt")
    report = numbers_of(predictions_of(last, split="validation", device="cpu"))
    assert drawn[-1] == {name: report[name] for name in drawn[-1]}
    assert sum(drawn[-1]["types"][0]["kinds"].values()) > 0


def test_a_part_of_a_validation_and_a_rehearsal_are_not_drawn(fit, monkeypatch):
    with_it = ["--trainer.callbacks+=ValidationFigures", "--trainer.max_epochs=1"]
    assert fit(*with_it, "--trainer.limit_val_batches=1") == 0
    assert images("runs/version_0")[0] == {}
    assert fit(*with_it, "--trainer.fast_dev_run=true") == 0


def test_a_full_disk_is_named(fit, capsys):
    assert fit("--trainer.max_epochs=1") == 0  # the cache
    with room(20_000):
        without = "--trainer.enable_checkpointing=false"
        assert fit("--trainer.callbacks+=ValidationFigures", "--trainer.max_epochs=9", without) == 1
    message = r"error: runs/version_1/events\S+: cannot be written: File too large; no checkpoint was saved before"
    assert re.fullmatch(message, capsys.readouterr().err.splitlines()[-1])


def test_what_is_missing_is_said_in_a_sentence(fit, capsys, monkeypatch):
    assert fit("--trainer.callbacks+=ValidationFigures", "--trainer.logger=false") == 1
    told = "error: ValidationFigures: the Trainer has no TensorBoardLogger, which takes the figures; add one, or leave"
    assert capsys.readouterr().err.splitlines()[-1].startswith(told)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "ner_lightning.reports.figures", raising=False)
    assert fit("--trainer.callbacks+=ValidationFigures") == 1
    told = 'error: ValidationFigures needs matplotlib: pip install "ner-lightning[report]"'
    assert capsys.readouterr().err.splitlines()[-1] == told
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"^ValidationFigures: expected a TokenClassificationModule, found Lightn"):
        ValidationFigures().setup(Trainer(accelerator="cpu", logger=False), LightningModule(), "fit")
