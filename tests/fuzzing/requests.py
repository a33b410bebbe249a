"""HTTP requests to our routes: wrong types, broken forms, images that are traps, and pages of other sites."""

from __future__ import annotations

import base64
import functools
import io
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from imagereward_ext.errors import UsageError
from imagereward_ext.webui.api import routes as score_routes
from imagereward_ext.webui.refl_tab import form
from imagereward_ext.webui.refl_tab import routes as train_routes
from imagereward_ext.webui.refl_tab.training import TrainingService
from imagereward_ext.wording import visible
from tests.fuzzing import containers, texts, without_a_part
from tests.webui.services import make_service

PREFIX = "/imagereward/v1"
JSON = "application/json"
FORM = "multipart/form-data; boundary=b0"
READ = ("version", "models", "train/status", "train/runs", "train/report", "train/picture")
DONE = ("plan", "start", "stop", "resume", "compare", "delete", "folder")
BOUNDED = 10_000
"""Letters: longer than any refusal, and longer than any list of names in this world."""

VALUES = [
    *("null", "true", "0", "-0", "-1", "1e400", "-1e400", "1e-400", "NaN", "Infinity", "-Infinity", "0.5"),
    *("9" * 25, "9" * 5000, "1" + "0" * 300, "1e300", '""', '" "', '"\\ud800"', '"\\u0000"', '"²"', '"a\\nb"'),
    *('"../x"', '"/etc/passwd"', '"C:\\\\x"', '"CON"', '"run"', '"tiny"', '"1,5"', '"nan"', '"a"', "[]", "{}"),
    *("[[]]", '["tiny"]', '["tiny", 5]', '[{"a": 1}]', '{"a": {"b": []}}', "[" * 14 + "]" * 14),
    *("[" * 900 + "]" * 900, "[" * 100_000, '{"a": 1, "a": 2}', "01", "'a'", "", '"' + "x" * 30_000 + '"'),
    *('"tiny:1,tiny:2"', '"tiny:nan"', '"tiny:"', '","', '"a" ' * 3, '"<script>"', '"typed below"'),
]  # fmt: skip
HEADERS = (
    *(
        ("origin", origin)
        for origin in ("null", "http://testserver", "http://evil.example", "http://[", "x:y")
    ),
    *(("sec-fetch-site", site) for site in ("cross-site", "same-origin", "none", "\xff")),
    *(("host", host) for host in ("", "[", "localhost:7860", "a:b:c", "testserver:99999999")),
    *(("x-forwarded-host", "["), ("x-forwarded-port", "99999"), ("authorization", "Basic \xff")),
    *(("content-length", "5"), ("accept-encoding", "\xff"), ("cookie", "access-token=x; a=;=b")),
)
TYPES = (
    *(JSON, "application/json; charset=utf-16", "text/plain", "", FORM, "multipart/form-data"),
    *("multipart/form-data; boundary=", 'multipart/form-data; boundary="', "multipart/mixed; boundary=b0"),
    "multipart/form-data; boundary*=utf-8''b0",
)


