"""`/imagereward/v1/…`: scoring over HTTP, with the credentials of the WebUI's own API."""

from __future__ import annotations

import base64
import binascii
import io
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPBasic
from PIL import Image, UnidentifiedImageError
from starlette.concurrency import run_in_threadpool

from imagereward_ext import __version__
from imagereward_ext.errors import ImageError, ImageRewardError, MetadataError, UsageError, WeightsError
from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.prompt import plain_prompt
from imagereward_ext.webui.options import AS_IN_SETTINGS
from imagereward_ext.webui.service import Service, error_message

PREFIX = "/imagereward/v1"
MOST_IMAGES = 64
MOST_BYTES = 128 * 2**20
MOST_PIXELS = 64_000_000
MOST_PIXELS_TOGETHER = 2**28
"""64 images of 2048 x 2048: 1 GB when decoded, be the files as small as they may."""
MOST_CHARACTERS = 20_000

_PROMPTS = (
    "one prompt for all images, or one for each; an image without one is scored for the prompt in its file"
)

_SCORE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
                            "type": "array",
                            "items": {"type": "string"},
                            "maxItems": MOST_IMAGES,
                            "description": "image files, base64 (a data: URL is fine)",
                        },
                        "prompts": {
                            "description": _PROMPTS,
                            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
                        },
                        "scorer": {
                            "type": "string",
                            "description": "a name from /models; default: as in Settings",
                        },
                    },
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "prompts": {"type": "array", "items": {"type": "string"}, "description": _PROMPTS},
                        "scorer": {"type": "string"},
                    },
                }
            },
        },
    }
}


def add(app: FastAPI, service: Service) -> None:
    """Add the routes to the host's server, once."""
    if any(getattr(route, "path", "") == f"{PREFIX}/version" for route in app.routes):
        return
    guard = [Depends(credential_check(service))]

    async def score(request: Request) -> dict[str, Any]:
        """Score images: `{"images": [...], "prompts": "a red fox"}` gives `{"scores": [0.53], ...}`."""
        wanted = await _read(request)
        answer: dict[str, Any] = await run_in_threadpool(_answer, score_images, service, wanted)
        return answer

    def models() -> dict[str, Any]:
        """List the scorers, and say which one is loaded."""
        return _answer(list_models, service, None)

    def unload() -> dict[str, Any]:
        """Unload the scorer and say how much memory that freed."""
        return {"message": service.unload()}

    def version() -> dict[str, str]:
        """Tell the version of this extension."""
        return {"version": __version__}

    app.add_api_route(
        f"{PREFIX}/score", score, methods=["POST"], dependencies=guard, openapi_extra=_SCORE_BODY
    )
    app.add_api_route(f"{PREFIX}/models", models, methods=["GET"], dependencies=guard)
    app.add_api_route(f"{PREFIX}/unload", unload, methods=["POST"], dependencies=guard)
    app.add_api_route(f"{PREFIX}/version", version, methods=["GET"], dependencies=guard)


def score_images(service: Service, wanted: dict[str, Any]) -> dict[str, Any]:
    """Score decoded images in the host's queue."""
    images = open_images(wanted["images"])
    prompts = [
        prompt if prompt.strip() else _own_prompt(image, number, service)
        for number, (image, prompt) in enumerate(zip(images, wanted["prompts"], strict=True), start=1)
    ]
    with service.host.queue():
        marks = service.score_apart(images, prompts, _known(wanted["scorer"], service))
    first = next((mark for mark in marks if mark is not None), None)
    return {
        "scores": [None if mark is None else mark.value for mark in marks],
        "scorer": first.label if first else "",
        "hash": first.digest if first else "",
    }


def _own_prompt(image: Image.Image, number: int, service: Service) -> str:
    prompt = service.settings().text or plain_prompt(infotext.parse(service.host.text_of(image)).prompt)
    if not prompt:
        raise UsageError(f"image {number} holds no prompt, and none was given for it")
    return prompt


def list_models(service: Service, _: Any) -> dict[str, Any]:
    """List names; a path never leaves or enters through a route."""
    status = service.status()
    return {
        "models": service.names(),
        "default": service.settings().scorer,
        "loaded": None
        if not status.name
        else {
            "name": status.name,
            "device": status.device,
            "precision": status.precision,
            "bytes": status.size_in_bytes,
        },
    }


def open_images(contents: list[bytes]) -> list[Image.Image]:
    """Decode images whose sizes, one by one and together, are checked before any pixel is."""
    images: list[Image.Image] = []
    pixels = 0
    for number, content in enumerate(contents, start=1):
        with _readable(number):
            image: Image.Image = Image.open(io.BytesIO(content))
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ImageError(
                f"image {number} has {width}x{height} pixels; the most is {MOST_PIXELS // 10**6} million"
            )
        pixels += width * height
        images.append(image)
    if pixels > MOST_PIXELS_TOGETHER:
        raise ImageError(
            f"the images have {pixels // 10**6} million pixels together; the most is {MOST_PIXELS_TOGETHER // 10**6}"
        )
    for number, image in enumerate(images, start=1):
        with _readable(number):
            image.load()
    return images


