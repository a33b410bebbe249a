"""`/imagereward/v1/train/…` over a fake host, with real training processes where one is started."""

from __future__ import annotations

import errno
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("httpx")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from imagereward_ext.hosts import Checkpoint
from imagereward_ext.jobs import order as order_module
from imagereward_ext.jobs import process
from imagereward_ext.jobs.order import Order
from imagereward_ext.webui.refl_tab import desktop, form, routes
from imagereward_ext.webui.refl_tab.training import TrainingService

PATIENCE = 240  # seconds; on a busy machine a process alone takes some to start
BODY = {
    "name": "run",
    "prompt_source": "typed below",
    "prompt_text": "a cat\na dog",
    "scorers": "tiny",
    "compare": 0,
    "updates": 100_000,
}


@pytest.fixture
def world(service, tmp_path, monkeypatch):
    start = process._START.replace("sys.exit(", "import tests.jobs.stand_in; sys.exit(")
    monkeypatch.setattr(process, "_START", start)
    (tmp_path / "model.safetensors").touch()
    service.host.checkpoints.loaded = Checkpoint(tmp_path / "model.safetensors")
    service.host.checkpoints.make_room = lambda: None
    training = TrainingService(service, tmp_path / "locks")
    monkeypatch.setattr(training.packages, "missing", list)
    yield service, training
    for run in training.trainer.runs.list():
        if run.pid:
            process.kill(run.pid)
    assert training.trainer.queue.wait(PATIENCE)


@pytest.fixture
def client(world):
    return make_client(*world)


def make_client(service, training):
    app = FastAPI()
    routes.add(app, service, training)
    routes.add(app, service, training)  # the host's "Reload UI" asks again
    return TestClient(app)


def call(client, route, **body):
    return client.post(f"/imagereward/v1/train/{route}", json=body)


def state(client, name="run"):
    return client.get("/imagereward/v1/train/status", params={"run": name}).json()["run"]["state"]


def until(client, *states):
    import time

    deadline = time.monotonic() + PATIENCE
    while (now := state(client)) not in states:
        assert time.monotonic() < deadline, now
        time.sleep(0.05)
    return now


def test_start_watch_stop_resume_report_and_delete(client, world):
    assert client.get("/imagereward/v1/train/runs").json() == {"runs": []}
    assert call(client, "start", **BODY).json()["name"] == "run"
    until(client, "running")
    again = call(client, "start", **BODY)
    assert again.status_code == 422
    assert "exists already and is running" in again.json()["detail"]
    assert call(client, "delete", name="run").status_code == 422
    assert call(client, "stop", name="run").json()["state"] in ("stopping", "stopped")
    until(client, "stopped")
    assert world[1].trainer.queue.wait(PATIENCE)
    assert call(client, "resume", name="run").status_code == 200
    until(client, "running")
    call(client, "stop", name="run", now=True)
    until(client, "killed")
    assert world[1].trainer.queue.wait(PATIENCE)
    report = client.get("/imagereward/v1/train/report", params={"run": "run"})
    assert report.status_code == 422
    assert "no before/after report" in report.json()["detail"]
    assert call(client, "delete", name="run").json()["state"] == "deleted"
    assert client.get("/imagereward/v1/train/runs").json() == {"runs": []}


def test_the_schema_says_what_every_route_does_and_takes(client):
    paths = client.get("/openapi.json").json()["paths"]
    operations = {path.rsplit("/", 1)[1]: next(iter(way.values())) for path, way in paths.items()}
    assert set(operations) == {
        *"status runs report picture plan start stop resume compare delete folder".split()
    }
    assert len({operation["description"] for operation in operations.values()}) == len(operations)
    assert [p["name"] for p in operations["picture"]["parameters"] if p["required"]] == ["run", "file"]
    schema = operations["start"]["requestBody"]["content"]["application/json"]["schema"]
    assert (list(schema["properties"]), schema["required"]) == (list(form.fields()), ["name"])
    assert schema["properties"]["strength"]["enum"] == list(form.STRENGTHS)
    documented = {name: field["default"] for name, field in schema["properties"].items()}
    assert call(client, "plan", **documented).json()["detail"] == call(client, "plan").json()["detail"]


