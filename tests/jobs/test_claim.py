"""A training of the command line beside those of the WebUI."""

from __future__ import annotations

import shutil
import tempfile

import pytest

from imagereward_ext.cli import main
from imagereward_ext.cli import train as command
from imagereward_ext.jobs import runs
from imagereward_ext.jobs.claim import run_and_device
from imagereward_ext.jobs.order import JobError
from imagereward_ext.jobs.process import device_lock, environment
from imagereward_ext.training.lock import Lock, holder
from imagereward_ext.training.record import RunRecord, State
from tests.refl.world import load_taste, tiny_config


@pytest.fixture(autouse=True)
def _own_locks(monkeypatch, tmp_path):
    """Not those of a developer who is training something."""
    (tmp_path / "temporary").mkdir()
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
    assert (state, owner["name"]) == ("running", "run")
    assert holder(device_lock("cpu")) is None
    assert runs.read_run(tmp_path / "runs/run").state == "finished"


def test_a_run_goes_on_whatever_an_earlier_start_said_of_its_end(tmp_path, trained):
    assert trained()[0] == 0
    record = RunRecord(tmp_path / "runs/run")
    record.give_up(State.STOPPED, "stopped in the WebUI")
    assert trained()[0] != 0, "the run exists already"
    assert record.read().reason == "stopped in the WebUI"
    assert trained("--resume", "--name", "run", "--updates", "2")[0] == 0
    assert runs.read_run(tmp_path / "runs/run").state == "finished"


def test_a_start_after_one_that_was_killed_early_is_a_start_of_its_own(tmp_path, trained):
    assert trained()[0] == 0
    record = RunRecord(tmp_path / "runs/run")
    record.begin()  # and then its process was killed, by somebody who had asked it to stop before
    record.stop.ask()
    assert trained("--resume", "--name", "run", "--updates", "2")[0] == 0
    assert (record.read().state, record.read().start) == (State.FINISHED, 3)


def test_a_start_that_fails_says_so_in_the_record(tmp_path, trained, monkeypatch):
    assert trained()[0] == 0
    monkeypatch.setattr(command, "_loader", lambda *arguments: lambda name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained("--resume", "--name", "run", "--updates", "2")
    run = runs.read_run(tmp_path / "runs/run")
    assert (run.state, run.reason) == ("failed", "ZeroDivisionError: division by zero")
    assert run.lora == "run-000001", "what the earlier start made is still there"


def test_a_refused_resume_takes_nothing_from_the_run_at_work(tmp_path, trained):
    assert trained()[0] == 0
    record = RunRecord(tmp_path / "runs/run")
    with run_and_device(record.folder, None):
        record.stop.ask()
        before = record.journal.read()
        code, said = trained("--resume", "--name", "run", "--updates", "2")
    assert code != 0
    assert "is at work already (run, process " in said
    assert record.stop.asked(), "somebody has asked it to end"
    assert record.journal.read() == before


def test_a_run_at_work_is_not_begun_again(tmp_path):
    with (
        run_and_device(tmp_path / "run", None),
        pytest.raises(JobError, match="at work already"),
        run_and_device(tmp_path / "run", None),
    ):
        pytest.fail("both hold the run")  # pragma: no cover


def test_a_run_whose_folder_is_removed_ends_with_its_own_error(tmp_path):
    with pytest.raises(ZeroDivisionError), run_and_device(tmp_path / "run", None):
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
