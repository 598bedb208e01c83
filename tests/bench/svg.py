"""Pictures of latency, written as SVG by hand: over time, and as a cumulative distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 960, 420
TOP, BOTTOM = 64, 60
PANELS = ((60, 540), (610, 930))  # left and right edge of each
COLOURS = ("#4c72b0", "#2a9d5c", "#c44e52")


@dataclass(frozen=True, slots=True)
class Series:
    """*samples* are (second, milliseconds)."""

    name: str
    samples: list[tuple[float, float]]
    p99: float


class _Scale:
    """A scale of milliseconds, from zero, onto pixels."""

    def __init__(self, values: list[float], low: float, high: float) -> None:
        self.last = max(values) * 1.1
        self.low, self.high = low, high

    def __call__(self, ms: float) -> float:
        return self.low + ms / self.last * (self.high - self.low)

    def ticks(self) -> Iterator[float]:
        unit: float = 10 ** math.floor(math.log10(self.last))
        step = next(s for s in (unit / 5, unit / 2, unit) if self.last / s <= 10)
        yield from (step * i for i in range(int(self.last / step) + 1))


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, more: str = 'stroke="#ddd"') -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>'


def _over_time(series: list[Series], values: list[float]) -> Iterator[str]:
    left, right = PANELS[0]
    scale = _Scale(values, HEIGHT - BOTTOM, TOP)
    begin = min(t for s in series for t, _ in s.samples)
    end = max(t for s in series for t, _ in s.samples)
    for ms in scale.ticks():
        yield _line(left, scale(ms), right, scale(ms))
        yield _text(left - 6, scale(ms) + 4, f"{ms:g}", 'text-anchor="end"')
    for second in range(math.ceil(begin), math.floor(end) + 1):
        x = left + (second - begin) / (end - begin) * (right - left)
        yield _text(x, HEIGHT - BOTTOM + 16, str(second), 'text-anchor="middle"')
    for s, colour in zip(series, COLOURS, strict=False):
        for t, ms in s.samples:
            x = left + (t - begin) / (end - begin) * (right - left)
            yield f'<circle cx="{x:.1f}" cy="{scale(ms):.1f}" r="1.6" fill="{colour}"/>'
    yield _text((left + right) / 2, HEIGHT - BOTTOM + 34, "second", 'text-anchor="middle"')
    yield _text(left, TOP - 10, "latency of each request, ms")


def _distribution(series: list[Series], values: list[float]) -> Iterator[str]:
    left, right = PANELS[1]
    top, bottom = TOP, HEIGHT - BOTTOM
    scale = _Scale(values, left, right)
    for ms in scale.ticks():
        yield _line(scale(ms), top, scale(ms), bottom)
        yield _text(scale(ms), bottom + 16, f"{ms:g}", 'text-anchor="middle"')
    for share in (0, 25, 50, 75, 99):
        y = bottom - share / 100 * (bottom - top)
        yield _line(left, y, right, y)
        yield _text(left - 6, y + 4, f"{share} %", 'text-anchor="end"')
    for s, colour in zip(series, COLOURS, strict=False):
        ordered = sorted(ms for _, ms in s.samples)
        points = " ".join(
            f"{scale(ms):.1f},{bottom - (i + 1) / len(ordered) * (bottom - top):.1f}"
            for i, ms in enumerate(ordered)
        )
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
    yield _text((left + right) / 2, bottom + 34, "ms", 'text-anchor="middle"')
    yield _text(left, top - 10, "share of requests answered within")


def write_latency(path: Path, title: str, series: list[Series]) -> None:
    """Draw *series* into *path*, p99 of each in the legend."""
    values = [ms for s in series for _, ms in s.samples]
    body = [_text(PANELS[0][0], 22, title, 'font-size="15" font-weight="bold"')]
    for i, (s, colour) in enumerate(zip(series, COLOURS, strict=False)):
        x = PANELS[0][0] + i * 290
        body.append(f'<rect x="{x}" y="{HEIGHT - 18}" width="12" height="12" fill="{colour}"/>')
        body.append(_text(x + 18, HEIGHT - 8, f"{s.name}: p99 {s.p99:.1f} ms"))
    body += [*_over_time(series, values), *_distribution(series, values)]
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#333">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        + "\n".join(body)
        + "\n</svg>\n",
        encoding="utf-8",
    )
