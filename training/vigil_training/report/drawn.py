"""Axes, lines and bars as SVG that a page holds: small, sharp in print, in the page's colours.

Colours are classes (``s0`` to ``s4``); the page's style says what they are in light and in dark.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
Pairs = Sequence[tuple[float, float]]
_RIGHT, _TOP, _BOTTOM = 8, 24, 36


@dataclass
class Plot:
    """One pair of axes; add to it, then :meth:`svg`.

    Attributes
    ----------
    title, x, y
        What stands above it and at its axes.
    words
        What it shows, with its numbers, for who does not see it.
    across, up
        The ends of the axes.
    left
        How wide the margin for what stands left of the axes is.
    """

    title: str
    x: str
    y: str
    words: str
    across: tuple[float, float] = (0.0, 1.0)
    up: tuple[float, float] = (0.0, 1.0)
    width: int = 228
    height: int = 210
    left: int = 42
    parts: list[Markup] = field(default_factory=list)

    def _x(self, value: float) -> float:
        low, high = self.across
        share = (min(max(value, low), high) - low) / (high - low)
        return round(self.left + share * (self.width - self.left - _RIGHT), 1)

    def _y(self, value: float) -> float:
        low, high = self.up
        share = (min(max(value, low), high) - low) / (high - low)
        return round(self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM), 1)

    def _path(self, points: Pairs) -> str:
        return " ".join(f"{self._x(x)},{self._y(y)}" for x, y in points)

    def line(self, points: Pairs, style: str) -> None:
        """Add a line; ``style`` is a class or several."""
        mark = Markup('<polyline class="line {}" points="{}"/>')
        self.parts.append(mark.format(style, self._path(points)))

    def band(self, low: Pairs, high: Pairs, style: str) -> None:
        """Fill what lies between two lines."""
        points = self._path([*low, *reversed(high)])
        self.parts.append(Markup('<polygon class="band {}" points="{}"/>').format(style, points))

    def dot(self, x: float, y: float, style: str, tip: str = "") -> None:
        """Add a point."""
        mark = Markup('<circle class="dot {}" cx="{}" cy="{}" r="3.5"><title>{}</title></circle>')
        self.parts.append(mark.format(style, self._x(x), self._y(y), tip))

    def upright(self, x: float, low: float, high: float, style: str) -> None:
        """Add an upright line, such as an interval."""
        self.line([(x, low), (x, high)], style)

    def level(self, y: float, low: float, high: float, style: str) -> None:
        """Add a level line."""
        self.line([(low, y), (high, y)], style)

    def bar(self, left: float, right: float, value: float, style: str) -> None:
        """Add a bar from the axis."""
        x, y = self._x(left), self._y(value)
        mark = Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="{}"/>')
        wide, high = round(self._x(right) - x, 1), round(self._y(self.up[0]) - y, 1)
        self.parts.append(mark.format(style, x, y, wide, high))

    def name(self, y: float, said: str) -> None:
        """Write left of the axes what stands at a height."""
        mark = Markup('<text x="{}" y="{}" text-anchor="end">{}</text>')
        self.parts.append(mark.format(self.left - 8, round(self._y(y) + 4, 1), said))

    def svg(self, *, ticks_up: bool = True) -> Markup:
        """Return the picture."""
        bottom, right = self.height - _BOTTOM, self.width - _RIGHT
        frame = [Markup('<text class="title" x="{}" y="13">{}</text>').format(2, self.title)]
        for value in _ticks(*self.across):
            x = self._x(value)
            frame.append(
                Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
                       '<text x="{0}" y="{3}" text-anchor="middle">{4}</text>')
                .format(x, _TOP, bottom, bottom + 13, f"{value:g}")
            )  # fmt: skip
        for value in _ticks(*self.up) if ticks_up else ():
            y = self._y(value)
            frame.append(
                Markup('<line class="grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>'
                       '<text x="{3}" y="{4}" text-anchor="end">{5}</text>')
                .format(self.left, right, y, self.left - 5, y + 4, f"{value:g}")
            )  # fmt: skip
        middle = (_TOP + bottom) / 2
        frame.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>'
                   '<text transform="translate(9 {}) rotate(-90)" text-anchor="middle">{}</text>')
            .format((self.left + right) / 2, self.height - 6, self.x, middle, self.y)
        )  # fmt: skip
        head = Markup('<svg class="plot" role="img" viewBox="0 0 {0} {1}" width="{0}" '
                      'height="{1}" aria-label="{2}">')  # fmt: skip
        inside = Markup("").join([*frame, *self.parts])
        return head.format(self.width, self.height, escape(self.words)) + inside + Markup("</svg>")


def _ticks(low: float, high: float) -> list[float]:
    """Return round values between two ends, about five of them."""
    step = next((s for s in _STEPS if (high - low) / s <= 6), (high - low) / 5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 6) for place in range(first, last + 1)]
