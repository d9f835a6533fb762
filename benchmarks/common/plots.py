"""Charts as SVG, of lines and of bars: text, so that a diff shows what changed."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT = 420, 260  # of a chart, in pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 46, 40  # margins
_COLOURS = ("#1f5fbf", "#c2571a", "#2a7d4f", "#7a3b9c")
_STYLE = "text{font:11px sans-serif;fill:#222}.t{font-weight:bold}"


@dataclass(frozen=True)
class Line:
    """Points of one line, and how it is drawn."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    dashed: bool = False


def line_chart(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> list[str]:
    """Both axes begin at 0. What has no points is left out."""
    lines = [line for line in lines if line.points]
    axes = _Axes(
        max((x for line in lines for x, _ in line.points), default=1.0),
        max((y for line in lines for _, y in line.points), default=1.0),
    )
    drawn = [*_frame(title, y_label), *axes.horizontal(), *axes.vertical(x_label)]
    for number, line in enumerate(lines):
        places = [axes.place(x, y) for x, y in sorted(line.points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        colour = _COLOURS[line.colour % len(_COLOURS)]
        dash = ' stroke-dasharray="5 3"' if line.dashed else ""
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>'
        )
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places]
        drawn += _key(number, line.label, colour, dash)
    return drawn


def bar_chart(title: str, y_label: str, groups: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Groups of bars side by side; a bar has its colour by its place in the group."""
    axes = _Axes(1.0, max((y for group in groups.values() for y in group.values()), default=1.0))
    drawn = [*_frame(title, y_label), *axes.horizontal()]
    wide = (_WIDTH - _LEFT - _RIGHT) / max(1, len(groups))
    for number, (name, bars) in enumerate(groups.items()):
        left = _LEFT + number * wide
        bar = 0.8 * wide / max(1, len(bars))
        for place, value in enumerate(bars.values()):
            x = left + 0.1 * wide + place * bar
            _, y = axes.place(0, value)
            colour = _COLOURS[place % len(_COLOURS)]
            drawn.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{0.92 * bar:.1f}" '
                f'height="{_HEIGHT - _BOTTOM - y:.1f}" fill="{colour}"/>'
            )
            drawn.append(_text(x + bar / 2, y - 3, f"{value:.3g}", "middle"))
        drawn.append(_text(left + wide / 2, _HEIGHT - _BOTTOM + 14, name, "middle"))
    names = dict.fromkeys(name for bars in groups.values() for name in bars)
    for number, name in enumerate(names):
        drawn += _key(number, name, _COLOURS[number % len(_COLOURS)], "")
    return drawn


def page(charts: Sequence[Sequence[str]], columns: int = 2) -> str:
    """The charts, so many beside each other, as one SVG file."""
    rows = math.ceil(len(charts) / columns)
    width, height = columns * _WIDTH, rows * _HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, chart in enumerate(charts):
        row, column = divmod(number, columns)
        lines.append(f'<g transform="translate({column * _WIDTH} {row * _HEIGHT})">')
        lines += [*chart, "</g>"]
    return "\n".join([*lines, "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Axes:
    """From 0 to a little above the most of each."""

    most_x: float
    most_y: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return (
            _LEFT + wide * x / (1.03 * self.most_x),
            _HEIGHT - _BOTTOM - high * y / (1.08 * self.most_y),
        )

    def horizontal(self) -> Iterator[str]:
        """Grid lines with their values."""
        for value in ticks(self.most_y):
            _, y = self.place(0, value)
            yield f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
            yield _text(_LEFT - 5, y + 4, f"{value:g}", "end")

    def vertical(self, label: str) -> Iterator[str]:
        """The values below, and what they are of."""
        for value in ticks(self.most_x):
            x, _ = self.place(value, 0)
            yield _text(x, _HEIGHT - _BOTTOM + 14, f"{value:g}", "middle")
        yield _text((_WIDTH + _LEFT) / 2, _HEIGHT - 8, label, "middle")


def ticks(most: float) -> list[float]:
    """Four to ten round values from 0 to ``most``, which is above 0."""
    step: float = 10 ** math.floor(math.log10(most))
    for share in (0.1, 0.2, 0.5, 1):
        if most / (share * step) <= 10:
            step *= share
            break
    return [round(number * step, 12) for number in range(math.floor(most / step + 1e-9) + 1)]


def _frame(title: str, y_label: str) -> Iterator[str]:
    yield _text(_LEFT, 14, title, "start", ' class="t"')
    yield _text(_LEFT, 42, y_label, "end")
    lines = f"M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}"
    yield f'<path d="{lines}" fill="none" stroke="#666"/>'


def _key(number: int, label: str, colour: str, dash: str) -> Iterator[str]:
    x = _LEFT + 8 + 88 * number
    yield f'<path d="M{x} 28h18" stroke="{colour}" stroke-width="3"{dash}/>'
    yield _text(x + 22, 32, label, "start")


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{html.escape(text)}</text>'