@dataclass(frozen=True)
class Case:
    """A request."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    chunked: bool = False


def cases(seed: int) -> Iterator[Case]:
    chance = random.Random(seed)
    files = containers.cases(seed)
    prompts = texts.cases(seed)
    while True:
        kind = chance.random()
        if kind < 0.15:
            yield Case("GET", f"{PREFIX}/{chance.choice(READ)}?{_query(chance)}", _headers(chance))
            continue
        if kind < 0.2:
            yield Case(
                "POST", f"{PREFIX}/unload", (*_headers(chance), ("content-type", chance.choice(TYPES)))
            )
            continue
        if kind < 0.45:
            path, body, content_type = f"{PREFIX}/train/{chance.choice(DONE)}", _training(chance), JSON
        elif kind < 0.75:
            path, content_type = f"{PREFIX}/score", JSON
            body = _score_json(chance, files, next(prompts))
        else:
            path, content_type = f"{PREFIX}/score", FORM
            body = _score_form(chance, files, next(prompts))
        if chance.random() < 0.2:
            body = _spoiled(chance, body)
        if chance.random() < 0.1:
            content_type = chance.choice(TYPES)
        headers = (*_headers(chance), ("content-type", content_type))
        yield Case("POST", path, headers, body, chance.random() < 0.3)


def _headers(chance: random.Random) -> tuple[tuple[str, str], ...]:
    return tuple(chance.sample(HEADERS, chance.choice([0, 0, 0, 0, 1, 2])))


def _query(chance: random.Random) -> str:
    values = (
        "",
        "run",
        "..",
        "%00",
        "%ff",
        "²",
        "--5",
        "9" * 5000,
        "-1",
        "samples/step-000001/00.png",
        "a&run=b",
    )
    names = ("run", "starts", "position", "file", "token", "%ff")
    return "&".join(f"{chance.choice(names)}={chance.choice(values)}" for _ in range(chance.randint(0, 3)))


def _training(chance: random.Random) -> bytes:
    right = {"name": "run", "prompt_source": "typed below", "prompt_text": "a\nb", "scorers": "tiny"}
    fields = {name: json.dumps(value) for name, value in right.items()}
    known = [*form.fields(), "name", "now", "fields", "output"]
    fields |= {chance.choice(known): chance.choice(VALUES) for _ in range(chance.randint(0, 3))}
    if chance.random() < 0.2:
        fields["fields"] = "{" + f'"{chance.choice(known)}": {chance.choice(VALUES)}' + "}"
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
    return chance.choice([body, body, body, body, chance.choice(VALUES)]).encode()


def _picture(chance: random.Random, files: Iterator[bytes]) -> bytes:
    return next(files) if chance.random() < 0.5 else chance.choice(TRAPS)()


def _score_json(chance: random.Random, files: Iterator[bytes], prompt: str) -> bytes:
    def image() -> str:
        text = base64.b64encode(_picture(chance, files)).decode()
        garbled = (
            text[:-1],
            f"{text}=",
            "%" + text,
            "\n".join((text[:8], text[8:])),
            f"data:,{text}",
            f",{text},",
        )
        return json.dumps(chance.choice([text, text, text, f"data:image/png;base64,{text}", *garbled]))

    images = "[" + ", ".join(image() for _ in range(chance.choice([1, 1, 1, 2, 0]))) + "]"
    fields = {"images": images, "prompts": json.dumps(chance.choice([prompt, "a", [prompt], [], ""]))}
    if chance.random() < 0.3:
        name = chance.choice([*fields, "scorer", "path", "\\ud800", "\\u0000"])
        fields[name] = chance.choice(VALUES)
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
    return chance.choice([body.encode(), body.encode(), body.encode("utf-16"), body.encode("utf-8-sig")])


def _score_form(chance: random.Random, files: Iterator[bytes], prompt: str) -> bytes:
    words = prompt.encode("utf-8", "surrogatepass")
    parts = [
        lambda: (b'form-data; name="images"; filename="a.png"', _picture(chance, files)),
        lambda: (b'form-data; name="images"; filename="\xc3\xa4\xff.png"', _picture(chance, files)),
        lambda: (b'form-data; name="images"', b"text"),
        lambda: (b'form-data; name="prompts"', words),
        lambda: (b'form-data; name="prompts"', b"\xff"),
        lambda: (b'form-data; name="scorer"', chance.choice([b"tiny", b"../tiny", b"a\0\n", b""])),
        lambda: (b"form-data; name*=utf-8''im%61ges; filename*=nocode''x", _picture(chance, files)),
        lambda: (b"form-data", b"x"),
        lambda: (b'form-data; name="' + b";" * 3000, b"x"),
    ]
    chosen = [parts[0], *chance.choices(parts, k=chance.randint(0, 3))]
    body = b"".join(
        b"--b0\r\nContent-Disposition: " + head + b"\r\n\r\n" + content + b"\r\n"
        for head, content in (make() for make in chosen)
    )
    return chance.choice([b"", b"", b"preamble\r\n"]) + body + chance.choice([b"--b0--\r\n", b"--b0--", b""])


def _spoiled(chance: random.Random, body: bytes) -> bytes:
    start, end = sorted(chance.choices(range(len(body) + 1), k=2))
    middle = chance.choice([b"", body[start:end] * 2, chance.randbytes(9), b"\r\n\r\n", b"--b0"])
    return body[:start] + middle + body[end:]


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _trap(make: Callable[[], bytes]) -> Callable[[], bytes]:
    return functools.cache(make)


TRAPS = [
    _trap(lambda: containers.picture("PNG")),
    _trap(lambda: containers.picture("PNG", "RGBA", frames=3)),
    _trap(lambda: containers.picture("GIF", "P", frames=3)),
    _trap(lambda: containers.picture("WEBP", frames=3)),
    _trap(lambda: containers.picture("JPEG", "CMYK")),
    _trap(lambda: containers.picture("BMP")),
    _trap(lambda: containers.picture("TIFF", "CMYK")),
    _trap(lambda: containers.picture("EPS")),
    _trap(lambda: containers.picture("PDF")),
    _trap(lambda: containers.picture("PPM")),
    _trap(lambda: containers.picture("PNG")[:60]),
    _trap(lambda: _saved(Image.new("I;16", (9, 9), 65_000), "PNG")),
    _trap(lambda: _saved(Image.new("I;16", (9, 9), 65_000), "TIFF")),
    _trap(lambda: _saved(Image.new("F", (9, 9), float("nan")), "TIFF")),
    _trap(lambda: _saved(Image.new("1", (9_000, 9_000)), "PNG")),
    _trap(lambda: _saved(Image.new("1", (30_000, 1)), "PNG")),
    _trap(lambda: _saved(Image.new("L", (1, 1)), "PNG")),
    _trap(
        lambda: _saved(Image.new("L", (9, 9)), "PNG").replace(
            (9).to_bytes(4, "big") * 2, (2**31 - 1).to_bytes(4, "big") * 2, 1
        )
    ),
    _trap(lambda: _saved(Image.new("L", (9, 9)), "JPEG", exif=b"Exif\0\0/dev/stdin")),
    lambda: b"",
    lambda: b"GIF89a",
]


class World:
    """A server with a tiny scorer, where everything is real but the processes of trainings."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self.folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="imagereward-fuzzing-"))
            )
            service = make_service(self.folder, listen=True)
            training = TrainingService(service, self.folder / "locks")
            training.packages.missing = list  # type: ignore[method-assign]
            training.trainer.start = training._planner.plan = _refused  # type: ignore[method-assign]
            self.app = FastAPI()
            score_routes.add(self.app, service)
            train_routes.add(self.app, service, training)
            self.client = stack.enter_context(TestClient(self.app, raise_server_exceptions=False))
            self.close = stack.pop_all().close
            # By whoever is done: Python waits for the client's thread before it runs what is left for the exit.


