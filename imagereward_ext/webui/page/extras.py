"""The Extras tab: scores single images, batches and whole folders by their own prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modules import scripts_postprocessing

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.prompt import plain_prompt
from imagereward_ext.webui.job.saved_files import NOTE, ExtrasScore
from imagereward_ext.webui.page import panels
from imagereward_ext.webui.service import error_message, log, service

_TEXT_MARK = "_imagereward_text"


class ImageRewardExtras(scripts_postprocessing.ScriptPostprocessing):  # type: ignore[misc]  # no types in the host
    """Scores the image as it leaves all other steps."""

    name = "ImageReward"
    order = 90_000

    def ui(self) -> dict[str, Any]:
        """Build the row of this step."""
        return panels.extras_row(service())

    def process_firstpass(self, pp: Any, **arguments: Any) -> None:
        """Note the image's own text before other steps replace the image."""
        if arguments.get("enable"):
            setattr(pp, _TEXT_MARK, service().host.images.infotext(pp.image))

    def process(self, pp: Any, **arguments: Any) -> None:
        """Score the image and put the score where the result's parameters are written."""
        if not arguments.get("enable"):
            return
        settings = service().settings()
        text = getattr(pp, _TEXT_MARK, "") or service().host.images.infotext(pp.image)
        try:
            own = plain_prompt(infotext.parse(text).prompt)
        except MetadataError as error:
            _tell(pp, f"not scored: {error}")
            return
        prompt = settings.text or own or (arguments.get("prompt") or "").strip()
        if not prompt:
            _tell(pp, "not scored: the image holds no prompt")
            return
        try:
            (mark,) = service().score_apart([pp.image], [prompt], arguments.get("scorer") or "")
        except Exception as error:
            _tell(pp, f"not scored: {error_message(error)}")
            return
        if mark is None:
            _tell(pp, "not scored: the scorer gave no number")
            return
        service().history(mark.label, mark.digest).add(mark.value)
        written = replace(mark, prompt=None if prompt == own else prompt)
        ExtrasScore(written, prompt, settings.decimals).leave_on(pp.image)
        # A line of its own, which in a JPEG is all that the host writes: it counts only with its third pair.
        pp.info.update(replace(mark, prompt=prompt).fields(settings.decimals))


def _tell(pp: Any, sentence: str) -> None:
    log.warning(sentence)
    pp.info[NOTE] = sentence
    ExtrasScore(reason=sentence).leave_on(pp.image)
