"""The trainer with real processes in which a stand-in takes the engine's place."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from imagereward_ext.jobs import interruption, process, runs, stopping
from imagereward_ext.jobs.order import JobError, Order, read_order
from imagereward_ext.jobs.trainer import Trainer
from imagereward_ext.training.lock import Lock, holder
from imagereward_ext.training.record import RecordError, RunRecord

ROOT = process.ROOT
PATIENCE = 240.0  # seconds; on a busy machine a process alone takes some to start


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch):
    _use_the_stand_in(monkeypatch)


def _use_the_stand_in(monkeypatch):
    start = process._START.replace("sys.exit(", "import tests.jobs.stand_in; sys.exit(")
    monkeypatch.setattr(process, "_START", start)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    for run in world.trainer.runs.list():
        if run.pid:
            process.kill(run.pid)
    world.trainer.queue.wait(PATIENCE)


class World:
    def __init__(self, folder):
        self.folder = folder
        self.calls = []
        self.trainer = self.new_trainer()

    def new_trainer(self):
        return Trainer(
            self.folder / "runs",
            lambda order: self.calls.append(("before", order.name)),
            lambda order: self.calls.append(("after", order.name)),
            self.folder / "locks",
        )

    def order(self, name="run", **config):
        settings = {"name": name, "output": str(self.folder / "runs"), "updates": 3}
        more = {key: config.pop(key) for key in ("survive", "device") if key in config}
        return Order({**settings, **config}, **more)

    def until(self, name, *states, step=0, trainer=None):
        deadline = time.monotonic() + PATIENCE
        while True:
            run = (trainer or self.trainer).runs.run(name)
            if run.state in states and run.step >= step:
                return run
            assert time.monotonic() < deadline, f"{run} is not {states}\n{self.log(name)}"
            time.sleep(0.02)

    def go(self, name="run"):
        """Let a run go on that waits with `hold_after`."""
        (self.folder / "runs" / name / "go").touch()

    def log(self, name):
        return runs.log_tail(self.folder / "runs" / name, 50)


def test_a_run_goes_from_start_to_lora_and_room_is_made_around_it(world):
    run = world.trainer.start(world.order())
    assert run.state in ("waiting", "starting")
    assert world.trainer.queue.busy().name == "run" if world.trainer.queue.busy() else run.state == "waiting"
    end = world.until("run", "finished")
    assert world.trainer.queue.wait(PATIENCE)
    assert (end.step, end.updates, end.lora) == (3, 3, "run-000003")
    assert world.calls == [("before", "run"), ("after", "run")]
    assert world.trainer.queue.busy() is None
    assert "update 3: reward 0.300" in world.log("run")


def test_it_is_a_child_in_a_group_of_its_own_that_holds_its_locks(world):
    world.trainer.start(world.order(updates=1000, hold_after=1))
    run = world.until("run", "running", step=1)
    assert os.getpgid(run.pid) == run.pid != os.getpgid(0)
    assert holder(process.device_lock("auto", world.folder / "locks"))["pid"] == run.pid
    world.trainer.stop("run", now=True)
    assert world.until("run", "killed").reason == "ended without waiting for its update, as asked"


def test_stop_ends_within_one_update_and_resume_goes_on(world):
    world.trainer.start(world.order(updates=8, hold_after=3))
    world.until("run", "running", step=2)
    asked_at = world.trainer.stop("run").step
    stopped = world.until("run", "stopped")
    assert asked_at <= stopped.step <= asked_at + 1
    assert stopped.resumable
    world.trainer.queue.wait(PATIENCE)
    world.trainer.resume("run")
    end = world.until("run", "finished")
    assert (end.step, end.starts) == (8, 2)
    steps = [
        e["step"] for e in runs.read_events(world.folder / "runs/run", 0).objects if e["kind"] == "update"
    ]
    assert steps == list(range(1, 9)), "the resumed run goes on where the first one stopped"


def test_a_generation_waits_for_a_process_that_only_has_to_end(world):
    world.trainer.start(world.order(updates=4, hold_after=2, ending=5.0))
    world.until("run", "running")
    assert world.trainer.queue.busy_for_long().name == "run", "a training that goes on is not waited for"
    world.go()
    world.until("run", "finished", "comparing")
    assert world.trainer.queue.busy() is not None, "the process is still there"
    assert world.trainer.queue.busy_for_long() is None


def test_comparing_again_is_seen_from_its_order_to_the_end_of_its_process(world):
    world.trainer.start(world.order(updates=1, comparing=1.0))
    world.until("run", "finished")
    assert world.trainer.queue.wait(PATIENCE)
    seen, deadline = [world.trainer.compare("run", ["a cat", "a dog"], 2).state], time.monotonic() + PATIENCE
    while seen[-1] != "finished":
        assert time.monotonic() < deadline
        seen.append(world.trainer.runs.run("run").state)
    assert set(seen[:-1]) <= {"waiting", "comparing"}
    assert world.trainer.queue.busy_for_long() is None, "whoever sees that it has finished may generate"
    assert (world.folder / "runs/run/compared").exists()


def test_stop_while_it_still_loads_ends_it_too(world):
    world.trainer.start(world.order(loading=2 * PATIENCE))
    world.until("run", "starting")
    world.trainer.stop("run")
    stopped = world.until("run", "stopped")
    assert "before the first update" in stopped.reason


def test_stop_while_its_process_starts_is_no_end_without_a_word(world, monkeypatch):
    """On a busy machine Python alone takes longer to start than the request gets before the signal."""
    monkeypatch.setattr(stopping, "SECONDS_BEFORE_THE_SIGNAL", 0)
    monkeypatch.setattr(process, "_START", "import time; time.sleep(1.5); " + process._START)
    world.trainer.start(world.order())
    appear(world, "run/log.txt")
    world.trainer.stop("run")
    stopped = world.until("run", "stopped", "killed", "finished")
    assert (stopped.state, stopped.reason) == ("stopped", "stopped before the first update")


def test_a_signal_after_the_last_update_does_not_keep_the_ending_from_being_written(world):
    """Stop is a file first and a signal two seconds later: the engine may have answered the file by then."""
    world.trainer.start(world.order(signal_late=True))
    end = world.until("run", "finished", "stopped", "killed")
    assert (end.state, end.lora) == ("finished", "run-000003"), world.log("run")


def test_stop_pressed_while_room_is_made_starts_nothing(world):
    room = threading.Event()
    trainer = Trainer(
        world.folder / "runs", lambda order: room.wait(PATIENCE), lambda order: None, world.folder / "locks"
    )
    trainer.start(world.order())
    world.until("run", "starting", trainer=trainer)
    trainer.stop("run")
    room.set()
    stopped = world.until("run", "stopped", trainer=trainer)
    assert stopped.reason == "stopped before the first update"
    assert trainer.queue.wait(PATIENCE)
    assert not (world.folder / "runs/run/log.txt").exists(), "no process was started"


def test_stop_pressed_while_a_resumed_run_begins_is_not_lost(world):
    """It begins where an earlier start was stopped: that request is over, and this one is not."""
    world.trainer.start(world.order(updates=8, hold_after=3))
    world.until("run", "running", step=2)
    world.trainer.stop("run")
    world.until("run", "stopped")
    assert world.trainer.queue.wait(PATIENCE)
    order = read_order(world.folder / "runs/run")
    replace(order, config={**order.config, "updates": 100_000, "loading": 1.0}).write()
    world.trainer.resume("run")
    world.until("run", "starting")
    assert world.trainer.stop("run").state == "stopping"
    stopped = world.until("run", "stopped", "finished")
    assert (stopped.state, stopped.starts) == ("stopped", 2)


def test_whoever_sees_a_stop_through_leaves_a_run_alone_that_was_resumed_since(world, monkeypatch):
    """Until the new process has its lock, the number of the old one stands there."""
    monkeypatch.setattr(stopping, "SECONDS_BEFORE_THE_SIGNAL", 0)
    world.trainer.start(world.order(updates=100_000))
    run = world.until("run", "running", step=1)
    record = world.trainer.runs.record("run")
    stopping.see_through(record, start=run.starts - 1)
    assert not record.stop.asked()
    assert world.trainer.runs.run("run").state == "running"
    world.trainer.stop("run", now=True)
    world.until("run", "killed")


def test_a_run_whose_start_cannot_be_written_waits_for_a_person(world, monkeypatch):
    """With a full disk the worker must neither start it nor try for ever."""
    failed = []

    def full(record, **how):
        failed.append(record.folder.name)
        raise RecordError("the record of the run run cannot be written: No space left on device")

    monkeypatch.setattr(RunRecord, "begin", full)
    world.trainer.start(world.order())
    assert world.trainer.queue.wait(PATIENCE)
    assert failed == ["run"]
    assert world.trainer.runs.run("run").state == "waiting"
    assert world.trainer.queue.busy() is None
    monkeypatch.undo()
    _use_the_stand_in(monkeypatch)
    world.trainer.resume("run")
    world.until("run", "finished")


def test_a_run_that_cannot_be_locked_waits_for_a_person(world, monkeypatch):
    tried = []

    def full(lock, about, **how):
        tried.append(lock.path.name)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Lock, "take", full)
    world.trainer.start(world.order())
    assert world.trainer.queue.wait(PATIENCE)
    assert tried == ["queue.lock"], "and does not try for ever"
    assert world.trainer.runs.run("run").state == "waiting"
    monkeypatch.undo()
    _use_the_stand_in(monkeypatch)
    world.trainer.resume("run")
    world.until("run", "finished")


def test_a_run_that_cannot_be_put_into_the_queue_leaves_nothing(world, monkeypatch):
    def full(record, **how):
        raise RecordError("the record of the run run cannot be written: No space left on device")

    monkeypatch.setattr(RunRecord, "wait", full)
    with pytest.raises(RecordError):
        world.trainer.start(world.order(), {"prompts.json": "[]"})
    assert world.trainer.runs.list() == []
    assert not (world.folder / "runs/run").exists()


def test_ending_it_now_is_no_race_with_the_run_that_ends_by_itself(world, monkeypatch):
    give_up = RunRecord.give_up

    def slowly(*arguments):  # as on a busy disk: the run would find a request to stop meanwhile
        give_up(*arguments)
        time.sleep(1)

    world.trainer.start(world.order(updates=100_000))
    world.until("run", "running", step=1)
    monkeypatch.setattr(RunRecord, "give_up", slowly)
    world.trainer.stop("run", now=True)
    assert world.until("run", "killed", "stopped").state == "killed"


def test_stopping_an_update_that_is_stuck_comes_to_an_end_and_the_state_before_it_resumes(world, monkeypatch):
    monkeypatch.setattr(stopping, "SECONDS_BEFORE_THE_SIGNAL", 0.1)
    monkeypatch.setattr(stopping, "SECONDS_AFTER_THE_SIGNAL", 1.0)
    world.trainer.start(world.order(updates=4, stuck_after=2))
    appear(world, "run/stuck")
    assert world.trainer.stop("run").state == "stopping"
    killed = world.until("run", "killed")
    assert killed.reason == "it did not answer for 1 seconds and was ended"
    assert (killed.step, killed.resumable) == (2, True)
    assert world.trainer.queue.wait(PATIENCE)
    assert world.calls[-1] == ("after", "run")
    world.trainer.resume("run")
    assert world.until("run", "finished").step == 4


def test_a_slow_update_is_waited_for(world, monkeypatch):
    monkeypatch.setattr(stopping, "SECONDS_BEFORE_THE_SIGNAL", 0.1)
    monkeypatch.setattr(stopping, "SECONDS_AFTER_THE_SIGNAL", 0.1)
    monkeypatch.setattr(stopping, "UPDATES_AFTER_THE_SIGNAL", 1000)  # of 0.05 s, the stand-in says
    world.trainer.start(world.order(updates=100, seconds=1.5))
    world.until("run", "running", step=1)
    world.trainer.stop("run")
    stopped = world.until("run", "stopped", "killed")
    assert stopped.state == "stopped"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_run_is_told_cleaned_up_and_resumed(world, how):
    world.trainer.start(world.order(updates=6, hold_after=3))
    run = world.until("run", "running", step=2)
    os.kill(run.pid, how)
    killed = world.until("run", "killed")
    assert killed.resumable
    assert f"signal {int(how)}" in killed.reason
    assert world.trainer.queue.wait(PATIENCE)
    assert world.calls[-1] == ("after", "run"), "the checkpoint comes back after a kill"
    world.trainer.resume("run")
    assert world.until("run", "finished").step == 6


def test_an_error_of_the_engine_is_shown_as_it_is(world):
    world.trainer.start(world.order(fails=True))
    failed = world.until("run", "failed")
    assert failed.reason == "the checkpoint model.safetensors does not exist"
    assert not failed.resumable
    world.trainer.queue.wait(PATIENCE)
    assert world.calls == [("before", "run"), ("after", "run")]


def test_an_error_while_room_is_made_ends_the_run_before_it_starts(world):
    def no_room(order):
        raise RuntimeError("the WebUI would not let go")

    trainer = Trainer(
        world.folder / "runs", no_room, lambda o: world.calls.append("after"), world.folder / "locks"
    )
    trainer.start(world.order())
    failed = world.until("run", "failed", trainer=trainer)
    assert failed.reason == "the WebUI would not let go"
    assert trainer.queue.wait(PATIENCE)
    assert world.calls == ["after"]


def test_start_pressed_twice_starts_once(world):
    world.trainer.start(world.order(updates=5, hold_after=1))
    with pytest.raises(JobError, match=r"'run' exists already and is (waiting|starting|running)"):
        world.trainer.start(world.order(updates=5))
    world.go()
    assert world.until("run", "finished").starts == 1


def test_start_pressed_at_the_same_moment_starts_once(world):
    refused = []

    def press():
        try:
            world.trainer.start(world.order(updates=2))
        except JobError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=press) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7
    assert world.until("run", "finished").starts == 1
    world.trainer.queue.wait(PATIENCE)
    assert world.calls == [("before", "run"), ("after", "run")]


def test_runs_wait_in_a_queue_and_can_be_taken_out(world):
    world.trainer.start(world.order("first", updates=20, hold_after=1))
    world.until("first", "running")
    world.trainer.start(world.order("second"))
    world.trainer.start(world.order("third"))
    assert [world.trainer.runs.run(name).state for name in ("second", "third")] == ["waiting"] * 2
    assert world.trainer.stop("second").state == "stopped"
    world.go("first")
    world.until("third", "finished")
    world.trainer.queue.wait(PATIENCE)
    assert [name for what, name in world.calls if what == "before"] == ["first", "third"]


def test_two_trainings_of_one_device_are_refused_whoever_starts_them(world):
    other = Lock(process.device_lock("auto", world.folder / "locks"))
    assert other.take({"name": "somebody else's"})
    world.trainer.start(world.order())
    failed = world.until("run", "failed")
    assert "another training uses this device" in failed.reason
    other.release()
    world.trainer.queue.wait(PATIENCE)
    world.trainer.resume("run")
    world.until("run", "finished")


def test_a_comparison_that_finds_the_device_in_use_leaves_the_training_finished(world):
    world.trainer.start(world.order())
    world.until("run", "finished")
    assert world.trainer.queue.wait(PATIENCE)
    other = Lock(process.device_lock("auto", world.folder / "locks"))
    assert other.take({"name": "somebody else's"})
    world.trainer.compare("run", ["a cat", "a dog"], 2)
    assert world.trainer.queue.wait(PATIENCE)
    assert "another training uses this device" in world.log("run")
    run = world.trainer.runs.run("run")
    assert (run.state, run.reason, run.lora) == ("finished", "after 3", "run-000003")
    other.release()


def test_two_devices_have_two_locks(tmp_path):
    assert process.device_lock("cuda:0", tmp_path) != process.device_lock("cuda:1", tmp_path)


def webui_that_starts(world, survive):
    """Another process that starts a run as a WebUI does, and is then killed."""
    code = f"""
