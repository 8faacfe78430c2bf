"""Small charts as inline SVG: crisp text, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from markupsafe import Markup

from astrid.report.wording import number

_RIGHT, _TOP, _BOTTOM = 12.0, 12.0, 40.0
N_COLOURS = 6


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Return round numbers inside ``low..high``, about ``n`` of them.

    Examples
    --------
    >>> ticks(0, 1, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    raw = span / n
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") + 0.0 for k in range(first, last + 1)]


def padded_range(values: Iterable[float], pad: float = 0.08, least: float = 0.0) -> tuple[float, float]:
    """Return the range of the finite values with some air, at least ``least`` wide."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    span = max(high - low, least, 1e-6 * max(abs(low), abs(high)), 1e-9)
    middle = (low + high) / 2
    return middle - span * (0.5 + pad), middle + span * (0.5 + pad)


def tick_label(value: float, step: float) -> str:
    """Write a tick with as many decimals as its step needs."""
    if abs(value) >= 1e6 or (value != 0 and abs(value) < 1e-3):
        return f"{value:.3g}"
    decimals = max(0, -math.floor(math.log10(abs(step)) + 1e-9)) if step else 2
    if step and abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1
    return f"{value:,.{decimals}f}"


@dataclass
class Chart:
    """Axes that collect marks and turn into one ``<svg>``."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_label: str
    y_label: str
    description: str
    width: float = 380.0
    height: float = 240.0
    log_x: bool = False
    integer_x: bool = False
    plain_x: bool = False
    x_tick_values: Sequence[float] | None = None
    parts: list[str] = field(default_factory=list)
    left: float = field(init=False)

    def __post_init__(self) -> None:
        """Make room for the widest label of the vertical axis."""
        widest = max(len(text) for text in self._y_labels().values())
        self.left = max(46.0, 27.0 + 7.2 * widest)

    def _y_labels(self) -> dict[float, str]:
        values = ticks(*self.y_range)
        step = values[1] - values[0] if len(values) > 1 else 0.0
        return {value: tick_label(value, step) for value in values}

    def x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        low, high = self.x_range
        if self.log_x:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, 1e-12))
        share = (value - low) / (high - low)
        return self.left + share * (self.width - self.left - _RIGHT)

    def y(self, value: float) -> float:
        """Return the vertical place of a value."""
        low, high = self.y_range
        share = min(max((value - low) / (high - low), -0.02), 1.02)
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)

    def line(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """Draw a line through points."""
        path = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in points)
        self.parts.append(f'<polyline class="{css}" points="{path}"/>')

    def mark(self, a: float, b: float, css: str, shape: str = "circle", size: float = 3.6, title: str = "") -> None:
        """Draw one mark; ``title`` shows when hovering."""
        x, y, s = self.x(a), self.y(b), size
        tip = f"<title>{escape(title)}</title>" if title else ""
        if shape == "circle":
            self.parts.append(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{s:g}">{tip}</circle>')
            return
        d = round(1.3 * s, 2)
        outline = {
            "square": f"M{x - s:.1f} {y - s:.1f}h{2 * s:g}v{2 * s:g}h{-2 * s:g}z",
            "diamond": f"M{x:.1f} {y - d:.1f}l{d:g} {d:g}l{-d:g} {d:g}l{-d:g} {-d:g}z",
            "down": f"M{x - s:.1f} {y - s * 0.7:.1f}h{2 * s:g}l{-s:g} {s * 1.6:g}z",
            "cross": f"M{x - s:.1f} {y - s:.1f}l{2 * s:g} {2 * s:g}m0 {-2 * s:g}l{-2 * s:g} {2 * s:g}",
        }[shape]
        self.parts.append(f'<path class="{css}" d="{outline}">{tip}</path>')

    def bar(self, a: float, low: float, high: float, css: str) -> None:
        """Draw a vertical error bar."""
        x = self.x(a)
        self.parts.append(f'<path class="{css}" d="M{x:.1f} {self.y(low):.1f}V{self.y(high):.1f}"/>')

    def horizontal(self, value: float, css: str = "guide") -> None:
        """Draw a line across the chart at one height."""
        self.parts.append(f'<path class="{css}" d="M{self.left:.1f} {self.y(value):.1f}H{self.width - _RIGHT}"/>')

    def vertical(self, value: float, css: str = "guide", label: str = "") -> None:
        """Draw a line from bottom to top at one place, with a label at its top."""
        x = self.x(value)
        self.parts.append(f'<path class="{css}" d="M{x:.1f} {_TOP}V{self.height - _BOTTOM}"/>')
        if label:
            right = x > self.width * 0.65
            anchor, dx = ("end", -5) if right else ("start", 5)
            self.parts.append(
                f'<text class="note" text-anchor="{anchor}" x="{x + dx:.1f}" y="{_TOP + 11}">{escape(label)}</text>'
            )

    def render(self) -> Markup:
        """Return the chart as markup that needs no escaping."""
        bottom, left, right = self.height - _BOTTOM, f"{self.left:.1f}", self.width - _RIGHT
        out = [
            f'<svg class="chart" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{escape(self.description)}">'
        ]
        for value, text in self._y_labels().items():
            y = self.y(value)
            out.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
            out.append(f'<text text-anchor="end" x="{self.left - 6:.1f}" y="{y + 4:.1f}">{text}</text>')
        x_ticks = list(self.x_tick_values) if self.x_tick_values is not None else ticks(*self.x_range)
        if self.integer_x:
            x_ticks = sorted({v for v in x_ticks if v == round(v)})
        x_step = x_ticks[1] - x_ticks[0] if len(x_ticks) > 1 else 0.0
        for value in x_ticks:
            x = self.x(value)
            text = number(value, 2) if self.log_x and value < 1 else tick_label(value, 1.0 if self.log_x else x_step)
            text = text.replace(",", "") if self.plain_x else text
            out.append(f'<path class="grid" d="M{x:.1f} {bottom}v4"/>')
            out.append(f'<text text-anchor="middle" x="{x:.1f}" y="{bottom + 17:.1f}">{text}</text>')
        out.append(f'<path class="axis" d="M{left} {_TOP}V{bottom}H{right}"/>')
        middle_x, middle_y = (self.left + right) / 2, (_TOP + bottom) / 2
        out.append(
            f'<text class="label" text-anchor="middle" x="{middle_x:.1f}" y="{self.height - 5:g}">'
            f"{escape(self.x_label)}</text>"
        )
        out.append(
            f'<text class="label" text-anchor="middle" transform="translate(11 {middle_y:.1f}) rotate(-90)">'
            f"{escape(self.y_label)}</text>"
        )
        out += self.parts
        out.append("</svg>")
        return Markup("".join(out))  # every text in it went through escape
