"""Every option of the script and of Settings: label, help, range and default stand here and nowhere else.

The widgets, the API's arguments, the Settings page and the docs are made from these two dataclasses. Reading
never raises: a value that makes no sense is replaced by its default and reported, so that a typing mistake
costs nobody an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Generic, TypeVar, cast

_META = "option"


@dataclass(frozen=True)
class Option:
    """What a person sees of one field."""

    label: str
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    only_when_chosen: bool = False
    """True for what only the script in the dropdown can do, because it has to start further generations."""
    only_always_on: bool = False


def _option(default: Any, label: str, help: str, **more: Any) -> Any:
    return field(default=default, metadata={_META: Option(label, help, **more)})


AS_IN_SETTINGS, ON, OFF = "As in Settings", "On", "Off"
TO_FOLDER, HIDE, DISCARD = "move to the rejected folder", "save as usual, do not show", "do not save"
PER_JOB, PER_PROMPT = "per job", "per prompt"


@dataclass(frozen=True)
class Request:
    """What is wanted for one generation. The order of the fields is the order of the API's arguments."""

    score: str = _option(
        AS_IN_SETTINGS,
        "Score",
        "Score every image of this generation. Settings > ImageReward says what happens by default.",
        choices=(AS_IN_SETTINGS, ON, OFF),
        only_always_on=True,
    )
    scorer: str = _option(AS_IN_SETTINGS, "Scorer", "Which model scores: a known one, or one you trained.")
    filter_low: bool = _option(False, "Filter low scores", "Images below the limit are rejected.")
    limit: float = _option(
        0.0,
        "Lower score limit",
        "Scores have a mean of 0 and a spread of about 1 over Stable Diffusion images; higher is better.",
    )
    keep_best: int = _option(
        0,
        "Keep the best",
        "How many of the images are kept, best first. 0 keeps all.",
        minimum=0,
        maximum=64,
        step=1,
    )
    keep_best_of: str = _option(
        PER_JOB,
        "Keep the best of each",
        "Whether the best are picked from the whole job or for every prompt of it.",
        choices=(PER_JOB, PER_PROMPT),
    )
    keep_one: bool = _option(
        False,
        "Keep the best one if none passes",
        "Shows and saves the best image although it is below the limit.",
    )
    sort: bool = _option(False, "Sort by score", "Shows the best image first.")
    rejected: str = _option(
        TO_FOLDER,
        "Rejected images",
        "What becomes of the files of rejected images. They are not shown in any case.",
        choices=(TO_FOLDER, HIDE, DISCARD),
    )
    until: int = _option(
        0,
        "Keep generating until this many pass",
        "Generates again, with the next seeds, until so many images pass the limit. 0 generates once.",
        minimum=0,
        maximum=1000,
        step=1,
        only_when_chosen=True,
    )
    tries: int = _option(
        10,
        "Tries at most",
        "Generating stops after so many tries, whatever passed.",
        minimum=1,
        maximum=1000,
        step=1,
        only_when_chosen=True,
    )
    hires_for_passing: bool = _option(
        False,
        "Hires fix only for images that pass",
        "Scores the small images first and upscales only those above the limit (txt2img with Hires. fix).",
        only_when_chosen=True,
    )

    @property
    def selects(self) -> bool:
        """Whether any image may be rejected."""
        return self.filter_low or self.keep_best > 0

    @property
    def rearranges(self) -> bool:
        """Whether the gallery may differ from what the host made, so that its grid would be wrong."""
        return self.selects or self.sort


_LIMIT = next(f for f in fields(Request) if f.name == "limit")

KEEP_LOADED, MOVE_TO_CPU, UNLOAD_IDLE = (
    "keep it loaded",
    "move it to the CPU after each job",
    "unload it when idle",
)


@dataclass(frozen=True)
class Settings:
    """What the Settings page holds; each is stored by the host as `imagereward_<name>`."""

    always_score: bool = _option(
        False,
        "Score every generation",
        "Without choosing the script; also together with X/Y/Z plot and others.",
    )
    scorer: str = _option("ImageReward-v1.0", "Scorer", "A known scorer, or the name of a model you trained.")
    device: str = _option(
        "auto", "Device", "auto takes what the WebUI uses.", choices=("auto", "cuda", "mps", "cpu")
    )
    precision: str = _option(
        "auto",
        "Precision",
        "auto is fp16 on a graphics card and fp32 on a CPU.",
        choices=("auto", "fp32", "fp16", "bf16"),
    )
    batch_size: int = _option(
        0,
        "Batch size",
        "Images scored at once in Extras and through the API. 0 chooses it.",
        minimum=0,
        maximum=256,
        step=1,
    )
    unload: str = _option(
        KEEP_LOADED,
        "After a job, the scorer",
        "Loading again takes seconds; holding it takes memory.",
        choices=(KEEP_LOADED, MOVE_TO_CPU, UNLOAD_IDLE),
    )
    idle_minutes: float = _option(
        10.0,
        "Minutes until it counts as idle",
        "Only for 'unload it when idle'.",
        minimum=0.1,
        maximum=1440,
        step=0.1,
    )
    decimals: int = _option(
        4, "Decimals", "Of the score in files and under the gallery.", minimum=1, maximum=6, step=1
    )
    rejected_folder: str = _option(
        "rejected",
        "Rejected folder",
        "A folder beside the saved images, or a full path to one place for all.",
    )
    file_name_token: bool = _option(
        True,
        "Offer [imagereward] in file name patterns",
        "Puts the score into a file's name (after Reload UI).",
    )
    text: str = _option(
        "", "Score this text instead of the prompt", "Empty: every image is scored for its own prompt."
    )
    score_in_file: bool = _option(
        True,
        "Write the score into the parameters",
        "Into the saved file, its .txt and the image information.",
    )
    aesthetic_score: bool = _option(
        False,
        "Also write a 0-10 aesthetic_score",
        "For image browsers that know only that: the place among your own scores, once 100 are known.",
    )
    draw_in_plots: bool = _option(
        True, "Draw the score into the cells of X/Y/Z plots", "At the lower left of each cell."
    )
    badges: bool = _option(
        True, "Show scores under the gallery", "And a badge on each thumbnail (after Reload UI)."
    )
    download_folder: str = _option(
        "",
        "Folder of the scorers",
        "Where models are looked for first and downloaded to. Empty: models/ImageReward.",
    )


