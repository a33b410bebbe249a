"""What `/score` is asked: parsed once, from JSON or a form, into a value that nothing changes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imagereward_ext.errors import UsageError
from imagereward_ext.settings import openapi
from imagereward_ext.webui.api.bodies import FORM, JSON, read_json
from imagereward_ext.webui.api.multipart import read_fields
from imagereward_ext.webui.options import AS_IN_SETTINGS

MOST_IMAGES = 64
MOST_CHARACTERS = 20_000
_FIELDS = ("images", "prompts", "scorer")
_PIECE = 2**18
"""Characters of base64 decoded at once: no other thread of the process runs meanwhile."""


@dataclass(frozen=True)
class ScoreRequest:
    """Images to be scored."""

    images: tuple[bytes, ...]
    """Files, not looked into yet."""
    prompts: tuple[str, ...]
    """One for each image, blank where its own is meant."""
    scorer: str = AS_IN_SETTINGS


def parse(kind: str, content_type: str, body: bytes) -> ScoreRequest:
    """Read a request of one of the two kinds."""
    return _from_form(content_type, body) if kind == FORM else _from_json(body)


def schema() -> dict[str, Any]:
    """Describe both kinds, as OpenAPI spells it."""
    about = "one prompt for all images, or one for each; an image without one is scored for the prompt in its file"
    text = {"type": "string"}
    texts = openapi.array(text)
    scorer = text | {"description": "a name from /models; default: as in Settings"}
    files = openapi.array(text | {"format": "binary"}, most=MOST_IMAGES)
    encoded = openapi.array(text, most=MOST_IMAGES) | {
        "description": "image files, base64 (a data: URL is fine)"
    }
    either = {"description": about, "anyOf": [text, texts]}
    return openapi.request_body(
        {
            JSON: openapi.object_of(
                {"images": encoded, "prompts": either, "scorer": scorer}, required=("images",)
            ),
            FORM: openapi.object_of(
                {"images": files, "prompts": texts | {"description": about}, "scorer": scorer},
                required=("images",),
            ),
        }
    )


def _from_json(body: bytes) -> ScoreRequest:
    given = read_json(body)
    if not isinstance(given, dict) or not isinstance(given.get("images"), list):
        raise UsageError('the body must look like {"images": ["<base64>"], "prompts": "a red fox"}')
    unknown = set(given).difference(_FIELDS)
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))} is unknown; there are images, prompts and scorer")
    images = given["images"]
    prompts = _prompts_for(images, given.get("prompts"))
    scorer = given.get("scorer")
    if scorer is not None and not isinstance(scorer, str):
        raise UsageError("scorer must be a name from /imagereward/v1/models")
    return ScoreRequest(
        tuple(_decoded(text, number) for number, text in enumerate(images, start=1)),
        prompts,
        scorer or AS_IN_SETTINGS,
    )


def _from_form(content_type: str, body: bytes) -> ScoreRequest:
    fields = read_fields(body, content_type, most=2 * MOST_IMAGES + len(_FIELDS))
    images = [field for field in fields if field.name == "images"]
    if not all(field.is_file for field in images):
        raise UsageError("images must be uploaded files")
    texts = [field.text() for field in fields if field.name == "prompts" and not field.is_file]
    scorers = [field.text() for field in fields if field.name == "scorer" and not field.is_file]
    return ScoreRequest(
        tuple(field.content for field in images),
        _prompts_for(images, texts[0] if len(texts) == 1 else texts),
        next(iter(scorers), "") or AS_IN_SETTINGS,
    )


def _prompts_for(images: Sequence[Any], prompts: Any) -> tuple[str, ...]:
    count = len(images)
    if not 1 <= count <= MOST_IMAGES:
        raise UsageError(f"{count} images; give 1 to {MOST_IMAGES}")
    if prompts is None or prompts == []:
        prompts = ""  # then each image's own
    texts = [prompts] * count if isinstance(prompts, str) else prompts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError("prompts must be a text, or a list with one text for each image")
    if len(texts) != count:
        raise UsageError(f"images: {count}, prompts: {len(texts)}; give one for all, or one for each")
    if any(len(text) > MOST_CHARACTERS for text in texts):
        raise UsageError(f"a prompt has more than {MOST_CHARACTERS} characters")
    return tuple(texts)


def _decoded(text: Any, number: int) -> bytes:
    if not isinstance(text, str):
        raise UsageError(f"image {number} is no base64 text")
    start = text.rfind(",") + 1  # behind "data:image/png;base64"
    try:
        return b"".join(
            base64.b64decode(text[place : place + _PIECE], validate=True)
            for place in range(start, len(text), _PIECE)
        )
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"image {number} is no base64 text: {error}") from error
