"""What the host's save callbacks add: nothing on masks, means on plots, the Save button's table, a name token."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.score_mark import find_marks, rounded, with_mark, without_marks
from imagereward_ext.webui.job.plots import PLOT_MARK
from imagereward_ext.webui.job.score_fields import JOB_MARK, SCORE_MARK
from imagereward_ext.webui.service import Service

PARAMETERS = "parameters"
EXTRAS_MARK = "_imagereward_extras"
NOTE = "ImageReward note"
NOTE_MARK = "_imagereward_note"
TABLE = "imagereward.csv"
ADD_NUMBER = "Add number suffix"
"""The host's word for its setting that no file is written over."""
COLUMNS = ("filename", "scorer", "score", "hash", "prompt", "seed")


def before_saved(params: Any) -> None:
    """Correct the parameters of what is about to be written."""
    text = params.pnginfo.get(PARAMETERS) or ""
    if _is_mask(params):
        text = without_marks(text)  # nobody scored a mask
    plot = getattr(params.p, PLOT_MARK, None)
    if plot is not None and (fields := plot.fields_for_next_saved()):
        text = infotext.with_fields(text, fields)
    if (extras := getattr(params.image, EXTRAS_MARK, None)) is not None:
        text = with_mark(text, *extras)
    if text:
        params.pnginfo[PARAMETERS] = text
    if (note := getattr(params.image, NOTE_MARK, None)) is not None:
        _leave_out(f"{NOTE}: {infotext.quote(note)}", params.pnginfo)


def _leave_out(pair: str, texts: dict[str, Any]) -> None:
    """Take out what the host shows and would save as well: why an image has no score is true for a day only."""
    for key, text in texts.items():
        if isinstance(text, str) and pair in text:
            texts[key] = text.replace(f", {pair}", "").replace(f"{pair}, ", "").replace(pair, "")


def after_saved(params: Any, service: Service) -> None:
    """Correct where the host believes an image is, and write those of the Save button into a table.

    The table is our own: the host's log.csv has fixed columns.
    """
    if hasattr(params.image, SCORE_MARK) and service.host.option("save_images_replace_action") == ADD_NUMBER:
        from imagereward_ext.webui.job import rejected_files  # the WebUI's start does not wait for it

        # The host itself goes on telling the name that was taken, which is another image's.
        params.image.already_saved_as = str(rejected_files.last_numbered(Path(params.filename)))
    if hasattr(params.p, "sd_model") or not service.host.option("save_write_log_csv", True):
        return  # a job's own save, not the button's
    folder = service.host.save_folder().resolve()
    path = Path(params.filename).resolve()
    text = params.pnginfo.get(PARAMETERS)
    if not text or folder not in path.parents:
        return
    marks = find_marks(text)
    if marks:
        rows = [(mark.label, rounded(mark.value, service.settings().decimals), mark.digest) for mark in marks]
        add_rows(folder / TABLE, path.relative_to(folder), infotext.parse(text), rows)


def add_rows(
    table: Path, name: Path, said: infotext.Infotext, scores: Iterable[tuple[str, str, str]]
) -> None:
    """Append one row per score. One write call, so that two saves at once do not mix their rows."""
    rows = io.StringIO(newline="")
    writer = csv.writer(rows)
    if not table.exists():
        writer.writerow(COLUMNS)
    for score in scores:
        writer.writerow([name.as_posix(), *score, said.prompt, said.fields.get("Seed", "")])
    with table.open("ab", buffering=0) as file:
        file.write(rows.getvalue().encode("utf-8"))


def offer_file_name_token(generator: Any, nothing: Any, service: Service) -> None:
    """Let file name patterns hold `[imagereward]`, the score of the image that is being saved, if that is wanted."""
    if not service.settings().file_name_token:
        generator.replacements.pop("imagereward", None)  # from before "Reload UI", which the class outlives
        return

    def token(namer: Any) -> Any:
        score = score_of(getattr(namer, "image", None), getattr(namer, "p", None), service.host.text_of)
        return nothing if score is None else rounded(score, service.settings().decimals)

    generator.replacements["imagereward"] = token


def score_of(image: Any, p: Any, text_of: Callable[[Any], str]) -> float | None:
    """Find the score of an image in hand: by its mark, by its job, or from its own text (the Save button)."""
    score = getattr(image, SCORE_MARK, None)
    if score is not None:
        return float(score)
    if image is None or getattr(p, JOB_MARK, None) is not None:
        return None  # a grid or a mask of a scored job
    marks = find_marks(text_of(image))
    return marks[0].value if marks else None


def _is_mask(params: Any) -> bool:
    """Tell whether this is a mask: the host writes it with the text of the image it has just saved."""
    job = getattr(params.p, JOB_MARK, None)
    if job is None or not job.finals or hasattr(params.image, SCORE_MARK):
        return False
    return hasattr(job.finals[-1].image, "already_saved_as")
