"""A full disk, as a limit on the size of files: one sentence, the file, what is kept, and nothing half written."""

import re
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest
from conftest import room

from ner_lightning.__main__ import main as program
from ner_lightning.cli import main
from ner_lightning.errors import InputError
from ner_lightning.files import naming, replacing
from ner_lightning.loggers import CSVLog, TensorBoardLog


@pytest.fixture
def fit(tmp_path, monkeypatch, conll_files, tiny_model, capfd):
    """Train with little room on the disk; gives (code, all that was printed)."""
    monkeypatch.chdir(tmp_path)

    def call(size, *args):
        data = [f"--data.{split}_file={conll_files / split}.conll" for split in ("train", "validation")]
        quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]
        main(["fit", *data, f"--model.model_name_or_path={tiny_model}", *quiet, "--trainer.max_epochs=1"])  # the cache
        capfd.readouterr()
        with room(size):
            code = main(["fit", *data, f"--model.model_name_or_path={tiny_model}", *quiet, *args])
        return code, "".join(capfd.readouterr())

    return call


def test_a_checkpoint_that_has_no_room_ends_fit_in_a_sentence(fit):
    code, printed = fit(60_000)
    assert code == 1
    assert "Traceback" not in printed
    place = "runs/version_1/checkpoints"
    message = f"error: {place}/best.ckpt: cannot be written: File too large; no checkpoint was saved before"
    assert printed.splitlines()[-1] == message
    assert list(Path(place).iterdir()) == []


def test_a_config_that_has_no_room_ends_fit_in_a_sentence(fit):
    code, printed = fit(500, "--trainer.logger=false")
    assert code == 1
    assert "Traceback" not in printed
    message = "error: runs/version_1/config.yaml: cannot be written: File too large; nothing else was written"
    assert printed.splitlines()[-1] == message


def test_a_log_that_has_no_room_ends_fit_in_a_sentence(fit):
    # no checkpoint is saved, which would be the first that has no room
    code, printed = fit(14_000, "--trainer.max_epochs=200", "--trainer.enable_checkpointing=false")
    assert code == 1
    assert "Traceback" not in printed
    message = r"error: runs/version_1/\S+: cannot be written: File too large; no checkpoint was saved before"
    assert re.fullmatch(message, printed.splitlines()[-1])


def test_the_csv_log_names_its_file_and_what_is_kept(tmp_path):
    logger = CSVLog(tmp_path, "", 0)
    for step in range(50):
        logger.log_metrics({"loss": 1.0}, step)
    (tmp_path / "version_0" / "checkpoints").mkdir(parents=True)
    (tmp_path / "version_0" / "checkpoints" / "best.ckpt").touch()
    message = r"version_0/metrics\.csv: cannot be written: File too large; kept in .*checkpoints: best\.ckpt$"
    with room(100), pytest.raises(InputError, match=message):
        logger.save()
    with room(100):
        logger.finalize("failed")  # of a run that has another reason


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_thread_of_tensorboard_leaves_its_error_to_the_next_write(tmp_path, capfd):
    logger = TensorBoardLog(tmp_path, "", 0)
    logger.log_metrics({"loss": 1.0}, 0)
    message = r"events\.out\.tfevents.*: cannot be written: File too large; no checkpoint was saved before"
    with room(100), pytest.raises(InputError, match=message):
        deque((logger.log_metrics({"loss": 1.0}, step) for step in range(10_000)), maxlen=0)
    with room(100):
        logger.finalize("failed")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_number_that_tensorboard_cannot_log_is_said_as_before(tmp_path):
    logger = TensorBoardLog(tmp_path, "", 0)
    with pytest.raises(ValueError, match="you tried to log"):
        logger.log_metrics({"loss": object()}, 0)
    logger.finalize("success")


def test_what_is_replaced_stays_where_there_is_no_room(tmp_path):
    path = tmp_path / "out"
    message = r"out: cannot be written: File too large; nothing is left of it$"
    with room(100), pytest.raises(InputError, match=message), replacing(path) as partial:
        partial.write_bytes(bytes(1000))
    assert list(tmp_path.iterdir()) == []
    path.write_text("before")
    message = r"out: cannot be written: File too large; the one that is there is kept as it was$"
    with room(100), pytest.raises(InputError, match=message), replacing(path) as partial:
        partial.write_bytes(bytes(1000))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_another_error_is_not_called_a_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError), naming("out", kept="nothing"):
        (tmp_path / "none").read_bytes()


@pytest.fixture
def predicting(tmp_path, monkeypatch, conll_files, tiny_model):
    """The command that labels the file `in.txt` with an untrained model."""
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("Mira left Arvenholm.\n" * 1000)
    data = [f"--data.{split}_file={conll_files / split}.conll" for split in ("train", "validation")]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
    main(["fit", *data, f"--model.model_name_or_path={tiny_model}", *quiet, "--trainer.max_steps=1"])
    return ["predict", "in.txt"]


def test_predictions_that_have_no_room_are_not_there_at_all(predicting, capfd):
    with room(40_000):
        code = program([*predicting, "--output=out.jsonl"])
    assert code == 1
    printed = "".join(capfd.readouterr())
    assert "Traceback" not in printed
    message = "error: out.jsonl: cannot be written: File too large; nothing is left of it"
    assert printed.splitlines()[-1] == message
    assert not list(Path().glob("out.*"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_that_has_no_room_is_said_in_a_sentence(predicting):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ner_lightning", *predicting], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    message = "standard output: cannot be written: No space left on device; what was written before is there"
    assert done.stderr.splitlines()[-1] == f"error: {message}"