def test_bad_input_is_422_with_one_line(client):
    for body, words in (
        ({"rank": 0, "name": "x"}, "between 1 and 1024"),
        ({**BODY, "output": "/tmp"}, "no field 'output'"),
        ({**BODY, "name": "../x"}, "cannot be the name"),
        ({**BODY, "checkpoint": "/etc/passwd"}, "no checkpoint"),
    ):
        answer = call(client, "start", **body)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
    for route in ("stop", "resume", "compare", "delete"):
        assert "there is no run" in call(client, route, name="../x").json()["detail"]
    answer = client.get("/imagereward/v1/train/picture", params={"run": "..", "file": "x.png"})
    assert answer.status_code == 422


def test_a_foreign_page_cannot_start_anything(client):
    url = "/imagereward/v1/train/start"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        assert client.post(url, content=b'{"name": "run"}', headers={"content-type": kind}).status_code == 415
    assert client.post(url, content=b"{", headers={"content-type": "application/json"}).status_code == 422
    for route in "plan start stop resume compare delete folder".split():
        url = f"/imagereward/v1/train/{route}"
        assert client.post(url, json=BODY, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post(url, content=b"[]", headers={"content-type": "application/json"}).status_code == 422


def test_credentials_are_the_webuis_and_nothing_in_the_page_stands_for_them(world):
    """Without a login everybody sees the page, and `/config` tells all that is in it."""
    gradio = pytest.importorskip("gradio")
    from imagereward_ext.webui.refl_tab import tab

    service, training = world
    service.host.flags["api_auth"] = "me:secret"
    client = gradio_client(gradio, tab.build(service, training), service, training)
    url = "/imagereward/v1/train/runs"
    page = client.get("/config").text
    assert "imagereward-refl" in page
    for word in {"", *re.findall(r"[\w-]{20,}", page)}:
        with_it = {"headers": {"x-imagereward-token": word}, "params": {"token": word}}
        assert client.get(url, **with_it, auth=("me", word)).status_code == 401
    told = client.get(url)
    assert (told.status_code, told.headers["www-authenticate"]) == (401, "Basic")  # so the browser asks
    assert client.get(url, auth=("me", "secret")).status_code == 200
    assert call(client, "stop", name="run").status_code == 401


@pytest.mark.parametrize("flag", ["gradio_auth", "gradio_auth_path"])
def test_where_the_page_asks_for_a_login_only_the_page_is_admitted(world, flag):
    """The WebUI's own API is not there without --api; these routes are."""
    gradio = pytest.importorskip("gradio")
    service, training = world
    service.host.flags[flag] = "me:secret"
    with gradio.Blocks() as page:
        gradio.Textbox()
    page.auth = [("me", "secret")]
    client = gradio_client(gradio, page, service, training)
    url = "/imagereward/v1/train/runs"
    assert client.get(url).status_code == 401
    assert client.get(url, auth=("me", "secret")).status_code == 401
    assert call(client, "delete", name="run").status_code == 401
    assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
    assert client.get(url).status_code == 401
    assert client.post("/login", data={"username": "me", "password": "secret"}).status_code == 200
    assert client.get(url).status_code == 200
    assert client.get(url, headers={"origin": "http://elsewhere"}).status_code == 403
    client.cookies.clear()
    assert client.get(url).status_code == 401


def gradio_client(gradio, page, service, training):
    app = gradio.routes.App.create_app(page)
    routes.add(app, service, training)
    return TestClient(app)


def test_no_answer_shows_a_path_to_people_from_elsewhere(world, tmp_path):
    service, training = world
    service.host.flags["listen"] = True
    client = make_client(service, training)
    call(client, "start", **{**BODY, "updates": 1})
    until(client, "finished")
    for route in ("status", "runs"):
        text = client.get(f"/imagereward/v1/train/{route}").text
        assert str(tmp_path) not in text
        assert "pid" not in text or '"pid":null' in text


@pytest.fixture
def file_manager(tmp_path, monkeypatch):
    """A program in the desktop's place that keeps what it was asked to show."""
    program, shown = tmp_path / "bin" / desktop.PROGRAM, tmp_path / "shown.txt"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > "{shown}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return shown


@pytest.mark.skipif(sys.platform == "win32", reason="the file manager is the system's own there")
def test_a_runs_folder_opens_on_this_machine_and_only_for_it(world, client, file_manager, monkeypatch):
    service, training = world
    Order({"name": "run", "output": str(training.trainer.runs.folder)}).write()
    assert client.get("/imagereward/v1/train/status").json()["folders"] is True
    assert call(client, "folder", name="run").json() == {"name": "run", "state": "open"}
    assert file_manager.read_text() == str(training.trainer.runs.folder / "run")
    assert "there is no run" in call(client, "folder", name="..").json()["detail"]
    monkeypatch.setenv("PATH", "")
    assert "no file manager" in call(client, "folder", name="run").json()["detail"]
    file_manager.unlink()
    for flag, value in (
        ("listen", True),
        ("share", True),
        ("server_name", "0.0.0.0"),
        ("hide_ui_dir_config", True),
    ):
        service.host.flags = {flag: value}
        refused = call(client, "folder", name="run")
        assert refused.status_code == 422
        assert "for this machine alone" in refused.json()["detail"]
        assert client.get("/imagereward/v1/train/status").json()["folders"] is False
    assert not file_manager.exists()


def test_start_pressed_twice_at_once_starts_one_run(client, world):
    with ThreadPoolExecutor(4) as presses:
        answers = list(presses.map(lambda _: call(client, "start", **BODY), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 422, 422, 422]
    until(client, "running")
    assert [run["name"] for run in client.get("/imagereward/v1/train/runs").json()["runs"]] == ["run"]
    call(client, "stop", name="run")
    assert until(client, "stopped")
    assert world[1].trainer.runs.run("run").starts == 1


def test_a_checkpoint_deleted_meanwhile_and_a_prompt_file_of_garbage_are_one_line(client, world, tmp_path):
    folder = tmp_path / "models" / "ImageReward" / "prompts"
    folder.mkdir()
    (folder / "garbage.txt").write_bytes(bytes(range(128, 256)))
    told = call(client, "start", **{**BODY, "prompt_source": "from a file", "prompt_file": "garbage.txt"})
    assert (told.status_code, told.json()["detail"][:25]) == (422, "garbage.txt is not UTF-8 ")
    (tmp_path / "model.safetensors").unlink()
    told = call(client, "start", **BODY)
    assert told.status_code == 422
    assert "model.safetensors is not there any more" in told.json()["detail"]
    assert client.get("/imagereward/v1/train/runs").json() == {"runs": []}


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "No space left on device"), (errno.EACCES, "Permission denied")]
)
def test_no_space_and_no_permission_are_one_line_and_start_nothing(client, world, monkeypatch, number, words):
    def fails(target, content):
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr(order_module, "write_text", fails)
    told = call(client, "start", **BODY)
    assert told.status_code == 422
    assert told.json()["detail"] == f"the run folder run cannot be written: {words}"
    monkeypatch.undo()
    assert world[1].trainer.queue.busy() is None
    assert client.get("/imagereward/v1/train/runs").json() == {"runs": []}


