"""A training of the command line beside those of the WebUI."""

from __future__ import annotations

import json
import shutil
import tempfile

import pytest

from imagereward_ext.cli import main
from imagereward_ext.cli import train as command
from imagereward_ext.jobs import runs
from imagereward_ext.jobs.alone import alone
from imagereward_ext.jobs.order import JobError
from imagereward_ext.jobs.process import device_lock, environment
from imagereward_ext.training.lock import Lock, holder
from tests.refl.world import load_taste, tiny_config


@pytest.fixture(autouse=True)
def _own_locks(monkeypatch, tmp_path):
    """Not those of a developer who is training something."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(command, "_loader", lambda *arguments: load_taste)


@pytest.fixture
def trained(tmp_path, capsys):
    """Train on the command line; gives the exit code and what it said."""

    def run(*more):
        config = tiny_config(tmp_path, updates=1)
        (tmp_path / "config.json").write_text(config.to_json())
        code = main(["train", "--config", str(tmp_path / "config.json"), "--cpu", *more])
        return code, capsys.readouterr().err

    return run


def test_a_training_does_not_begin_where_one_of_the_webui_uses_the_device(tmp_path, trained):
    webui = Lock(device_lock("cpu"))
    assert webui.take({"name": "nicer"})
    code, said = trained()
    assert code != 0
    assert "another training uses this device (cpu)" in said
    assert "(nicer, process " in said
    assert not (tmp_path / "runs").exists(), "a refused run leaves nothing behind"
    assert trained("--share-device")[0] == 0
    webui.release()


def test_the_webui_sees_it_at_work_and_how_it_ended(tmp_path, trained, monkeypatch):
    seen = []

    class Log(command.TrainingLog):
        def __call__(self, event):
            super().__call__(event)
            if event["kind"] == "update":
                seen.append((runs.read_run(tmp_path / "runs/run").state, holder(device_lock("cpu"))))

    monkeypatch.setattr(command, "TrainingLog", Log)
    assert trained()[0] == 0
    [(state, owner)] = seen
    assert (state, owner["name"]) == (runs.RUNNING, "run")
    assert holder(device_lock("cpu")) is None
    assert runs.read_run(tmp_path / "runs/run").state == runs.FINISHED


def test_what_an_earlier_start_in_the_webui_said_of_its_end_is_over(tmp_path, trained):
    assert trained()[0] == 0
    outcome = tmp_path / "runs/run/outcome.json"
    outcome.write_text(json.dumps({"ending": "asked", "reason": "stopped"}))
    assert trained()[0] != 0, "the run exists already"
    assert outcome.exists()
    assert trained("--resume", "--name", "run", "--updates", "2")[0] == 0
    assert runs.read_run(tmp_path / "runs/run").state == runs.FINISHED


def test_a_refused_resume_takes_nothing_from_the_run_at_work(tmp_path, trained):
    assert trained()[0] == 0
    stop, outcome = tmp_path / "runs/run/stop", tmp_path / "runs/run/outcome.json"
    with alone(tmp_path / "runs/run", None):
        stop.touch()
        outcome.touch()
        code, said = trained("--resume", "--name", "run", "--updates", "2")
    assert code != 0
    assert "is at work already (run, process " in said
    assert stop.exists(), "somebody has asked it to end"
    assert outcome.exists()


def test_a_run_at_work_is_not_begun_again(tmp_path):
    with (
        alone(tmp_path / "run", None),
        pytest.raises(JobError, match="at work already"),
        alone(tmp_path / "run", None),
    ):
        pytest.fail("both hold the run")  # pragma: no cover


def test_a_run_whose_folder_is_removed_ends_with_its_own_error(tmp_path):
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "run", None):
        shutil.rmtree(tmp_path / "run")
        _ = 1 / 0


def test_one_device_has_one_lock_whatever_it_is_called(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 1")
    second = device_lock("cuda:1", tmp_path)
    assert environment("cuda:1")["CUDA_VISIBLE_DEVICES"] == "1"
    only = device_lock("cuda", tmp_path)  # accelerate's word for it in a lone process
    assert environment("cuda")["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert device_lock("cuda:1", tmp_path) == second != device_lock("cuda:0", tmp_path)
    assert device_lock("cuda:3", tmp_path) == only
    assert device_lock("cuda", tmp_path) == device_lock("cuda:0", tmp_path)
    assert device_lock("cpu:0", tmp_path) == device_lock(
        "cpu", tmp_path
    )  # so it is called in several processes
