"""What the host's save callbacks add: nothing on masks, means on plots, the Save button's table, a name token."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.score_mark import ScoreMark, find_marks, rounded, with_mark, without_marks
from imagereward_ext.webui.plots import PLOT_MARK
from imagereward_ext.webui.score_fields import JOB_MARK, SCORE_MARK
from imagereward_ext.webui.service import Service

PARAMETERS = "parameters"
EXTRAS_MARK = "_imagereward_extras"
TABLE = "imagereward.csv"
COLUMNS = ("filename", "scorer", "score", "hash", "prompt", "seed")


def before_saved(params: Any) -> None:
    """Correct the parameters of what is about to be written."""
    text = params.pnginfo.get(PARAMETERS)
    if not text:
        return
    if _is_mask(params):
        text = without_marks(text)  # nobody scored a mask
    plot = getattr(params.p, PLOT_MARK, None)
    if plot is not None and (fields := plot.fields_for_next_saved()):
        text = infotext.with_fields(text, fields)
    if (extras := getattr(params.image, EXTRAS_MARK, None)) is not None:
        mark, prompt = extras
        text = with_mark(text, mark, prompt)
    params.pnginfo[PARAMETERS] = text


def after_saved(params: Any, service: Service) -> None:
    """Write the Save button's images into a table of our own: the host's log.csv has fixed columns."""
    if hasattr(params.p, "sd_model") or not service.host.option("save_write_log_csv", True):
        return  # a job's own save, not the button's
    folder = service.host.save_folder().resolve()
    path = Path(params.filename).resolve()
    text = params.pnginfo.get(PARAMETERS)
    if not text or folder not in path.parents:
        return
    marks = find_marks(text)
    if marks:
        add_rows(folder / TABLE, path.relative_to(folder), infotext.parse(text), marks)


def add_rows(table: Path, name: Path, said: infotext.Infotext, marks: list[ScoreMark]) -> None:
    """Append one row per score. One write call, so that two saves at once do not mix their rows."""
    rows = io.StringIO(newline="")
    writer = csv.writer(rows)
    if not table.exists():
        writer.writerow(COLUMNS)
    for mark in marks:
        seed = said.fields.get("Seed", "")
        writer.writerow([name.as_posix(), mark.label, rounded(mark.value), mark.digest, said.prompt, seed])
    with table.open("ab", buffering=0) as file:
        file.write(rows.getvalue().encode("utf-8"))


def add_file_name_token(generator: Any, nothing: Any, decimals: Callable[[], int]) -> None:
    """Let file name patterns hold `[imagereward]`, the score of the image that is being saved."""

    def token(namer: Any) -> Any:
        score = score_of(getattr(namer, "image", None), getattr(namer, "p", None))
        return nothing if score is None else rounded(score, decimals())

    generator.replacements["imagereward"] = token


def score_of(image: Any, p: Any) -> float | None:
    """Find the score of an image in hand: by its mark, by its job, or from its own text (the Save button)."""
    score = getattr(image, SCORE_MARK, None)
    if score is not None:
        return float(score)
    if getattr(p, JOB_MARK, None) is not None:
        return None  # a grid or a mask of a scored job
    marks = find_marks((getattr(image, "info", None) or {}).get(PARAMETERS) or "")
    return marks[0].value if marks else None


def _is_mask(params: Any) -> bool:
    """Tell whether this is a mask: the host writes it with the text of the image it has just saved."""
    job = getattr(params.p, JOB_MARK, None)
    if job is None or not job.finals or hasattr(params.image, SCORE_MARK):
        return False
    return hasattr(job.finals[-1].image, "already_saved_as")
