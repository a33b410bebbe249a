"""Plots: measured values with their intervals, and distributions of scores side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from imagereward_ext.evaluation.drawing import GREY, INK, PALETTE, RULE, Box, Canvas, lighter, text_width
from imagereward_ext.evaluation.statistics import Interval

_WIDTH = 760
_ROW = 34


def interval_plot(
    title: str,
    values: Mapping[str, Interval],
    *,
    percent: bool = False,
    mark: float | None = None,
    mark_label: str = "",
) -> Image.Image:
    """Draw each value as a dot on its interval; `mark` draws a line to compare with, chance for instance."""
    names = list(values)
    ends = [end for interval in values.values() for end in interval if math.isfinite(end)]
    axis = Axis.around([*ends, *([mark] if mark is not None else [])], percent)
    paper, box = _paper(title, names, len(names) * _ROW)
    axis.draw(paper, box)
    if mark is not None:
        x = axis.place(mark, box)
        paper.line([(x, box.top), (x, box.bottom)], GREY)
        paper.text(x, box.top - 8, mark_label, 11, GREY, "centre")
    for row, (name, interval) in enumerate(values.items()):
        y, colour = box.top + (row + 0.5) * _ROW, PALETTE[row % len(PALETTE)]
        paper.text(box.left - 12, y, name, 13, INK, "right")
        if not math.isfinite(interval.value):
            continue
        if math.isfinite(interval.low):
            left, right = axis.place(interval.low, box), axis.place(interval.high, box)
            paper.line([(left, y), (right, y)], colour, 2)
            for end in (left, right):
                paper.line([(end, y - 5), (end, y + 5)], colour, 2)
        paper.dot(axis.place(interval.value, box), y, 5, colour)
        paper.text(box.right + 12, y, axis.spell(interval.value, finer=True), 13, INK)
    return paper.finished()


def distribution_plot(title: str, values: Mapping[str, Sequence[float]], bins: int = 40) -> Image.Image:
    """Draw the distribution of each group as a hill, all on one axis, with a line at its mean."""
    row_height = 54
    everything = [value for group in values.values() for value in group if math.isfinite(value)]
    axis = Axis.around(everything, percent=False)
    paper, box = _paper(title, list(values), len(values) * row_height)
    axis.draw(paper, box)
    edges = np.linspace(axis.low, axis.high, bins + 1)
    hills = {name: np.histogram(group, edges)[0] / max(1, len(group)) for name, group in values.items()}
    tallest = max((float(hill.max()) for hill in hills.values()), default=1.0) or 1.0
    for row, (name, group) in enumerate(values.items()):
        ground, colour = box.top + (row + 1) * row_height - 4, PALETTE[row % len(PALETTE)]
        paper.text(box.left - 12, ground - row_height / 2 + 4, name, 13, INK, "right")
        outline = _hill(hills[name] / tallest * (row_height - 12), edges, axis, box, ground)
        paper.polygon(outline, lighter(colour))
        paper.line(outline[1:-1], colour, 1.5)
        paper.line([(box.left, ground), (box.right, ground)], RULE)
        if len(group):
            mean = float(np.mean(group))
            x = axis.place(mean, box)
            paper.line([(x, ground), (x, ground - row_height + 12)], colour, 2)
            paper.text(box.right + 12, ground - row_height / 2 + 4, axis.spell(mean, finer=True), 13, INK)
    return paper.finished()


class Axis:
    """A horizontal scale with round steps."""

    def __init__(self, low: float, high: float, step: float, percent: bool) -> None:
        self.low, self.high, self.step, self.percent = low, high, step, percent

    @classmethod
    def around(cls, values: Sequence[float], percent: bool) -> Axis:
        """Choose a scale that holds all of these."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if not high > low:
            low, high = low - 0.5, high + 0.5
        rough = (high - low) / 5
        magnitude = 10 ** math.floor(math.log10(rough))
        step = next(magnitude * factor for factor in (1, 2, 5, 10) if magnitude * factor >= rough)
        return cls(math.floor(low / step) * step, math.ceil(high / step) * step, step, percent)

    def place(self, value: float, box: Box) -> float:
        """Return the x of a value."""
        return box.left + (value - self.low) / (self.high - self.low) * (box.right - box.left)

    def spell(self, value: float, finer: bool = False) -> str:
        """Write a value with the decimals the steps need, or two more for a measured one."""
        scale = 100 if self.percent else 1
        decimals = max(0, -math.floor(math.log10(self.step * scale) + 1e-9)) + (2 if finer else 0)
        value = round(value * scale, decimals) + 0.0  # no "-0"
        return f"{value:.{decimals}f}" + (" %" if self.percent else "")

    def draw(self, paper: Canvas, box: Box) -> None:
        """Draw the lines and numbers below them."""
        for number in range(round((self.high - self.low) / self.step) + 1):
            value = self.low + number * self.step
            x = self.place(value, box)
            paper.line([(x, box.top), (x, box.bottom)], RULE)
            paper.text(x, box.bottom + 14, self.spell(value), 11, GREY, "centre")


def _paper(title: str, names: Sequence[str], height: float) -> tuple[Canvas, Box]:
    margin = max([80, *(text_width(name, 13) + 30 for name in names)])
    paper = Canvas(margin + _WIDTH - 160, round(height) + 92)
    paper.text(16, 22, title, 16)
    return paper, Box(margin, 56, paper.width - 90, 56 + height)


def _hill(
    heights: Sequence[float] | np.ndarray, edges: np.ndarray, axis: Axis, box: Box, ground: float
) -> list[tuple[float, float]]:
    middles = (edges[:-1] + edges[1:]) / 2
    top = [(axis.place(float(x), box), ground - float(h)) for x, h in zip(middles, heights, strict=True)]
    return [(top[0][0], ground), *top, (top[-1][0], ground)]
