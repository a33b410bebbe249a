"""What a caller is told when something is wrong: a status and one line, whatever was sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastapi import HTTPException

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.webui.service import error_message
from imagereward_ext.wording import visible, well_formed

T = TypeVar("T")

LONGEST = 1000


def refusal(status: int, text: str, headers: dict[str, str] | None = None) -> HTTPException:
    """Make an answer of a sentence, which may quote what the caller sent."""
    line = visible(well_formed(text[: 2 * LONGEST].replace("\n", " ")))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST - 1]}…"
    return HTTPException(status, line, headers)


def answer(
    work: Callable[[], T],
    shown: Callable[[str], str],
    unavailable: tuple[type[ImageRewardError], ...] = (),
) -> T:
    """Do what a request asks for; its errors become 422, or 503 where the caller can do nothing about them.

    `shown` takes out of a sentence what callers should not see.
    """
    try:
        return work()
    except ImageRewardError as error:
        raise refusal(503 if isinstance(error, unavailable) else 422, shown(str(error))) from error
    except Exception as error:
        raise refusal(500, shown(error_message(error))) from error
