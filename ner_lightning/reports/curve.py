"""A power law through the scores of growing shares of the training data: its fit, what it says, and its figure.

1 - F1 = floor + size * n^-rate, with n the share of the data, by least squares: the rate is tried on a grid, and the
two others are linear then. The law: Hestness et al., Deep Learning Scaling is Predictable, Empirically (2017).
"""

from __future__ import annotations

from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = dict[float, dict[int, dict[str, float]]]  # by share and seed, each by name

_RATES = np.linspace(0.05, 2, 79)
_DRAWS = 2000


class Fit(NamedTuple):
    """A power law, and what it says of twice the data; shares of one."""

    floor: float
    size: float
    rate: float
    largest: float  # share
    gain: float  # in F1, from the largest share to twice as much
    low: float | None  # of the gain's 95 % interval; None of a single seed
    high: float | None
    doubts: list[str]  # why not to trust it; empty where nothing speaks against it

    def f1(self, share: float) -> float:
        """What it says of a share."""
        return float(1 - self.floor - self.size * share**-self.rate)


def fit(scores: Scores) -> Fit:
    """Fit the F1 of all seeds.

    The interval is a bootstrap of how far seeds are from the mean of their share, drawn from all shares: of whole seeds
    there are too few (of three, 95 % intervals covered 72 to 85 % in simulations; so they cover 88 to 97 %).

    Args:
        scores: Of two shares or more; seeds that lack one are left out.
    """
    seeds = sorted(set.intersection(*(set(runs) for runs in scores.values())))
    shares = np.array(list(scores))
    if not seeds:
        nan = float("nan")
        return Fit(nan, nan, nan, shares[-1], nan, None, None, ["no seed has been trained on all shares"])
    f1 = np.array([[runs[seed]["f1"] for runs in scores.values()] for seed in seeds])  # (seeds, shares)
    mean = f1.mean(0)
    (floor, size, rate) = (float(each[0]) for each in _power_law(shares, 1 - mean[None]))
    gain = float(_gain(size, rate, shares[-1]))
    low = high = None
    if len(seeds) > 1:
        # few seeds lie closer to their mean than to the true one
        away = (f1 - mean).ravel() * np.sqrt(len(seeds) / (len(seeds) - 1))
        drawn = np.random.default_rng(0).integers(away.size, size=(_DRAWS, len(seeds), len(shares)))
        means = mean + away[drawn].mean(1)
        _, sizes, rates = _power_law(shares, 1 - means)
        low, high = (float(end) for end in np.percentile(_gain(sizes, rates, shares[-1]), [2.5, 97.5]))
    return Fit(floor, size, rate, float(shares[-1]), gain, low, high, _doubts(shares, f1))


def sentence(fitted: Fit) -> str:
    """What people want to know, and whether to believe it.

    Args:
        fitted: The fit.
    """
    doubts = f"\ndo not rely on it: {'; '.join(fitted.doubts)}" if fitted.doubts else ""
    if np.isnan(fitted.gain):
        return f"what twice the data would bring cannot be told{doubts}"
    between = "" if fitted.low is None else f" (95 %: {_points(fitted.low)} to {_points(fitted.high)})"
    return f"twice the data would bring about {_points(fitted.gain)} F1{between}{doubts}"


