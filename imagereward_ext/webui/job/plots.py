"""X/Y/Z plots: axes of our own, the score drawn into each cell, the means of rows and columns with the saved grid.

The host copies its processing object for every cell and knows nothing of the cells once it draws the grid; but
the images it draws are those of the cells' results, in order, and its grid callback sees all of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from imagereward_ext.webui.job.instructions import add_axis
from imagereward_ext.webui.job.other_scripts import PLOT, selected_title
from imagereward_ext.webui.job.report import ANSWER
from imagereward_ext.webui.job.scoring_job import job_at_hand
from imagereward_ext.webui.options import ON

LIMIT_AXIS, SCORER_AXIS = "[ImageReward] Lower score limit", "[ImageReward] Scorer"


@dataclass(frozen=True)
class PlotCell:
    """What a plot shows of one job."""

    image: Callable[[], Any]
    """A weak reference: the plot is remembered for longer than the host keeps its images."""
    mean: float | None
    caption: str
    """What is drawn into it, "" for nothing."""


@dataclass
class Plot:
    """One run of the host's X/Y/Z script."""

    axes: Any
    cells: list[PlotCell] = field(default_factory=list)
    tables: list[list[list[float | None]]] = field(default_factory=list)
    """A table of mean scores per grid: rows of columns."""
    saved: int = 0

    def add_cell(self, processed: Any, answer: dict[str, Any], caption: str) -> None:
        """Note the mean of a finished cell for the one image that the plot will show of it.

        The host keeps the first cell's `info` for the whole plot: instead of that cell's scores it tells all.
        """
        known = [score for score in answer["scores"] if score is not None]
        answer.update(scores=[], percentiles=[], cells=self.tables)
        if processed.images:
            mean = fmean(known) if known else None
            self.cells.append(PlotCell(weakref.ref(processed.images[0]), mean, caption))

    def cell_of(self, image: Any) -> PlotCell | None:
        """Return the cell that shows an image."""
        return next((cell for cell in self.cells if cell.image() is image), None)

    def note_table(self, images: Sequence[Any], columns: int) -> None:
        """Note the means of a whole grid of cells; any other grid is left alone."""
        cells = [self.cell_of(image) for image in images]
        if not all(cell or _is_blank(image) for cell, image in zip(cells, images, strict=True)):
            return
        means = [cell.mean if cell else None for cell in cells]
        if any(mean is not None for mean in means):
            self.tables.append([means[start : start + columns] for start in range(0, len(means), columns)])

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


def plot_of_result(processed: Any) -> Plot | None:
    """Return the plot whose grid is saved in the name of a result: the host takes a copy of the first cell's."""
    answer = (getattr(processed, "extra_generation_params", None) or {}).get(ANSWER)
    tables = answer.get("cells") if isinstance(answer, dict) else None
    return _current if _current is not None and tables is _current.tables else None


def on_grid(images: list[Any], columns: int, draw: Callable[[Any, str], Any]) -> list[Any]:
    """Draw scores into the copies a grid is made of; note the cells of a whole plot."""
    if _current is not None and images:
        _current.note_table(images, columns)
    captions = [_caption(image) for image in images]
    return [draw(image, text) if text else image for image, text in zip(images, captions, strict=True)]


def _caption(image: Any) -> str:
    """Return what is drawn into an image: of a plot's cell, or of a job's own grid within one."""
    cell = _current.cell_of(image) if _current is not None else None
    if cell is not None:
        return cell.caption
    job = job_at_hand()
    return job.caption_of(image) if job is not None else ""


def add_axes(xyz_grid: Any, scorer_names: Callable[[], list[str]]) -> None:
    """Add our axes to the host's X/Y/Z script, once."""
    if any(option.label == LIMIT_AXIS for option in xyz_grid.axis_options):
        return
    xyz_grid.axis_options += [
        xyz_grid.AxisOption(LIMIT_AXIS, float, _axis("limit", filter_low=True)),
        # Changing the scorer loads another model: the host makes the costliest axis the outermost.
        xyz_grid.AxisOption(SCORER_AXIS, str, _axis("scorer"), cost=0.9, choices=scorer_names),
    ]


def _axis(name: str, **more: Any) -> Callable[[Any, Any, Any], None]:
    def apply(p: Any, value: Any, values: Any) -> None:
        # Who takes such an axis wants scores, whatever Settings says.
        add_axis(p, **{"score": ON, name: value, **more})

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