@contextmanager
def _readable(number: int) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:  # whose own words tell an address in memory
        raise ImageError(f"image {number} cannot be read: it is in no known image format") from error
    except Exception as error:  # a broken file makes Pillow's decoders raise whatever their parsing meets
        raise ImageError(f"image {number} cannot be read: {error}") from error


async def _read(request: Request) -> dict[str, Any]:
    try:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            return _checked(**await _read_form(request))
        return _checked(**_read_json(await _body(request)))
    except UsageError as error:
        raise HTTPException(422, str(error)) from error


async def _body(request: Request) -> bytes:
    """Read the body, but never more of it than is allowed."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise HTTPException(413, f"the request is larger than {MOST_BYTES // 2**20} MB")
        parts.append(part)
    return b"".join(parts)


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is no JSON: {error}") from error
    if not isinstance(given, dict) or not isinstance(given.get("images"), list):
        raise UsageError('the body must look like {"images": ["<base64>"], "prompts": "a red fox"}')
    unknown = set(given) - {"images", "prompts", "scorer"}
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))} is unknown; there are images, prompts and scorer")
    images = [_decoded(text, number) for number, text in enumerate(given["images"], start=1)]
    return {"images": images, "prompts": given.get("prompts"), "scorer": given.get("scorer")}


async def _read_form(request: Request) -> dict[str, Any]:
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > MOST_BYTES:
        raise HTTPException(413, f"an upload must say its length, at most {MOST_BYTES // 2**20} MB")
    form = await request.form()
    files = [item for item in form.getlist("images") if not isinstance(item, str)]
    if len(files) != len(form.getlist("images")):
        raise UsageError("images must be uploaded files")
    prompts = [item for item in form.getlist("prompts") if isinstance(item, str)]
    scorer = form.get("scorer")
    return {
        "images": [await file.read() for file in files],
        "prompts": prompts[0] if len(prompts) == 1 else prompts,
        "scorer": scorer if isinstance(scorer, str) else None,
    }


def _decoded(text: Any, number: int) -> bytes:
    if not isinstance(text, str):
        raise UsageError(f"image {number} is no base64 text")
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"image {number} is no base64 text: {error}") from error


def _checked(images: list[bytes], prompts: Any, scorer: Any) -> dict[str, Any]:
    if not 1 <= len(images) <= MOST_IMAGES:
        raise UsageError(f"{len(images)} images; give 1 to {MOST_IMAGES}")
    if prompts is None or prompts == []:
        prompts = ""  # then each image's own
    texts = [prompts] * len(images) if isinstance(prompts, str) else prompts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError("prompts must be a text, or a list with one text for each image")
    if len(texts) != len(images):
        raise UsageError(f"images: {len(images)}, prompts: {len(texts)}; give one for all, or one for each")
    if any(len(text) > MOST_CHARACTERS for text in texts):
        raise UsageError(f"a prompt has more than {MOST_CHARACTERS} characters")
    if scorer is not None and not isinstance(scorer, str):
        raise UsageError("scorer must be a name from /imagereward/v1/models")
    return {"images": images, "prompts": texts, "scorer": scorer or AS_IN_SETTINGS}


def _known(scorer: str, service: Service) -> str:
    """Take names only: the loader itself would also open a path."""
    if scorer != AS_IN_SETTINGS and scorer not in service.names():
        raise UsageError(f"no scorer is called {scorer!r}; there are {', '.join(service.names())}")
    return scorer


def _answer(work: Callable[[Service, Any], dict[str, Any]], service: Service, wanted: Any) -> dict[str, Any]:
    try:
        return work(service, wanted)
    except (UsageError, ImageError, MetadataError) as error:
        raise HTTPException(422, str(error)) from error
    except WeightsError as error:
        raise HTTPException(503, str(error)) from error
    except ImageRewardError as error:
        raise HTTPException(500, str(error)) from error
    except Exception as error:
        raise HTTPException(500, error_message(error)) from error


def credential_check(
    service: Service, admits: Callable[[Request], bool] = lambda request: False, closed: bool = False
) -> Callable[..., Any]:
    """Make the check the WebUI's own API does: `--api-auth user:password,user:password`.

    `admits` lets the tab's own page in, which the WebUI's login guards already. `closed` lets nobody else in where
    there are no such accounts.
    """
    wanted = str(service.host.flag("api_auth") or "")
    accounts = dict(entry.strip().split(":", 1) for entry in wanted.split(",") if ":" in entry)
    basic = HTTPBasic()

    async def check(request: Request) -> None:
        if not (wanted or closed) or admits(request):
            return
        credentials = await basic(request)  # answers 401 itself when there are none
        password = accounts.get(credentials.username) if credentials else None
        right = password is not None and secrets.compare_digest(
            credentials.password.encode("utf-8"), password.encode("utf-8")
        )
        if not right:
            raise HTTPException(401, "wrong user name or password", headers={"WWW-Authenticate": "Basic"})

    return check