T = TypeVar("T", Request, Settings)


@dataclass(frozen=True)
class Reading(Generic[T]):
    """Values that make sense, and one sentence for each that did not."""

    values: T
    problems: tuple[str, ...] = ()
    senseless: tuple[str, ...] = ()
    """The names of those that did not."""


def option_of(field_: Field[Any]) -> Option:
    """Return what a person sees of a field."""
    return cast(Option, field_.metadata[_META])


def panel_fields(*, always_on: bool) -> list[Field[Any]]:
    """List the fields of one of the two panels, in order: the API's arguments are these."""
    hidden = "only_when_chosen" if always_on else "only_always_on"
    return [f for f in fields(Request) if not getattr(option_of(f), hidden)]


def read_arguments(arguments: Sequence[Any], *, always_on: bool) -> Reading[Request]:
    """Read what the host hands to a script: the panel's values in order, or one dictionary of names."""
    if arguments and isinstance(arguments[0], Mapping):
        return _with_unused_limit(read(Request, arguments[0]), arguments[0], always_on=always_on)
    names = [f.name for f in panel_fields(always_on=always_on)]
    return read(Request, dict(zip(names, arguments, strict=False)))


def _with_unused_limit(
    reading: Reading[Request], given: Mapping[str, Any], *, always_on: bool
) -> Reading[Request]:
    """Report a limit that nothing uses: one who names it alone expects a filter."""
    request = reading.values
    used = not always_on and (request.until or request.hires_for_passing)
    if used or "limit" not in given or "filter_low" in given or "limit" in reading.senseless:
        return reading
    problem = f"{option_of(_LIMIT).label} needs 'filter_low': true; nothing was filtered"
    return replace(reading, problems=(*reading.problems, problem))


def read(kind: type[T], given: Mapping[str, Any]) -> Reading[T]:
    """Read named values; what is missing keeps its default."""
    values: dict[str, Any] = {}
    problems = []
    senseless = []
    for f in fields(kind):
        if f.name not in given:
            continue
        try:
            values[f.name] = _convert(given[f.name], f.default, option_of(f))
        except ValueError as error:
            senseless.append(f.name)
            problems.append(f"{option_of(f).label} {error}")
            if f.name == "limit":  # a filter without its limit would reject by a number nobody chose
                values["filter_low"] = False
                problems[-1] += "; nothing was filtered"
    known = [f.name for f in fields(kind)]
    problems += [
        f"there is no option {name!r}; there are {', '.join(known)}" for name in given if name not in known
    ]
    return Reading(kind(**values), tuple(problems), tuple(senseless))


def _convert(value: Any, default: Any, option: Option) -> Any:
    if option.choices:
        return _choice(value, option)
    if isinstance(default, bool):
        return _switch(value)
    if isinstance(default, str):
        return "" if value is None else str(value).strip()
    number = _number(value)
    if option.minimum is not None and number < option.minimum:
        raise ValueError(f"is {value}; the least is {option.minimum:g}")
    if option.maximum is not None and number > option.maximum:
        raise ValueError(f"is {value}; the most is {option.maximum:g}")
    if isinstance(default, float):
        return number
    if not number.is_integer():
        raise ValueError(f"is {value}; it must be a whole number")
    return int(number)


def _choice(value: Any, option: Option) -> str:
    if isinstance(value, bool) and ON in option.choices:
        return ON if value else OFF
    by_name = {choice.lower(): choice for choice in option.choices}
    found = by_name.get(str(value).strip().lower())
    if found is None:
        raise ValueError(f"is {value!r}; choose {', '.join(option.choices)}")
    return found


def _switch(value: Any) -> bool:
    if value in (True, False):  # 0 and 1 count
        return bool(value)
    if str(value).strip().lower() in ("true", "false"):
        return str(value).strip().lower() == "true"
    raise ValueError(f"is {value!r}; it must be true or false")


def _number(value: Any) -> float:
    text = "" if value is None or isinstance(value, bool) else str(value).strip()
    if not text:
        raise ValueError("is empty; type a number such as 0.5")
    try:
        number = float(text)
    except ValueError:
        try:
            number = float(text.replace(",", "."))  # 0,5 is how half of Europe types it
        except ValueError:
            number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"is {value!r}; type a number such as 0.5")
    return number
