"""Every option of the script and of Settings: label, help, range and default stand here and nowhere else.

Reading never raises: a value that makes no sense is replaced by its default and reported, so that a typing mistake
costs nobody an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from imagereward_ext.compute import DEVICES, PRECISIONS
from imagereward_ext.settings import Reading, Setting, read, schema, setting

AS_IN_SETTINGS, ON, OFF = "As in Settings", "On", "Off"
TO_FOLDER, HIDE, DISCARD = "move to the rejected folder", "save as usual, do not show", "do not save"
PER_JOB, PER_PROMPT = "per job", "per prompt"
ONLY_ALWAYS_ON = "ImageReward scoring"
ONLY_WHEN_CHOSEN = "ImageReward"
"""Of the script in the dropdown alone: what has to start further generations."""


@dataclass(frozen=True)
class ScoringRequest:
    """What is wanted for one generation. The order of the fields is the order of the API's arguments."""

    score: str = setting(
        AS_IN_SETTINGS,
        "Score",
        "Score every image of this generation. Settings > ImageReward says what happens by default.",
        choices=(AS_IN_SETTINGS, ON, OFF),
        group=ONLY_ALWAYS_ON,
    )
    scorer: str = setting(AS_IN_SETTINGS, "Scorer", "Which model scores: a known one, or one you trained.")
    filter_low: bool = setting(False, "Filter low scores", "Images below the limit are rejected.")
    limit: float = setting(
        0.0,
        "Lower score limit",
        "Scores have a mean of 0 and a spread of about 1 over Stable Diffusion images; higher is better.",
    )
    keep_best: int = setting(
        0,
        "Keep the best",
        "How many of the images are kept, best first. 0 keeps all.",
        low=0,
        high=64,
    )
    keep_best_of: str = setting(
        PER_JOB,
        "Keep the best of each",
        "Whether the best are picked from the whole job or for every prompt of it.",
        choices=(PER_JOB, PER_PROMPT),
    )
    keep_one: bool = setting(
        False,
        "Keep the best one if none passes",
        "Shows and saves the best image although it is below the limit.",
    )
    sort: bool = setting(False, "Sort by score", "Shows the best image first.")
    rejected: str = setting(
        TO_FOLDER,
        "Rejected images",
        "What becomes of the files of rejected images. They are not shown in any case.",
        choices=(TO_FOLDER, HIDE, DISCARD),
    )
    until: int = setting(
        0,
        "Keep generating until this many pass",
        "Generates again, with the next seeds, until so many images pass the limit. 0 generates once.",
        low=0,
        high=1000,
        group=ONLY_WHEN_CHOSEN,
    )
    tries: int = setting(
        10,
        "Tries at most",
        "Generating stops after so many tries, whatever passed.",
        low=1,
        high=1000,
        group=ONLY_WHEN_CHOSEN,
    )
    hires_for_passing: bool = setting(
        False,
        "Hires fix only for images that pass",
        "Scores the small images first and upscales only those above the limit (txt2img with Hires. fix).",
        group=ONLY_WHEN_CHOSEN,
    )

    @property
    def selects(self) -> bool:
        """Whether any image may be rejected."""
        return self.filter_low or self.keep_best > 0

    @property
    def rearranges(self) -> bool:
        """Whether the gallery may differ from what the host made, so that its grid would be wrong."""
        return self.selects or self.sort


KEEP_LOADED, MOVE_TO_CPU, UNLOAD_IDLE = (
    "keep it loaded",
    "move it to the CPU after each job",
    "unload it when idle",
)


