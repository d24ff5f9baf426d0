"""What more training data would bring: `python -m ner_lightning learning-curve`, over shares of what there is.

A curve has a folder in the folder of runs, `curve_0`. In it is a set of seeds for each share, `fraction_0.1`, as those
of `seeds`, `curve.json` with the options, by which the same command finds its curve again, all scores and what the last
command says, and `curve.svg`.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ner_lightning.errors import InputError, UsageError
from ner_lightning.files import replacing
from ner_lightning.processes import alone_in, config_of_fit, find_folder
from ner_lightning.reports.columns import table
from ner_lightning.reports.curve import Scores, as_svg, fit, sentence
from ner_lightning.seeds import SeedSet, all_seeds, given_seeds


def learning_curve(fit_options: Sequence[str], *, fractions: str = "0.1,0.25,0.5,1", seeds: str = "3") -> bool:
    """Train on growing shares of the training data, and tell what twice the data would bring.

    Args:
        fit_options: All options of `fit`, such as `--config conll`. The same command again goes on where it was
            stopped, and trains nothing twice.
        fractions: The shares, of whole documents, or of sentences where there are none; each is a part of the next.
        seeds: How many, from that of `--seed_everything` on, or which ones, such as `1,7,13`; each draws documents of
            its own.

    Returns:
        Whether all were trained.

    Raises:
        UsageError: There are no such shares or seeds, or an option is for a single run.
        InputError: There is no F1 on validation.
    """
    shares, given = _given(fractions), given_seeds(seeds)
    config = config_of_fit(fit_options, command="learning-curve")
    numbers = all_seeds(given, first=config.pop("seed_everything"))
    if config["data"]["train_fraction"] != 1:
        raise UsageError("--data.train_fraction is what the curve varies: leave it out, and give --fractions")
    folder = find_folder(Path(config["trainer"]["default_root_dir"] or "."), "curve", config)
    failed = []
    with alone_in(folder):
        if not (folder / "curve.json").exists():
            _write(folder, {"config": config})
        trained = _trained(folder)
        for share in shares:
            own = config | {"data": config["data"] | {"train_fraction": share}}
            of_share = SeedSet(folder / f"fraction_{share:g}", own)
            options = [*fit_options, f"--data.train_fraction={share:g}"]
            failed += [f"{each} on {share:g}" for each in of_share.train(numbers, options, test=False)]
            trained[share] = _scores(of_share)
            if not any(folder.glob("**/version_*")):  # an option or the data was refused, and would be again
                break
            if any("f1" not in values for values in trained[share].values()):
                raise InputError("a learning curve is one of F1 on validation: give validation data with entities")
        scores = {share: {n: v for n, v in trained.get(share, {}).items() if n in numbers} for share in shares}
        if any(scores.values()):
            _show(folder, scores, {"config": config, "fractions": _as_json(trained)})
    if failed:
        print(f"failed: {', '.join(failed)} (see above; the same command tries again)", file=sys.stderr)
    return not failed


def _given(fractions: str) -> list[float]:
    try:
        shares = sorted(float(f"{float(share):g}") for share in fractions.split(","))  # as their folders are called
    except ValueError:
        shares = []
    if len(set(shares)) < max(2, len(shares)) or not 0 < shares[0] <= shares[-1] <= 1:
        raise UsageError(f"--fractions={fractions}: give two or more above 0 and up to 1, such as 0.1,0.25,0.5,1")
    return shares


def _trained(folder: Path) -> Scores:
    """All that is trained in a folder."""
    names = (path.name.removeprefix("fraction_") for path in folder.glob("fraction_*"))
    shares = [name for name in names if re.fullmatch(r"[\d.e-]*\d", name)]  # and not somebody's copy of one
    return {float(share): _scores(SeedSet(folder / f"fraction_{share}", {})) for share in shares}


def _scores(of_share: SeedSet) -> dict[int, dict[str, float]]:
    return {run.seed: run.validation for run in of_share.runs() if run.seed is not None}


def _as_json(scores: Scores) -> list[dict[str, Any]]:
    return [{"fraction": share, "seeds": scores[share]} for share in sorted(scores)]


def _show(folder: Path, scores: Scores, content: dict[str, Any]) -> None:
    fitted = fit(scores)
    names = sorted({name for runs in scores.values() for values in runs.values() for name in values})
    types = [name for name in names if name.startswith("f1_")]
    rows = [
        [f"{share:g}", str(len(runs)), *(_spread(runs, name) for name in ("f1", *types))]
        for share, runs in scores.items()
    ]
    print("\n" + table(["fraction", "seeds", "val_f1", *(name.removeprefix("f1_") for name in types)], rows))
    print(f"\n{sentence(fitted)}\n")
    asked = {share: sorted(runs) for share, runs in scores.items()}
    _write(folder, {**content, "twice": fitted._asdict() | {"of": asked}})
    with replacing(folder / "curve.svg") as partial:
        partial.write_text(as_svg(scores, fitted), encoding="utf-8")
    print(f"written     {folder / 'curve.json'}, {folder / 'curve.svg'}")


def _spread(runs: dict[int, dict[str, float]], name: str) -> str:
    values = [100 * values.get(name, 0.0) for values in runs.values()]
    if not values:
        return "-"
    return f"{statistics.fmean(values):.2f}" + (f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def _write(folder: Path, content: dict[str, Any]) -> None:
    with replacing(folder / "curve.json") as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
