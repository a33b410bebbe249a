"""What the host's save callbacks add: nothing on masks, means on plots, the Save button's table, a name token."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.score_mark import (
    DECIMALS,
    ScoreMark,
    find_marks,
    rounded,
    with_mark,
    without_marks,
)
from imagereward_ext.webui.job.plots import plot_of_result
from imagereward_ext.webui.job.scored_image import saved_as
from imagereward_ext.webui.job.scoring_job import scoring_job
from imagereward_ext.webui.service import Service

PARAMETERS = "parameters"
NOTE = "ImageReward note"
_EXTRAS_MARK = "_imagereward_extras"
TABLE = "imagereward.csv"
ADD_NUMBER = "Add number suffix"
"""The host's word for its setting that no file is written over."""
COLUMNS = ("filename", "scorer", "score", "hash", "prompt", "seed")


@dataclass(frozen=True)
class ExtrasScore:
    """What Extras found out about one image, or why it found nothing."""

    mark: ScoreMark | None = None
    prompt: str = ""
    """The text that was scored."""
    decimals: int = DECIMALS
    reason: str = ""
    """Why there is no score: shown, but true for a day only and therefore not saved."""

    def leave_on(self, image: Any) -> None:
        """Leave it on the image: the host saves it in the name of no job."""
        setattr(image, _EXTRAS_MARK, self)


def before_saved(params: Any) -> None:
    """Correct the parameters of what is about to be written."""
    text = params.pnginfo.get(PARAMETERS) or ""
    if _is_mask(params):
        text = without_marks(text)  # nobody scored a mask
    plot = plot_of_result(params.p)
    if plot is not None and (fields := plot.fields_for_next_saved()):
        text = infotext.with_fields(text, fields)
    extras = _extras_score(params.image)
    if extras.mark is not None:
        text = with_mark(text, extras.mark, extras.prompt, extras.decimals)
    if text:
        params.pnginfo[PARAMETERS] = text
    if extras.reason:
        _leave_out(f"{NOTE}: {infotext.quote(extras.reason)}", params.pnginfo)


def _leave_out(pair: str, texts: dict[str, Any]) -> None:
    """Take out what the host shows and would save as well."""
    for key, text in texts.items():
        if isinstance(text, str) and pair in text:
            texts[key] = text.replace(f", {pair}", "").replace(f"{pair}, ", "").replace(pair, "")


def after_saved(params: Any, service: Service) -> None:
    """Correct where the host believes an image is, and write those of the Save button into a table.

    The table is our own: the host's log.csv has fixed columns.
    """
    numbers_files = service.host.option("save_images_replace_action") == ADD_NUMBER
    if numbers_files and mark_in_hand(params.image, params.p) is not None:
        from imagereward_ext.webui.job import rejected_files  # the WebUI's start does not wait for it

        # The host itself goes on telling the name that was taken, which is another image's.
        params.image.already_saved_as = str(rejected_files.last_numbered(Path(params.filename)))
    if hasattr(params.p, "sd_model") or not service.host.option("save_write_log_csv", True):
        return  # a job's own save, not the button's
    folder = Path(service.host.option("outdir_save", "log/images")).resolve()
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
        score = score_of(
            getattr(namer, "image", None), getattr(namer, "p", None), service.host.images.infotext
        )
        return nothing if score is None else rounded(score, service.settings().decimals)

    generator.replacements["imagereward"] = token


def score_of(image: Any, p: Any, text_of: Callable[[Any], str]) -> float | None:
    """Find the score of an image in hand, or else in its own text (the Save button)."""
    mark = mark_in_hand(image, p)
    if mark is None and image is not None and scoring_job(p) is None:  # no grid or mask of a scored job
        mark = next(iter(find_marks(text_of(image))), None)
    return None if mark is None else mark.value


def mark_in_hand(image: Any, p: Any) -> ScoreMark | None:
    """Return the score that an image was given by its job or by Extras."""
    job = scoring_job(p)
    return _extras_score(image).mark if job is None else job.mark_of(image)


def _extras_score(image: Any) -> ExtrasScore:
    score: ExtrasScore = getattr(image, _EXTRAS_MARK, ExtrasScore())
    return score


def _is_mask(params: Any) -> bool:
    """Tell whether this is a mask: the host writes it with the text of the image it has just saved."""
    job = scoring_job(params.p)
    if job is None or not job.images or job.find(params.image) is not None:
        return False
    return saved_as(job.images[-1].image) is not None
