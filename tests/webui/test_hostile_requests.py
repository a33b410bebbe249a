"""Requests that mean harm: none is an error of the server's, and none keeps another one waiting."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import itertools
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("httpx")

from fastapi import FastAPI, HTTPException
from PIL import Image

from imagereward_ext.errors import UsageError
from imagereward_ext.webui.api import bodies, line, pictures, routes
from imagereward_ext.webui.api.bodies import Budget, read_json
from imagereward_ext.webui.api.multipart import read_fields
from tests.fuzzing import requests, smallest
from tests.hosting import encoded
from tests.tiny import picture

VERSION, SCORE = "/imagereward/v1/version", "/imagereward/v1/score"


@pytest.fixture(scope="module", autouse=True)
def end_of_the_server():
    yield
    requests.close()


@pytest.mark.parametrize("seed", range(3))
def test_every_answer_is_a_sentence(seed):
    for case in itertools.islice(requests.cases(seed), 60):
        if requests.check(case):
            case = smallest(requests, case)
            pytest.fail(f"{requests.check(case)}: {case}")


class Server:
    """An app called as a server calls it, so that requests can stand beside each other and come slowly."""

    def __init__(self, app):
        self.app = app

    async def ask(self, method, path, parts=(), kind="application/json", pause=0.0):
        told = {"body": b""}
        rest = iter(parts)

        async def receive():
            await asyncio.sleep(pause)
            part = next(rest, None)
            return {"type": "http.request", "body": part or b"", "more_body": part is not None}

        async def send(message):
            told["status"] = message.get("status", told.get("status"))
            told["body"] += message.get("body", b"")

        headers = [(b"content-type", kind.encode()), (b"host", b"testserver")]
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"}
        scope |= {"method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        scope |= {"root_path": "", "headers": headers, "client": ("test", 1), "server": ("testserver", 80)}
        await self.app(scope, receive, send)
        return told["status"], told["body"]


@pytest.fixture
def server(service):
    app = FastAPI()
    routes.add(app, service)
    return Server(app)


class Queue:
    """The host's queue, busy until it is told otherwise."""

    def __init__(self):
        self.free = threading.Event()

    def __enter__(self):
        assert self.free.wait(60)

    def __exit__(self, *_):
        pass


def score_body(count=1):
    return b'{"images": ["' + b'", "'.join([encoded(picture()).encode()] * count) + b'"], "prompts": "a"}'


def test_requests_that_wait_for_the_hosts_queue_leave_the_server_its_threads(server, service, monkeypatch):
    queue = Queue()
    monkeypatch.setattr(service.host, "queue", lambda: queue)
    monkeypatch.setattr(line, "MOST_WAITING", 60)

    async def scenario():
        waiting = [asyncio.ensure_future(server.ask("POST", SCORE, [score_body()])) for _ in range(60)]
        await asyncio.sleep(0.5)
        try:
            for path in (VERSION, "/imagereward/v1/models"):  # the second one takes a thread of the server's
                status, _ = await asyncio.wait_for(server.ask("GET", path), 20)
                assert status == 200
            refused = await asyncio.wait_for(server.ask("POST", SCORE, [score_body()]), 20)
        finally:
            queue.free.set()
        return refused, await asyncio.gather(*waiting)

    (status, body), scored = asyncio.run(scenario())
    assert {status for status, _ in scored} == {200}
    assert (status, b"60 requests wait already" in body) == (503, True)


def test_one_request_is_decoded_at_a_time(server, monkeypatch):
    at_work, most = [], []
    decoded = pictures.decoded

    def watched(files):
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.05)
        at_work.pop()
        return decoded(files)

    monkeypatch.setattr(pictures, "decoded", watched)

    async def scenario():
        return await asyncio.gather(*(server.ask("POST", SCORE, [score_body()]) for _ in range(4)))

    assert {status for status, _ in asyncio.run(scenario())} == {200}
    assert most == [1] * 4


