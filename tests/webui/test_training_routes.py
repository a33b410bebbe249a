"""`/imagereward/v1/train/…` over a fake host, with real training processes where one is started."""

from __future__ import annotations

import pytest

pytest.importorskip("httpx")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from imagereward_ext.hosts import Checkpoint
from imagereward_ext.jobs import process, runs
from imagereward_ext.webui.refl_tab import routes
from imagereward_ext.webui.refl_tab.training import Training
from tests.webui.services import make_service

BODY = {
    "name": "run",
    "prompt_source": "typed below",
    "prompt_text": "a cat\na dog",
    "scorers": "tiny",
    "compare": 0,
    "updates": 500,
}


@pytest.fixture
def world(tmp_path, monkeypatch):
    start = process._START.replace("sys.exit(", "import tests.jobs.stand_in; sys.exit(")
    monkeypatch.setattr(process, "_START", start)
    service = make_service(tmp_path)
    (tmp_path / "model.safetensors").touch()
    service.host.checkpoint = lambda: Checkpoint(tmp_path / "model.safetensors")
    service.host.make_room = lambda: None
    training = Training(service, tmp_path / "locks")
    monkeypatch.setattr(training, "missing_packages", list)
    yield service, training
    for run in training.trainer.runs():
        if run.pid:
            process.kill(run.pid)
    assert training.trainer.wait(30)


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

    deadline = time.monotonic() + 60
    while (now := state(client)) not in states:
        assert time.monotonic() < deadline, now
        time.sleep(0.05)
    return now


def test_start_watch_stop_resume_report_and_delete(client, world):
    assert client.get("/imagereward/v1/train/runs").json() == {"runs": []}
    assert call(client, "start", **BODY).json()["name"] == "run"
    until(client, runs.RUNNING)
    again = call(client, "start", **BODY)
    assert again.status_code == 422
    assert "exists already and is running" in again.json()["detail"]
    assert call(client, "delete", name="run").status_code == 422
    assert call(client, "stop", name="run").json()["state"] == runs.STOPPING
    until(client, runs.STOPPED)
    assert world[1].trainer.wait(30)
    assert call(client, "resume", name="run").status_code == 200
    until(client, runs.RUNNING)
    call(client, "stop", name="run", now=True)
    until(client, runs.KILLED)
    assert world[1].trainer.wait(30)
    report = client.get("/imagereward/v1/train/report", params={"run": "run"})
    assert report.status_code == 422
    assert "no before/after report" in report.json()["detail"]
    assert call(client, "delete", name="run").json()["state"] == "deleted"
    assert client.get("/imagereward/v1/train/runs").json() == {"runs": []}


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
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert client.post(url, content=b'{"name": "run"}', headers={"content-type": kind}).status_code == 415
    assert client.post(url, content=b"{", headers={"content-type": "application/json"}).status_code == 422
    assert client.post(url, content=b"[]", headers={"content-type": "application/json"}).status_code == 422


def test_credentials_are_the_webuis_and_the_tab_has_its_token(world):
    service, training = world
    service.host.flags["api_auth"] = "me:secret"
    client = make_client(service, training)
    url = "/imagereward/v1/train/runs"
    assert client.get(url).status_code == 401
    assert client.get(url, auth=("me", "wrong")).status_code == 401
    assert client.get(url, auth=("me", "secret")).status_code == 200
    assert client.get(url, headers={"x-imagereward-token": training.token}).status_code == 200
    assert client.get(url, headers={"x-imagereward-token": ""}).status_code == 401
    assert client.get(url, headers={"x-imagereward-token": training.token[:-1]}).status_code == 401
    assert call(client, "stop", name="run").status_code == 401


def test_no_answer_shows_a_path_to_people_from_elsewhere(world, tmp_path):
    service, training = world
    service.host.flags["listen"] = True
    client = make_client(service, training)
    call(client, "start", **{**BODY, "updates": 1})
    until(client, runs.FINISHED)
    for route in ("status", "runs"):
        text = client.get(f"/imagereward/v1/train/{route}").text
        assert str(tmp_path) not in text
        assert "pid" not in text or '"pid":null' in text
