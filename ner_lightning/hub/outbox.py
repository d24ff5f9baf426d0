"""Models of a run that wait to be pushed: the `hub` folder of the run, and the journal of what became of each.

A model is staged whole or not at all, under a growing number, and does not change afterwards. The process that trains
puts in, the one that pushes takes out; renaming a folder decides between them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ner_lightning.errors import InputError
from ner_lightning.files import process_mark, remove_left_behind, replacing

_SENDING = ".sending"  # suffix of the folder that is being pushed
_PARTIAL = ".partial"  # suffix of a folder that is being written or removed


@dataclass(frozen=True)
class Destination:
    """Where a model goes."""

    repo_id: str  # without a namespace the one of the account is taken
    revision: str | None = None  # branch; by default `main`
    private: bool | None = None  # by default as the account says


@dataclass(frozen=True)
class About:
    """What only its author knows of a model."""

    repo_id: str | None = None
    language: Sequence[str] | str | None = None
    license: str | None = None
    widget_examples: Sequence[str] | None = None


@dataclass(frozen=True)
class Staged:
    """A model in the outbox."""

    folder: Path
    name: str  # number and step
    destination: Destination
    message: str  # of the commit

    @property
    def model(self) -> Path:
        """The folder that is pushed."""
        return self.folder / "model"

    def replaces(self, older: Staged) -> bool:
        """Whether an older model need not be sent."""
        places = [(to.repo_id, to.revision) for to in (self.destination, older.destination)]
        return older.name < self.name and places[0] == places[1]


class Outbox:
    """The `hub` folder of a run."""

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self.folder = self.run_dir / "hub"
        self.journal = self.folder / "pushes.jsonl"
        self._about = self.folder / "about.json"

    def write_about(self, about: About) -> None:
        """Keep what the card of each model of this run says."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._about) as partial:
            partial.write_text(json.dumps(vars(about)), encoding="utf-8")

    def read_about(self) -> About:
        """What `write_about` kept; empty where it did not."""
        return About(**json.loads(self._about.read_text(encoding="utf-8"))) if self._about.is_file() else About()

    def stage(self, write: Callable[[Path], None], *, step: int, destination: Destination, message: str) -> str:
        """Put in a model that `write` writes into a folder; gives the name under which the journal speaks of it.

        It replaces queued models for the same place that are not yet uploading.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clear()
        name = f"{self._number():06}-step-{step}"
        partial = self._partial(name)
        partial.mkdir()
        try:
            (partial / "model").mkdir()
            write(partial / "model")
            (partial / "push.json").write_text(json.dumps({**vars(destination), "message": message}))
            partial.rename(self.folder / name)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self.record("staged", name, message=message)
        staged = Staged(self.folder / name, name, destination, message)
        for older in self.waiting():
            if staged.replaces(older) and not older.folder.name.endswith(_SENDING):
                self.replace(older, by=name)
        return name

    def waiting(self) -> list[Staged]:
        """The models that are not pushed yet, oldest first; the one that is being pushed too."""
        if not self.folder.is_dir():
            return []
        staged = []
        for folder in sorted(self.folder.iterdir()):
            if folder.is_dir() and folder.suffix != _PARTIAL:
                try:
                    note = json.loads((folder / "push.json").read_text(encoding="utf-8"))
                except (OSError, ValueError):  # taken out at this very moment, or no folder of ours
                    continue
                message = note.pop("message")
                staged.append(Staged(folder, folder.name.removesuffix(_SENDING), Destination(**note), message))
        return staged

    @contextmanager
    def sender(self) -> Iterator[None]:
        """Be the one process that pushes; a process that died holds nothing.

        Raises:
            InputError: Another process pushes at the moment.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                self._clear()
                yield
        except Timeout as error:
            raise InputError(f"{self.run_dir}: another process pushes from this run at the moment") from error

    def take(self) -> Staged | None:
        """Take the newest model to push it, and replace older ones. For the sender alone."""
        while waiting := self.waiting():
            newest = waiting[-1]
            sending = self.folder / (newest.name + _SENDING)
            try:
                newest.folder.rename(sending)
            except FileNotFoundError:  # a newer one has replaced it since
                continue
            for older in waiting[:-1]:
                if newest.replaces(older):
                    self.replace(older, by=newest.name)
            return replace(newest, folder=sending)
        return None

    def put_back(self, staged: Staged) -> None:
        """Leave a model that could not be pushed for later."""
        staged.folder.rename(self.folder / staged.name)

    def replace(self, staged: Staged, *, by: str) -> None:
        """Remove a model that a newer one replaces."""
        if self._remove(staged):
            self.record("replaced", staged.name, by=by)

    def forget(self, staged: Staged) -> None:
        """Remove a model that is not to be pushed any more."""
        if self._remove(staged):
            self.record("forgotten", staged.name, message=staged.message)

    def finish(self, staged: Staged, *, commit: str, url: str) -> None:
        """Note that a model is on the Hub, and remove it here."""
        self.record("pushed", staged.name, message=staged.message, commit=commit, url=url)
        self._remove(staged)

    def record(self, event: str, name: str | None = None, **facts: Any) -> None:
        """Add a line to the journal.

        Args:
            event: `checked`, `staged`, `started`, `retry`, `failed`, `stopped`, `pushed`, `replaced` or `forgotten`.
            name: Of the model; none where it is about the repository.
            **facts: What else there is to know.
        """
        time = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": time, "event": event, "name": name, **facts})
        with self.journal.open("ab+") as file:
            if file.tell() and not self.journal.read_bytes().endswith(b"\n"):
                line = "\n" + line  # what was cut short by a crash spoils no other line
            file.write(line.encode() + b"\n")  # short enough to be written at once

    def records(self) -> list[dict[str, Any]]:
        """The journal; a line that was cut short by a crash is left out."""
        if not self.journal.is_file():
            return []
        records = []
        for line in self.journal.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return records

    def _number(self) -> int:
        """One that no model has had, those included that are gone."""
        names = [path.name for path in self.folder.iterdir()] + [str(record["name"]) for record in self.records()]
        return 1 + max(map(int, re.findall(r"^(\d+)-step-", "\n".join(names), re.MULTILINE)), default=0)

    def _remove(self, staged: Staged) -> bool:
        gone = self._partial(staged.name)
        try:
            staged.folder.rename(gone)
        except FileNotFoundError:  # the other process was faster
            return False
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def _partial(self, name: str) -> Path:
        return self.folder / f"{name}.{process_mark()}{_PARTIAL}"

    def _clear(self) -> None:
        """Remove what a process that was killed was about to write or to remove."""
        remove_left_behind(self.folder.glob(f"*-step-*{_PARTIAL}"))
