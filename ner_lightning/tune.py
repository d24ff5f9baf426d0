"""Options that score better, by trial: `python -m ner_lightning tune`, by `optuna`, which is an extra.

A search has a folder in the folder of runs, `tune_0`. In it are the runs of each trial, in `trial_0`, and `tune.db`,
the study in SQLite: the options, by which the same command finds its search again, and what trials tried and scored.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ner_lightning.checkpoints import best_score
from ner_lightning.errors import InputError, UsageError, first_line
from ner_lightning.processes import alone_in, config_of_fit, finished_run, fit_in, new_folder, run_command
from ner_lightning.reports.columns import table

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

STUDY = "tune"  # the name of the one in a file
_SEARCH = "--search."


def tune(fit_options: Sequence[str], *, trials: int = 20) -> bool:
    """Look for options that score better on validation: Optuna chooses those of each trial, and ends the poor ones.

    Args:
        fit_options: All options of `fit`, such as `--config conll`, and what to look for in place of the usual:
            `--search.model.learning_rate=1e-5..1e-3`, a range, or `--search.data.batch_size=8,16,32`, choices. The same
            command again goes on where it was stopped, and tries again what failed.
        trials: How many in all, those of earlier commands counted.

    Returns:
        Whether there is a trial that was trained to its end.

    Raises:
        UsageError: There are no trials, or no range.
        InputError: `optuna` is not installed, or the first trial fails.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise InputError('tune needs optuna: pip install "ner-lightning[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if trials < 1:
        raise UsageError(f"--trials={trials}: give a number from 1")
    given = [arg for arg in fit_options if not arg.startswith(_SEARCH)]
    asked = [arg.removeprefix(_SEARCH).partition("=") for arg in fit_options if arg.startswith(_SEARCH)]
    space = {name: _distribution(name, text) for name, _, text in asked}
    # with a value of each, so that `fit` refuses what is no option of its own, or of another kind
    some = [f"--{name}={text.partition('..')[0].partition(',')[0]}" for name, _, text in asked]
    config = config_of_fit([*given, *some], command="tune")
    space = space or _usual(config)
    search = _Search(*_find(config, space), space=space, given=given, config=config)
    with alone_in(search.folder):
        search.run(trials)
    return search.show()


class _Search:
    """A folder of trials and its study."""

    def __init__(
        self,
        folder: Path,
        study: Study,
        *,
        space: dict[str, BaseDistribution],
        given: list[str],
        config: dict[str, Any],
    ) -> None:
        self.folder, self._study, self._space, self._given = folder, study, space, given
        self._failed: set[int] = set()  # the numbers of trials, in this command
        self._seed, self._monitor = int(config["seed_everything"]), config["checkpoint"]["monitor"]

    def run(self, trials: int) -> None:
        """Run what is missing of so many."""
        from optuna.trial import TrialState

        done = (TrialState.COMPLETE, TrialState.PRUNED)
        while len(self._study.get_trials(states=done)) + len(self._failed) < trials:
            self._train(self._next())

    def show(self) -> bool:
        """Print the trials, best first, and what to do next; whether there is a best one."""
        from optuna.trial import TrialState

        sign = -1 if self._study.direction.name == "MAXIMIZE" else 1
        order = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING]  # the last of which failed
        known = [trial for trial in self._study.trials if trial.state in order]
        known.sort(key=lambda t: (order.index(t.state), math.inf if t.value is None else sign * t.value, t.number))
        header = ["run", self._monitor, "epochs", "trial", *(name.rpartition(".")[2] for name in self._space)]
        print("\n" + table(header, [self._row(trial) for trial in known]))
        if failed := [self._folder_of(trial).name for trial in known if trial.state == TrialState.RUNNING]:
            print(f"failed: {', '.join(failed)} (see above; the same command tries again)", file=sys.stderr)
        best = known[0]
        if best.state != TrialState.COMPLETE:
            return False
        options = shlex.join([*self._given, *_options(best)])
        others = ",".join(str(self._seed + number) for number in range(1, 6))
        print(f"\nbest        {self._monitor} {best.value:.4f}: {self._folder_of(best)}")
        print(f"fit         python -m ner_lightning fit {options}")
        print(f"next        python -m ner_lightning seeds --seeds={others} {options}")
        print(f"            (best of {len(known)}, and so partly by luck: other seeds tell mean and deviation)")
        return True

    def _next(self) -> FrozenTrial:
        """A trial that was stopped or failed before this command, or a new one."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        for trial in self._study.get_trials(states=[TrialState.RUNNING]):
            if trial.number in self._failed:
                continue
            if trial.params.keys() == self._space.keys():
                return trial
            self._study.tell(trial.number, state=TrialState.FAIL)  # killed while it was drawn
        # each trial draws from a seed of its own, so that a search that was stopped goes on as if it had not been
        self._study.sampler = TPESampler(seed=(self._seed + len(self._study.trials)) % 2**32)
        number = self._study.ask(self._space).number
        return self._study.trials[number]

    def _train(self, trial: FrozenTrial) -> None:
        """Run a trial, which itself tells the study how it ends, unless it fails."""
        own = self._folder_of(trial)
        if (finished := finished_run(own)) and (score := best_score(finished)) is not None:
            self._study.tell(trial.number, score)
            return
        inside = ["ner_lightning.trial", str(self.folder / "tune.db"), str(trial.number)]
        run_command(f"trial {trial.number}", fit_in(own, [*self._given, *_options(trial)]), inside=inside)
        if self._study.trials[trial.number].state.is_finished():
            return
        self._failed.add(trial.number)
        if not any(each.intermediate_values for each in self._study.trials):  # others would most likely fail as well
            raise InputError(f"{own.name} failed before its first score, as no other has one: mend what is told above")

    def _row(self, trial: FrozenTrial) -> list[str]:
        value = "-" if trial.value is None else f"{trial.value:.4f}"
        epochs = 0 if trial.last_step is None else trial.last_step + 1
        state = {"COMPLETE": "whole", "RUNNING": "failed"}.get(trial.state.name, "pruned")
        values = [_text(trial.params[name]) if name in trial.params else "-" for name in self._space]
        return [str(self._folder_of(trial)), value, str(epochs), state, *values]

    def _folder_of(self, trial: FrozenTrial) -> Path:
        return self.folder / f"trial_{trial.number}"


def _usual(config: dict[str, Any]) -> dict[str, BaseDistribution]:
    """What is looked for where nothing is named, around what the options say."""
    rate, batch = config["model"]["learning_rate"], config["data"]["batch_size"] or 8
    ranges = {
        "model.learning_rate": f"{rate / 5:.3g}..{rate * 10:.3g}",
        "model.warmup_ratio": "0..0.2",
        "model.weight_decay": "0..0.1",
        "data.batch_size": ",".join(map(str, sorted({max(batch // 2, 1), batch, batch * 2}))),
    }
    if config["data"]["max_tokens"] is not None:
        del ranges["data.batch_size"]
    return {name: _distribution(name, text) for name, text in ranges.items()}


def _distribution(name: str, text: str) -> BaseDistribution:
    """A range (of whole numbers where its ends are, by their logarithm where they lie far apart), or choices."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    low, dots, high = text.partition("..")
    choices = text.split(",")
    if dots:
        with suppress(ValueError):
            whole = f"{low}{high}".isdecimal()
            ends = [int(end) if whole else float(end) for end in (low, high)]
            if -math.inf < ends[0] < ends[1] < math.inf:
                return (IntDistribution if whole else FloatDistribution)(*ends, log=ends[1] >= 10 * ends[0] > 0)
    elif len(set(choices)) == len(choices) > 1 and all(choices):
        return CategoricalDistribution(choices)
    raise UsageError(f"{_SEARCH}{name}={text}: give a range, such as 1e-5..1e-3, or choices, such as 8,16,32")


def _find(config: dict[str, Any], space: dict[str, BaseDistribution]) -> tuple[Path, Study]:
    """The search with these options, or a new one."""
    import optuna

    options = {"config": config, "search": {name: str(each) for name, each in space.items()}}
    root = Path(config["trainer"]["default_root_dir"] or ".")
    for path in root.glob("tune_*/tune.db"):
        try:
            study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{path}")
        except KeyError:  # killed before there was a study
            continue
        except Exception as error:  # of SQLAlchemy, or of another version of Optuna
            raise InputError(f"{path}: no study that can be read, {first_line(error)}; move its folder away") from error
        if study.user_attrs.get("options") == options:
            return path.parent, study
    folder = new_folder(root, "tune")
    smaller = (config["checkpoint"]["mode"] or str(config["checkpoint"]["monitor"])) in ("min", "val_loss")
    direction = "minimize" if smaller else "maximize"
    study = optuna.create_study(study_name=STUDY, storage=f"sqlite:///{folder / 'tune.db'}", direction=direction)
    study.set_user_attr("options", options)
    return folder, study


def _options(trial: FrozenTrial) -> list[str]:
    return [f"--{name}={_text(value)}" for name, value in trial.params.items()]


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
