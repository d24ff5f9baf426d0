"""All that is written, under real faults of the disk: what was there stays whole, and the next write leaves no rest."""

import json
import os
import resource
import signal
import subprocess

import datasets
import numpy as np
import pytest
import torch
from conftest import room

from ner_lightning.__main__ import main
from ner_lightning.cache import cached_file, is_whole
from ner_lightning.checkpoints import find_checkpoint, read_checkpoint
from ner_lightning.errors import InputError
from ner_lightning.hub.folder import export
from ner_lightning.predict import Tagger, predict
from ner_lightning.saving import WholeCheckpointIO
from ner_lightning.scores import SplitScores, read_test, write_test

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


class Checkpoint:
    def write(self, folder, version):
        weights = {"w": torch.full((50_000,), float(version))}
        WholeCheckpointIO().save_checkpoint(
            {"state_dict": weights, "hyper_parameters": {"labels": ["O"]}}, folder / "last.ckpt"
        )

    def read(self, folder):
        (version,) = read_checkpoint(find_checkpoint(folder, root=folder))["state_dict"]["w"].unique().tolist()
        return version


class TestScores:
    __test__ = False

    def write(self, folder, version):
        (folder / "best.ckpt").write_bytes(b"weights")
        rows = np.full((20_000, 3), version)
        write_test(folder / "best.ckpt", SplitScores("test", scores={"f1": version}), {"X": rows})

    def read(self, folder):
        split, counts = read_test(folder / "best.ckpt")
        assert (counts["X"] == split.scores["f1"]).all()
        return split.scores["f1"]


class TokenCache:
    """Each version under a key of its own."""

    def write(self, folder, version):
        datasets.config.HF_DATASETS_CACHE = folder
        table = datasets.Dataset.from_dict({"n": [version] * 50_000})

        def make(path):
            with datasets.arrow_writer.ArrowWriter(path=str(path), features=table.features) as writer:
                writer.write_table(table.data.table)
                writer.finalize()

        cached_file(str(version), make)

    def read(self, folder):
        files = list((folder / "ner_lightning").glob("*.arrow"))
        assert all(map(is_whole, files))
        return max(int(file.stem) for file in files)


class Predictions:
    def __init__(self, best):
        self.best = best
        for version in (1, 2, 3):
            (best.parent / f"{version}.txt").write_text(f"{version} left Arvenholm.\n" * 300)

    def write(self, folder, version):
        predict([str(self.best.parent / f"{version}.txt")], model=str(self.best), output=str(folder / "out.jsonl"))

    def read(self, folder):
        lines = (folder / "out.jsonl").read_text().splitlines()
        assert len(lines) == 300
        (version,) = {json.loads(line)["text"][0] for line in lines}
        return int(version)


class Export:
    def __init__(self, best):
        self.best = best

    def write(self, folder, version):
        export(ckpt_path=str(self.best), output=str(folder / "model"), overwrite=True, repo_id=f"a/{version}")

    def read(self, folder):
        Tagger.load(folder / "model")
        return int((folder / "model" / "README.md").read_text().split("a/")[1][0])


@pytest.fixture(scope="module")
def best(tmp_path_factory, conll_files, tiny_model):
    """A checkpoint of a run of one step."""
    folder = tmp_path_factory.mktemp("trained")
    data = [f"--data.train_file={conll_files / 'train.conll'}", f"--model.model_name_or_path={tiny_model}"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
    assert main(["fit", *data, *quiet, "--trainer.max_steps=1", f"--trainer.default_root_dir={folder}"]) == 0
    return next(folder.glob("**/last.ckpt"))


@pytest.fixture(
    params=[
        Checkpoint,
        TestScores,
        TokenCache,
        pytest.param(Predictions, marks=pytest.mark.slow),
        pytest.param(Export, marks=pytest.mark.slow),
    ]
)
def kind(request, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", datasets.config.HF_DATASETS_CACHE)  # put back at the end
    return request.param(request.getfixturevalue("best")) if request.param in (Predictions, Export) else request.param()


def sizes(folder):
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_where_a_file_has_no_room_the_former_one_stays(kind, tmp_path):
    kind.write(tmp_path, 1)
    before = sizes(tmp_path)
    for part in (0.01, 0.5, 0.99):
        with (
            pytest.raises(InputError, match="cannot be written: File too large"),
            room(int(part * max(before.values()))),
        ):
            kind.write(tmp_path, 2)
        assert kind.read(tmp_path) == 1
        assert sizes(tmp_path) == before
    kind.write(tmp_path, 3)
    assert kind.read(tmp_path) == 3


def test_where_the_disk_is_full_the_former_one_stays(kind, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this user may mount nothing")
    try:
        kind.write(disk, 1)
        before = sizes(disk)
        free = os.statvfs(disk)
        filler = disk / "filler"
        filler.write_bytes(bytes(free.f_bavail * free.f_frsize - sum(before.values()) // 2))
        with pytest.raises(InputError, match="cannot be written: No space left on device"):
            kind.write(disk, 2)
        filler.unlink()
        assert kind.read(disk) == 1
        assert sizes(disk) == before
        kind.write(disk, 3)
        assert kind.read(disk) == 3
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_where_the_writer_is_killed_the_former_one_stays(kind, tmp_path):
    kind.write(tmp_path, 1)
    before = sizes(tmp_path)
    for part in (0.01, 0.5, 0.99):
        child = os.fork()
        if not child:
            try:
                # the system kills it in the write that goes beyond
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                with room(int(part * max(before.values()))):
                    kind.write(tmp_path, 2)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == signal.SIGXFSZ
        assert kind.read(tmp_path) == 1
        assert sizes(tmp_path).keys() > before.keys()  # what it was writing is there still
    kind.write(tmp_path, 3)
    assert kind.read(tmp_path) == 3
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]