HOSTILE = {
    "many small values": lambda: [b'{"images": [', *([b"[]," * 2**18] * 40), b"[]]}"],
    "deep": lambda: [b"[" * 2**20] * 8,
    "base64 without end": lambda: [b'{"images": ["', *([b"A" * 2**20] * 48), b'"], "prompts": "a"}'],
    "many objects": lambda: [b"[", *([b"{}," * 2**18] * 3), b"{}]"],
    "many parts": lambda: [b"\r\n--b0\r\n\r\n" * 2**16] * 16,
    "nearly boundaries": lambda: [b"\r\n--b" * 2**18] * 16,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_request_keeps_another_one_waiting(server, name):
    """Measured as what the process computes between two answers to others: a busy machine stretches the clock."""
    parts = HOSTILE[name]()
    kind = "multipart/form-data; boundary=b0" if "part" in name or "bound" in name else "application/json"

    async def scenario():
        hostile = asyncio.ensure_future(server.ask("POST", SCORE, parts, kind))
        longest = 0.0
        while not hostile.done():
            before = time.process_time()
            status, _ = await server.ask("GET", VERSION)
            assert status == 200
            await asyncio.sleep(0.001)
            longest = max(longest, time.process_time() - before)
        return longest, await hostile

    longest, (status, body) = asyncio.run(scenario())
    assert status == 422, body
    assert longest < 1


def test_a_slow_upload_holds_nobody_and_ends(server, monkeypatch):
    monkeypatch.setattr(bodies, "UPLOAD_SECONDS", 0.5)

    async def scenario():
        slow = asyncio.ensure_future(server.ask("POST", SCORE, [b"{"] * 1000, pause=0.05))
        quick = await server.ask("POST", SCORE, [score_body()])
        return quick, await slow

    (quick, _), (slow, body) = asyncio.run(scenario())
    assert (quick, slow) == (200, 408)
    assert b"to arrive" in body


def test_bodies_are_bounded_one_by_one_and_together_whatever_their_header_says(server, monkeypatch):
    monkeypatch.setattr(routes, "MOST_BYTES", 1000)
    status, body = asyncio.run(server.ask("POST", SCORE, [b"x" * 300] * 4))
    assert (status, b"larger" in body) == (413, True)
    budget = Budget(100)
    with budget.lend() as first:
        first.take(80)
        with budget.lend() as second, pytest.raises(HTTPException) as refused:
            second.take(21)
        assert refused.value.status_code == 503
        assert budget.left == 20
    assert budget.left == 100


def test_what_a_request_took_is_given_back(server):
    def held():
        (route,) = (route for route in server.app.routes if route.path == SCORE)
        (budget,) = (
            cell.cell_contents
            for cell in route.endpoint.__closure__
            if isinstance(cell.cell_contents, Budget)
        )
        return routes.MOST_BYTES_TOGETHER - budget.left

    for parts in ([score_body()], [b"{"], [b"\xff" * 1000]):
        asyncio.run(server.ask("POST", SCORE, parts))
        assert held() == 0


@pytest.mark.parametrize("name", ["a.png", "ä.png", 'a"b.png', "a;name=x.png", "\udcff"])
def test_a_form_is_read_as_clients_write_it(name):
    head = f'Content-Disposition: form-data; name="images"; filename="{name}"\r\nContent-Type: image/png'
    body = b"--x\r\n" + head.encode("utf-8", "surrogateescape") + b"\r\n\r\n\r\n--y\r\n\r\n--x--\r\n"
    ((field, is_file, content),) = read_fields(body, "multipart/form-data; boundary=x", 9)
    assert (field, is_file, content) == ("images", True, b"\r\n--y\r\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": NaN}', "NaN is no finite number"),
        (b'{"a": -Infinity}', "Infinity is no finite number"),
        (b'{"a": 1e400}', "1e400 is no finite number"),
        (b"9" * 5000, "5,000 digits"),
        (b"[" * 20 + b"]" * 20, "at most 16 levels"),
        (b"[" * 10**5, "at most 16 levels"),
        (b"[" + b"0," * 2**20 + b"0]", "1,048,576 values"),
        (b"\xff", "no JSON"),
        (b"", "no JSON"),
    ],
)
def test_json_is_read_strictly(text, says):
    with pytest.raises(UsageError, match=says):
        read_json(text)


def test_json_within_bounds_is_read():
    deep = b"[" * 16 + b"]" * 16
    assert read_json(b'{"a": [1, 0.5, null], "b": "\\u00e4"}') == {"a": [1, 0.5, None], "b": "ä"}
    assert str(read_json(deep)).encode() == deep


@pytest.mark.parametrize(
    ("mode", "format"), [("I;16", "PNG"), ("I;16", "TIFF"), ("CMYK", "JPEG"), ("CMYK", "TIFF")]
)
def test_sixteen_bits_and_printers_colours_are_scored_as_they_look(server, mode, format):
    eight = Image.linear_gradient("L").resize((48, 40))
    image = (
        eight.convert("I").point(lambda level: level * 257).convert("I;16")
        if mode == "I;16"
        else eight.convert(mode)
    )

    def scores(image, format):
        file = io.BytesIO()
        image.save(file, format)
        body = b'{"images": ["%s"], "prompts": "a"}' % base64.b64encode(file.getvalue())
        status, answer = asyncio.run(server.ask("POST", SCORE, [body]))
        assert status == 200, answer
        return read_json(answer)["scores"]

    assert scores(image, format) == pytest.approx(scores(eight, "PNG"), abs=0.05)


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="reads the process's memory as Linux tells it"
)
def test_two_thousand_hostile_requests_leave_the_memory_as_it_was():
    several = requests.cases(9)

    def resident(count):
        for case in itertools.islice(several, count):
            requests.send(case)
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1])

    before = resident(500)
    after = resident(2000)
    assert after < before * 1.02, f"{before} pages before, {after} after"