def test_what_is_no_number_or_nested_without_end_is_no_error_of_the_server(client):
    for starts in ("²", "--5", "9" * 5000, "x", "-1"):
        answer = client.get("/imagereward/v1/train/status", params={"starts": starts, "position": starts})
        assert answer.status_code == 200
    bodies = (
        *(b"[" * 100_000, b'{"rank": NaN}', b'{"rank": 1e999}', b'{"rank": %s}' % (b"9" * 5000)),
        *(b'{"rank": 1, "rank": 2}', b'{"name": %s}' % (b"[" * 500 + b"]" * 500), b'{"\\ud800": 1}', b"\xff"),
    )
    for content in bodies:
        told = client.post(
            "/imagereward/v1/train/plan", content=content, headers={"content-type": "application/json"}
        )
        assert told.status_code == 422, content[:40]
        assert told.json()["detail"]
    assert "fields must be an object" in call(client, "compare", name="run", fields=[1]).json()["detail"]


def test_events_that_are_none_are_passed_over(client, world):
    _, training = world
    order = Order({"name": "run", "output": str(training.trainer.runs.folder), "updates": 3})
    order.write()
    (order.folder / "events.jsonl").write_text(
        '[1]\n{"kind": "check", "step": 1, "reward": 0.5}\n' + "[" * 100_000
    )
    told = client.get("/imagereward/v1/train/status", params={"run": "run"}).json()
    assert [event["reward"] for event in told["events"]] == [0.5]
    assert told["run"]["state"] == "killed"
