"""X/Y/Z plots: axes of our own, the score drawn into each cell, the means of rows and columns with the saved grid.

The host copies its processing object for every cell and knows nothing of the cells once it draws the grid, so
each cell's image carries its score, and the host's grid callback sees all of them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from imagereward_ext.webui.job.other_scripts import PLOT, selected_title
from imagereward_ext.webui.options import ON

LIMIT_AXIS, SCORER_AXIS = "[ImageReward] Lower score limit", "[ImageReward] Scorer"
OVERRIDES_MARK = "_imagereward_overrides"
PLOT_MARK, CELL_MARK, DRAW_MARK = "_imagereward_plot", "_imagereward_cell", "_imagereward_draw"


@dataclass
class Plot:
    """One run of the host's X/Y/Z script."""

    axes: Any
    tables: list[list[list[float | None]]] = field(default_factory=list)
    """A table of mean scores per grid: rows of columns."""
    saved: int = 0

    def add_cell(self, processed: Any, answer: dict[str, Any]) -> None:
        """Note the mean of a finished cell on the one image that the plot will show of it.

        The host keeps the first cell's `info` for the whole plot: instead of that cell's scores it tells all.
        """
        known = [score for score in answer["scores"] if score is not None]
        answer.update(scores=[], percentiles=[], cells=self.tables)
        setattr(processed, PLOT_MARK, self)
        if processed.images:
            setattr(processed.images[0], CELL_MARK, fmean(known) if known else None)

    def fields_for_next_saved(self) -> dict[str, str]:
        """Return what the next saved grid says: the host saves the whole plot first, then each grid of it."""
        number, self.saved = self.saved, self.saved + 1
        if len(self.tables) == 1:
            return _fields(self.tables[0])
        if number == 0:
            flat = [[score for row in table for score in row] for table in self.tables]
            return {"ImageReward grid means": _listed(means(flat)[0])} if flat else {}
        return _fields(self.tables[number - 1]) if number <= len(self.tables) else {}


_current: Plot | None = None


def plot_of(p: Any, state: Any = None) -> Plot | None:
    """Return the plot a job is a cell of. Jobs run one at a time, and each plot sets its axes anew."""
    global _current
    if selected_title(p) != PLOT:
        return None
    if state is None:
        from modules import shared

        state = shared.state
    axes = getattr(state, "xyz_plot_x", None)
    if _current is None or _current.axes is not axes:
        _current = Plot(axes)
    return _current


def mark_to_be_drawn(image: Any, score: float) -> None:
    """Have the score drawn when the host puts this image into a grid."""
    setattr(image, DRAW_MARK, f"{score:.2f}")


def on_grid(imgs: list[Any], cols: int, draw: Callable[[Any, str], Any]) -> list[Any]:
    """Draw scores into the copies a grid is made of; note the cells of a whole plot."""
    if _current is not None and imgs and all(hasattr(image, CELL_MARK) or _is_blank(image) for image in imgs):
        cells = [getattr(image, CELL_MARK, None) for image in imgs]
        if any(cell is not None for cell in cells):
            _current.tables.append([cells[start : start + cols] for start in range(0, len(cells), cols)])
    return [draw(image, getattr(image, DRAW_MARK)) if hasattr(image, DRAW_MARK) else image for image in imgs]


def add_axes(xyz_grid: Any, scorer_names: Callable[[], list[str]]) -> None:
    """Add our axes to the host's X/Y/Z script, once."""
    if any(option.label == LIMIT_AXIS for option in xyz_grid.axis_options):
        return
    xyz_grid.axis_options += [
        xyz_grid.AxisOption(LIMIT_AXIS, float, _override("limit", filter_low=True)),
        # Changing the scorer loads another model: the host makes the costliest axis the outermost.
        xyz_grid.AxisOption(SCORER_AXIS, str, _override("scorer"), cost=0.9, choices=scorer_names),
    ]


def _override(name: str, **more: Any) -> Callable[[Any, Any, Any], None]:
    def apply(p: Any, value: Any, values: Any) -> None:
        # Who takes such an axis wants scores, whatever Settings says.
        setattr(p, OVERRIDES_MARK, {**getattr(p, OVERRIDES_MARK, {}), "score": ON, name: value, **more})

    return apply


def _is_blank(image: Any) -> bool:
    """Tell whether a cell is the empty image the host puts where nothing was made."""
    return not getattr(image, "info", {}) and not hasattr(image, "already_saved_as")


def _fields(table: Sequence[Sequence[float | None]]) -> dict[str, str]:
    rows, columns = means(table)
    return {"ImageReward row means": _listed(rows), "ImageReward column means": _listed(columns)}


def _listed(values: Sequence[float | None]) -> str:
    return " | ".join("none" if value is None else f"{value:.4f}" for value in values)


def means(rows: Sequence[Sequence[float | None]]) -> tuple[list[float | None], list[float | None]]:
    """Average a table of scores along its rows and along its columns; None where nothing was scored."""
    columns = list(zip(*rows, strict=True)) if rows else []
    return [_mean(row) for row in rows], [_mean(column) for column in columns]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