def as_svg(scores: Scores, fitted: Fit) -> str:
    """A figure: each seed as a point, the power law on to twice the data, and the mean of each type as a thin line.

    Args:
        scores: By share and seed.
        fitted: Their fit.
    """
    width, height, left, right, top, bottom = 640, 400, 60, 90, 20, 50
    first, last = min(scores), 2 * max(scores)
    names = sorted({n for runs in scores.values() for v in runs.values() for n in v if n.startswith("f1_")})
    lines = {
        name.removeprefix("f1_"): [
            (share, float(np.mean([values.get(name, 0.0) for values in runs.values()])))
            for share, runs in scores.items()
            if runs
        ]
        for name in names
    }
    points = [(share, values["f1"]) for share, runs in scores.items() for values in runs.values()]
    shown = [f1 for _, f1 in (*points, *(at for line in lines.values() for at in line))]
    lowest = min(np.floor(10 * min(shown)) / 10, 0.9)

    def place(share: float, f1: float) -> str:
        x = left + (width - left - right) * np.log(share / first) / np.log(last / first)
        return f"{x:.1f},{top + (height - top - bottom) * (1 - (f1 - lowest) / (1 - lowest)):.1f}"

    def text(share: float, f1: float, words: str, more: str) -> str:
        x, y = place(share, f1).split(",")
        return f'<text x="{x}" y="{y}" {more}>{escape(words)}</text>'

    parts = []
    for f1 in np.arange(round(10 * lowest), 11) / 10:
        parts.append(f'<polyline points="{place(first, f1)} {place(last, f1)}" stroke-opacity=".2"/>')
        parts.append(text(first, f1, f"{100 * f1:.0f}", 'dx="-8" dy="4" text-anchor="end"'))
    parts += [text(share, lowest, f"{share:g}", 'dy="18" text-anchor="middle"') for share in [*scores, last]]
    parts.append(text(np.sqrt(first * last), lowest, "share of the training data", 'dy="38" text-anchor="middle"'))
    for name, line in lines.items():
        parts.append(f'<polyline points="{" ".join(place(*at) for at in line)}" stroke-opacity=".45"/>')
        parts.append(text(*line[-1], name, 'dx="6" dy="4" fill-opacity=".7"'))
    if not np.isnan(fitted.gain):
        curve = [place(share, fitted.f1(share)) for share in np.geomspace(first, last, 60)]
        parts.append(f'<polyline points="{" ".join(curve)}" stroke="#1f6feb" stroke-width="2"/>')
        parts.append(text(last, fitted.f1(last), "all", 'dx="6" dy="4" style="fill: #1f6feb"'))
    for at in points:
        x, y = place(*at).split(",")
        parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="#1f6feb" stroke="none"/>')
    drawn = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif" '
        f'font-size="12" color="#777" fill="none" stroke="currentColor">\n<title>F1 on validation by share of the '
        "training data</title>\n<style>text {stroke: none; fill: currentColor}</style>\n"
        f"{drawn}\n</svg>\n"
    )


def _power_law(shares: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Floor, size and rate, none of them below 0, for each row of (curves, shares)."""
    powers = shares[:, None] ** -_RATES  # (shares, rates)
    x = powers - powers.mean(0)
    mean = errors.mean(1, keepdims=True)  # (curves, 1)
    size = np.maximum((errors - mean) @ x / (x**2).sum(0), 0)  # (curves, rates)
    floor = mean - size * powers.mean(0)
    below = floor < 0
    size = np.where(below, errors @ powers / (powers**2).sum(0), size)
    floor = np.where(below, 0, floor)
    misses = errors[:, :, None] - floor[:, None] - size[:, None] * powers  # (curves, shares, rates)
    best = (misses**2).sum(1).argmin(1)
    rows = np.arange(len(errors))
    return floor[rows, best], size[rows, best], _RATES[best]


def _gain(size: NDArray[np.float64] | float, rate: NDArray[np.float64] | float, share: float) -> NDArray[np.float64]:
    return np.asarray(size * share**-rate * (1 - 2.0**-rate))


def _doubts(shares: NDArray[np.float64], f1: NDArray[np.float64]) -> list[str]:
    doubts = []
    if len(shares) < 4:
        doubts.append(f"{len(shares)} shares are few for a curve of three numbers")
    if len(f1) < 3:
        doubts.append(f"{len(f1)} seeds say little of others" if len(f1) > 1 else "one seed says nothing of others")
    mean = f1.mean(0)
    sd = float(np.sqrt(f1.var(0, ddof=1).mean())) if len(f1) > 1 else 0.0
    if (np.diff(mean) < -2 * sd - 1e-9).any() or mean[-1] <= mean[0]:
        doubts.append("the scores do not rise with the data")
    if len(shares) > 3:
        floor, size, rate = (each[0] for each in _power_law(shares[:-1], 1 - mean[None, :-1]))
        missed = mean[-1] - (1 - floor - size * shares[-1] ** -rate)
        if abs(missed) > max(2 * sd, 0.01):
            doubts.append(f"fitted without the largest share, the curve misses it by {100 * missed:+.1f} F1")
    return doubts


def _points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f}"