import time
from pathlib import Path
from imagereward_ext.jobs import process
process._START = process._START.replace("sys.exit(", "import tests.jobs.stand_in; sys.exit(")
from imagereward_ext.jobs.trainer import Trainer
from imagereward_ext.jobs.order import Order
runs = {str(world.folder / "runs")!r}
trainer = Trainer(Path(runs), lambda o: None, lambda o: None, Path({str(world.folder / "locks")!r}))
config = {{"name": "run", "output": runs, "updates": 30, "hold_after": 2}}
trainer.start(Order(config, survive={survive}))
trainer.start(Order({{"name": "later", "output": runs, "updates": 1}}))
time.sleep({PATIENCE})
"""
    webui = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    appear(world, "later/order.json")
    appear(world)
    return webui


def appear(world, file="run/events.jsonl"):
    deadline = time.monotonic() + PATIENCE
    while not (world.folder / "runs" / file).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_ends_with_the_webui_however_that_ends(world):
    webui = webui_that_starts(world, survive=False)
    webui.kill()
    webui.wait()
    stopped = world.until("run", "stopped")
    assert 0 < stopped.step < 30
    assert stopped.resumable
    assert world.trainer.runs.run("later").state == "waiting", "a queue waits for a person after a restart"


def test_a_run_that_may_survive_is_found_again_and_watched(world):
    webui = webui_that_starts(world, survive=True)
    webui.kill()
    webui.wait()
    assert world.until("run", "running")
    restarted = world.new_trainer()
    assert restarted.queue.busy().name == "run"
    world.go()
    world.until("run", "finished", trainer=restarted)
    world.until("later", "finished", trainer=restarted)
    assert restarted.queue.wait(PATIENCE)
    assert world.calls == [("after", "run"), ("before", "later"), ("after", "later")]


def test_an_orphan_can_be_stopped(world):
    webui = webui_that_starts(world, survive=True)
    webui.kill()
    webui.wait()
    restarted = world.new_trainer()
    restarted.stop("run")
    assert world.until("run", "stopped", trainer=restarted).step < 30


def test_a_waiting_run_of_an_earlier_webui_starts_when_asked(world):
    world.order().write()
    world.order().record.wait()
    trainer = world.new_trainer()
    assert trainer.runs.run("run").state == "waiting"
    assert trainer.queue.busy() is None
    trainer.resume("run")
    world.until("run", "finished", trainer=trainer)


def test_only_names_of_known_runs_lead_anywhere(world):
    world.trainer.start(world.order())
    world.until("run", "finished")
    (world.folder / "elsewhere").mkdir()
    for name in ("../elsewhere", "..", ".", "", "run/../run", str(world.folder / "runs" / "run"), "none"):
        with pytest.raises(JobError, match="there is no run"):
            world.trainer.runs.path(name)
    for name in ("../up", "a/b"):
        with pytest.raises(JobError, match="cannot be the name"):
            world.trainer.start(world.order(name))
    assert not (world.folder / "up").exists()


def test_delete_takes_finished_runs_only(world):
    world.trainer.start(world.order(updates=30, hold_after=1))
    world.until("run", "running")
    with pytest.raises(JobError, match="stop it first"):
        world.trainer.delete("run")
    world.trainer.stop("run")
    world.until("run", "stopped")
    world.trainer.queue.wait(PATIENCE)
    world.trainer.delete("run")
    assert world.trainer.runs.list() == []


def test_delete_waits_for_the_process_of_a_run_that_has_ended(world):
    order = world.order()
    order.write({})
    order.record.journal.append({"state": "finished"})
    lock = Lock(order.record.process_lock)
    assert lock.take({})
    threading.Timer(0.5, lock.release).start()
    world.trainer.delete("run")
    assert world.trainer.runs.list() == []


def test_events_are_read_once_each_and_from_the_start_after_a_resume_shortened_them(world):
    world.trainer.start(world.order(updates=4))
    world.until("run", "finished")
    folder = world.folder / "runs/run"
    first = runs.read_events(folder, 0)
    assert [event["step"] for event in first.objects] == [1, 2, 3, 4, 4]
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"kind": "update", "step": 5}\n{"kind": "upd')
    more = runs.read_events(folder, first.position)
    assert [event["step"] for event in more.objects] == [5]
    (folder / "events.jsonl").write_text('{"kind": "update", "step": 1}\n')
    assert [event["step"] for event in runs.read_events(folder, more.position).objects] == [1]


def test_an_order_without_permission_is_one_clear_line(world):
    (world.folder / "runs").write_text("a file, no folder")
    with pytest.raises(JobError, match="cannot be written"):
        world.trainer.start(world.order())


def test_an_order_survives_its_file(world):
    order = replace(world.order(), device="cuda:1", survive=True, generate=True)
    order.write()
    assert read_order(order.folder) == order


def test_the_process_sees_the_gpu_it_was_given(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert process.environment("cuda:1")["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert process.environment("cuda:1")["CUDA_VISIBLE_DEVICES"] == "5"
    assert process.environment("cpu")["CUDA_VISIBLE_DEVICES"] == "3,5"


def test_the_pipe_to_the_webui_ends_a_process_that_takes_too_long(tmp_path, monkeypatch):
    ended, record = threading.Event(), RunRecord(tmp_path)
    read, write = os.pipe()
    monkeypatch.setattr(interruption, "SECONDS_AFTER_THE_WEBUI", 0.05)
    monkeypatch.setattr(sys, "stdin", os.fdopen(read))
    interruption.end_with_the_webui(record, lambda code: ended.set())
    assert not ended.wait(0.2)
    os.close(write)
    assert ended.wait(PATIENCE)
    assert record.stop.asked(), "it was asked before it was ended"


@pytest.mark.skipif(process.WINDOWS, reason="groups are POSIX's")
def test_a_training_of_the_command_line_is_ended_too_though_it_leads_no_group():
    training = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    assert os.getpgid(training.pid) != training.pid
    try:
        process.kill(training.pid)
        assert training.wait(PATIENCE) == -signal.SIGKILL
    finally:
        training.kill()


def test_waiting_bears_a_worker_that_ends_between_two_looks(tmp_path, monkeypatch):
    trainer = Trainer(tmp_path, lambda order: None, lambda order: None)
    worker = threading.Thread(target=time.sleep, args=(0,))
    worker.start()
    looks = iter([worker])
    monkeypatch.setattr(
        type(trainer.queue), "_worker", property(lambda queue: next(looks, None)), raising=False
    )
    assert trainer.queue.wait(PATIENCE)


def test_on_windows_a_training_has_a_console_of_its_own(tmp_path):
    """Whoever closes the WebUI's console window would end it there and then, without saving."""
    flags = "import subprocess; subprocess.CREATE_NEW_PROCESS_GROUP, subprocess.CREATE_NO_WINDOW = 0x200, 0x8000000\n"
    look = "from imagereward_ext.jobs import process; print(process._APART == 0x8000200)"
    said = subprocess.run(
        [sys.executable, "-c", flags + look], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "True"
