"""Lines over two axes, as inline SVG that follows the colours of its page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 44


@dataclass(frozen=True)
class Chart:
    """Lines over two axes.

    Args:
        name: For the name of a file.
        title: What it shows.
        x: What is to the right.
        y: What is upwards.
        lines: Points of each line, by its name.
        unit: Both axes of the chart go from 0 to 1, and a diagonal shows where they are equal.
        share: The axis upwards shows shares of one.
    """

    name: str
    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    unit: bool = False
    share: bool = False

    @property
    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """From where to where the axes go."""
        if self.unit:
            return (0, 1), (0, 1)
        points = [point for line in self.lines.values() for point in line]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        low, high = min(ys), max(ys)
        room = 0.05 * (high - low) or 0.05
        bottom, top = max(low - room, 0), high + room
        return (min(xs), max(max(xs), min(xs) + 1e-9)), (bottom, min(top, 1) if self.share else top)

    def svg(self) -> Markup:
        """The chart, with classes `line0`, `line1`, ... for the page to colour."""
        (left, right), (low, high) = self.limits
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

        def place(x: float, y: float) -> tuple[float, float]:
            return (
                round(_LEFT + width * (x - left) / (right - left), 1),
                round(_TOP + height * (1 - (y - low) / (high - low)), 1),
            )

        parts = [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(self.title)}">',
            *(self._grid(*place(left, y), y) for y in ticks(low, high)),
            *(self._mark(place(x, low)[0], x) for x in ticks(left, right)),
        ]
        if self.unit:
            (x1, y1), (x2, y2) = place(0, 0), place(1, 1)
            parts.append(f'<line class="diagonal" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
        for number, (name, line) in enumerate(self.lines.items()):
            points = [place(x, y) for x, y in line]
            path = " ".join(f"{x},{y}" for x, y in points)
            parts.append(f'<polyline class="line{number}" points="{path}"><title>{escape(name)}</title></polyline>')
            if len(points) <= 20:
                parts += [f'<circle class="line{number}" cx="{x}" cy="{y}" r="3"/>' for x, y in points]
        parts.append(
            f'<text x="{_LEFT + width / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(self.x)}</text></svg>'
        )
        return Markup("\n".join(parts))

    @staticmethod
    def _grid(x: float, y: float, value: float) -> str:
        rule = f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        return f'{rule}<text x="{x - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>'

    @staticmethod
    def _mark(x: float, value: float) -> str:
        return f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{value:g}</text>'


def ticks(low: float, high: float) -> Sequence[float]:
    """About five round numbers from one to another.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