@dataclass(frozen=True)
class Settings:
    """What the Settings page holds; each is stored by the host as `imagereward_<name>`."""

    always_score: bool = setting(
        False,
        "Score every generation",
        "Without choosing the script; also together with X/Y/Z plot and others.",
    )
    scorer: str = setting("ImageReward-v1.0", "Scorer", "A known scorer, or the name of a model you trained.")
    device: str = setting("auto", "Device", "auto takes what the WebUI uses.", choices=DEVICES)
    precision: str = setting(
        "auto",
        "Precision",
        "auto is fp16 on a graphics card and fp32 on a CPU.",
        choices=PRECISIONS,
    )
    batch_size: int = setting(
        0,
        "Batch size",
        "Images scored at once in Extras and through the API. 0 chooses it.",
        low=0,
        high=256,
    )
    unload: str = setting(
        KEEP_LOADED,
        "After a job, the scorer",
        "Loading again takes seconds; holding it takes memory.",
        choices=(KEEP_LOADED, MOVE_TO_CPU, UNLOAD_IDLE),
    )
    idle_minutes: float = setting(
        10.0,
        "Minutes until it counts as idle",
        "Only for 'unload it when idle'.",
        low=0.1,
        high=1440,
    )
    decimals: int = setting(4, "Decimals", "Of the score in files and under the gallery.", low=1, high=6)
    rejected_folder: str = setting(
        "rejected",
        "Rejected folder",
        "A folder beside the saved images, or a full path to one place for all.",
    )
    file_name_token: bool = setting(
        True,
        "Offer [imagereward] in file name patterns",
        "Puts the score into a file's name (after Reload UI).",
    )
    text: str = setting(
        "", "Score this text instead of the prompt", "Empty: every image is scored for its own prompt."
    )
    score_in_file: bool = setting(
        True,
        "Write the score into the parameters",
        "Into the saved file, its .txt and the image information.",
    )
    aesthetic_score: bool = setting(
        False,
        "Also write a 0-10 aesthetic_score",
        "For image browsers that know only that: the place among your own scores, once 100 are known.",
    )
    draw_in_plots: bool = setting(
        True, "Draw the score into the cells of X/Y/Z plots", "At the lower left of each cell."
    )
    badges: bool = setting(
        True, "Show scores under the gallery", "And a badge on each thumbnail (after Reload UI)."
    )
    download_folder: str = setting(
        "",
        "Folder of the scorers",
        "Where models are looked for first and downloaded to. Empty: models/ImageReward.",
    )


def panel_settings(*, always_on: bool) -> list[Setting]:
    """List the settings of one of the two panels, in order: the API's arguments are these."""
    other = ONLY_WHEN_CHOSEN if always_on else ONLY_ALWAYS_ON
    return [entry for entry in schema(ScoringRequest).values() if entry.group != other]


def read_arguments(arguments: Sequence[Any], *, always_on: bool) -> Reading[ScoringRequest]:
    """Read what the host hands to a script: the panel's values in order, or one dictionary of names."""
    if arguments and isinstance(arguments[0], Mapping):
        return _with_unused_limit(read_request(arguments[0]), arguments[0], always_on=always_on)
    names = [entry.name for entry in panel_settings(always_on=always_on)]
    return read_request(dict(zip(names, arguments, strict=False)))


def read_request(given: Mapping[str, Any]) -> Reading[ScoringRequest]:
    """Read named values. A filter without its limit would reject by a number nobody chose: it is switched off."""
    reading = read(ScoringRequest, given, "there is no option")
    if "limit" not in reading.problem_of:
        return reading
    problem = f"{reading.problem_of['limit']}; nothing was filtered"
    return replace(
        reading,
        values=replace(reading.values, filter_low=False),
        problem_of={**reading.problem_of, "limit": problem},
    )


def _with_unused_limit(
    reading: Reading[ScoringRequest], given: Mapping[str, Any], *, always_on: bool
) -> Reading[ScoringRequest]:
    """Report a limit that nothing uses: one who names it alone expects a filter."""
    request = reading.values
    used = not always_on and (request.until or request.hires_for_passing)
    if used or "limit" not in given or "filter_low" in given or "limit" in reading.problem_of:
        return reading
    limit = schema(ScoringRequest)["limit"].label
    problem = f"{limit} needs 'filter_low': true; nothing was filtered"
    return replace(reading, problem_of={**reading.problem_of, "filter_low": problem})