def _refused(*_: Any) -> Any:
    raise UsageError("no process is started in this world")


@functools.cache
def world() -> World:
    return World()


def close() -> None:
    """End the server, if there is one."""
    if world.cache_info().currsize:
        world().close()
        world.cache_clear()


def check(case: Case) -> str | None:
    """Hold an answer to what is promised: what was asked for, or one sentence that says why not."""
    response = send(case)
    if response.status_code >= 500 and response.status_code != 503:
        return f"status {response.status_code}: {response.text[:300]}"
    if str(world().folder) in response.text:
        return f"the answer shows a folder: {response.text[:300]}"
    if response.status_code < 400:
        return None
    detail = response.json().get("detail")
    if not isinstance(detail, str) or not detail.strip():
        return f"status {response.status_code} without a sentence: {response.text[:300]}"
    if len(detail) > BOUNDED or visible(detail) != detail:
        return f"the sentence is long, or holds what cannot be printed: {detail[:300]!r}"
    return None


def send(case: Case) -> Any:
    """Send a request as its headers stand: no client makes them right first."""
    content = iter([case.body[place : place + 997] for place in range(0, len(case.body), 997)])
    headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in case.headers]
    return world().client.request(
        case.method, case.path, headers=headers, content=content if case.chunked else case.body
    )


def smaller(case: Case) -> Iterator[Case]:
    yield from (replace(case, headers=headers) for headers in _without_one(case.headers))
    yield from (replace(case, body=body) for body in without_a_part(case.body))
    if case.chunked:
        yield replace(case, chunked=False)


def _without_one(headers: tuple[tuple[str, str], ...]) -> Iterator[tuple[tuple[str, str], ...]]:
    for place in range(len(headers)):
        yield headers[:place] + headers[place + 1 :]
