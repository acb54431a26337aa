"""One drawing, written as the text that SVG is: how many requests came in the last second, over time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from html import escape
from math import ceil

WIDTH, HEIGHT = 960, 520
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 116, 48
COLOURS = ("#0b6e4f", "#4fb286", "#d1495b", "#e09f3e", "#3d5a80", "#8e6bbf", "#6d6875", "#b08968")
STEP = 0.02
"""Seconds between two points of a line."""


def rates(series: Mapping[str, Sequence[float]], limit: int, title: str) -> str:
    """Draw, for each client, the requests in the second up to each moment, and the limit as a line.

    Args:
        series: name → stamps in seconds, rising from 0; the first one is drawn on top of the others.
        limit: requests a second.
        title: above it all.
    """
    until = ceil(max(stamps[-1] for stamps in series.values()))
    lines = {name: _rolling(stamps) for name, stamps in series.items()}
    top = ceil(max(limit, *(count for line in lines.values() for _, count in line)) / 100) * 100

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / until

    def y(count: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * count / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="26" font-size="16" fill="#222222">{escape(title)}</text>',
    ]
    for count in range(0, top + 1, 100 if top > 200 else 50):
        parts.append(f'<path d="M{LEFT} {y(count):.1f}H{WIDTH - RIGHT}" stroke="#e4e4e4"/>')
        parts.append(_text(LEFT - 8, y(count) + 4, str(count), "end"))
    parts += [_text(x(second), HEIGHT - BOTTOM + 18, str(second)) for second in range(0, until + 1, max(1, until // 12))]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "seconds after the client's first request"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(_text(18, middle, "requests in the last second", "middle", f' transform="rotate(-90 18 {middle:.1f})"'))
    for place, (name, line) in reversed([*enumerate(lines.items())]):
        colour, width = COLOURS[place % len(COLOURS)], 1.3 if place else 2.6
        points = " ".join(f"{x(second):.1f},{y(count):.1f}" for second, count in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        across, down = LEFT + place % 3 * 290, 50 + place // 3 * 20
        parts.append(f'<path d="M{across} {down}h24" stroke="{colour}" stroke-width="{width + 1}"/>')
        parts.append(_text(across + 32, down + 4, name, "start"))
    parts.append(f'<path d="M{LEFT} {y(limit):.1f}H{WIDTH - RIGHT}" stroke="#111111" stroke-dasharray="6 4"/>')
    parts.append(_text(WIDTH - RIGHT, y(limit) - 6, f"limit {limit}", "end"))
    return "\n".join([*parts, "</svg>", ""])


def _rolling(stamps: Sequence[float]) -> list[tuple[float, int]]:
    moments = [place * STEP for place in range(int(stamps[-1] / STEP) + 1)]
    return [(now, bisect_right(stamps, now) - bisect_right(stamps, now - 1.0)) for now in moments]


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#444444"{more}>{escape(text)}</text>'
