from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
import torch

from imagereward_ext.diffusion import lora
from imagereward_ext.diffusion.checkpoint import read_tensors
from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.refl import algorithm, pool_maker, samples
from imagereward_ext.refl import training as training_module
from imagereward_ext.refl.algorithm import Algorithm
from imagereward_ext.refl.fit import MemoryTooSmallError
from imagereward_ext.refl.rewards import parse_mix
from imagereward_ext.refl.run_folder import RunFolder
from imagereward_ext.refl.session import load_session, read_inputs
from imagereward_ext.refl.training import LoraTraining, resume, train
from imagereward_ext.settings import FieldError
from imagereward_ext.training.engine import TrainingError
from imagereward_ext.training.event_log import EventLog
from imagereward_ext.training.journal import Journal
from imagereward_ext.training.learner import Learner
from imagereward_ext.training.processes import Processes
from imagereward_ext.training.states import SavedState, States
from tests.refl.two_processes import train_by_two
from tests.refl.world import Taste, load_taste, make_checkpoint, silent, tiny_config


def weights(outcome) -> dict[str, torch.Tensor]:
    return read_tensors(outcome.lora)


def run(folder, name="run", **changes):
    return train(tiny_config(folder, name=name, **changes), load_taste, silent)


def events(outcome, kind):
    lines = (outcome.folder / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


# Adam turns rounding into steps where a gradient is about zero: a hundredth of the rate is rounding, a wrong
# gradient is whole steps of 1e-3.
ROUNDING = 2e-5


def same(first, second, atol=ROUNDING) -> None:
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert any(tensor.abs().max() > 0 for key, tensor in a.items() if "lora_up" in key)
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=atol, rtol=0, msg=key)


def test_the_reward_rises_in_20_updates(tmp_path):
    outcome = run(tmp_path, updates=20, check_every=20, learning_rate=2e-2, kl_weight=1e-6, guard=False)
    first, last = events(outcome, "check")[0], events(outcome, "check")[-1]
    assert outcome.ending == "finished"
    assert last["reward"] > first["reward"] + 0.05
    update = events(outcome, "update")[-1]
    expected = {"step", "reward", "reward_spread", "phi", "kl", "loss", "gradient", "lr", "seconds", "memory"}
    assert expected <= update.keys()


def gradients(folder, **changes) -> float:
    """Return the largest gradient that one update's loss gives the LoRA, and check that nothing else got one."""
    config = tiny_config(folder, **changes)
    processes = Processes(cpu=True)
    session = load_session(config, read_inputs(config), processes, load_taste, print)
    training = LoraTraining(session, RunFolder.create(config), processes, silent)
    session.learner.step = lambda processes: 0.0  # what is asked for is the gradient
    training.engine.update()
    frozen = [p for m in session.parts.modules() for n, p in m.named_parameters() if "lora_" not in n]
    frozen += [p for m in session.reward.scorer.modules() for p in m.parameters()]
    assert frozen
    assert all(p.grad is None for p in frozen)
    return max(float(p.grad.abs().max()) for p in session.parts.trainable() if p.grad is not None)


def test_lora_gets_gradients_and_nothing_else_does(tmp_path):
    assert gradients(tmp_path) > 0


def test_the_judge_is_one_scorer_whatever_it_is_called(tmp_path):
    asked = []

    def load(name):
        asked.append(name)
        return Taste(name, (0, 1, 0))

    config = tiny_config(tmp_path, judge="mine, new:2")
    session = load_session(config, read_inputs(config), Processes(cpu=True), load, print)
    assert asked == ["red", "mine, new:2"]
    assert session.judge.scorer.name == "mine, new:2"


def test_a_detached_decode_is_noticed(tmp_path, monkeypatch):
    whole = DiffusionParts.decode
    monkeypatch.setattr(DiffusionParts, "decode", lambda self, latents: whole(self, latents.detach()))
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradients(tmp_path, kl_weight=0.0)


def test_the_roll_out_keeps_no_gradient_and_stops_late(tmp_path, monkeypatch):
    seen = []

    def spy(*args, **kwargs):
        state = training_roll_out(*args, **kwargs)
        seen.append((state.latents.requires_grad, list(args[5])))
        return state

    training_roll_out = algorithm.roll_out
    monkeypatch.setattr(algorithm, "roll_out", spy)
    run(tmp_path, updates=4, steps=6, first_step=3, last_step=5)
    assert not any(kept for kept, _ in seen)
    assert {index for _, stops in seen for index in stops} == {3, 4, 5}


def test_the_distance_term_holds_the_lora_back(tmp_path):
    free = run(tmp_path, "free", updates=6, kl_weight=0.0, learning_rate=5e-3)
    held = run(tmp_path, "held", updates=6, kl_weight=10.0, learning_rate=5e-3)
    assert events(held, "check")[-1]["distance"] < 0.7 * events(free, "check")[-1]["distance"]


# ------------------------------------------------------------------------------------------ equal trajectories


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    return folder, run(folder, "reference", prior_weight=0.1, prior_images=4)


PRIOR = {"prior_weight": 0.1, "prior_images": 4}


def test_accumulated_micro_batches_are_one_batch(reference):
    folder, whole = reference
    same(whole, run(folder, "halves", micro_batch=2, **PRIOR))
    same(whole, run(folder, "uneven", micro_batch=3, **PRIOR))


def test_gradient_checkpointing_changes_nothing(reference):
    folder, plain = reference
    same(plain, run(folder, "checkpointed", gradient_checkpointing=True, **PRIOR))


@pytest.mark.parametrize("cut", [1, 2])
def test_a_resumed_run_ends_with_the_same_weights(reference, cut):
    folder, whole = reference
    name = f"cut-{cut}"

    first = stopped_after(folder, "update", step=cut, name=name, **PRIOR)
    assert (first.ending, first.step) == ("asked", cut)
    with (first.folder / "events.jsonl").open("a") as stream:
        stream.write("[1]\n" + "[" * 100_000 + "\n")  # whoever wrote that, it is nobody's event
    second = resume(str(folder / "runs"), name, {}, load_taste, silent)
    assert (second.ending, second.step) == ("finished", 3)
    same(whole, second, atol=0)
    assert [e["step"] for e in events(second, "update")] == [1, 2, 3]
    states = [line["state"] for line in Journal(first.folder / "journal.jsonl").read()]
    assert states == ["preparing", "training", "stopped", "preparing", "training", "finished"]


def test_a_run_killed_between_two_states_resumes_from_the_older_one(reference):
    folder, whole = reference

    class Killed(BaseException):
        pass

    def kill(event):
        if event["kind"] == "update" and event["step"] == 3:
            raise Killed

    with pytest.raises(Killed):
        train(tiny_config(folder, name="killed", save_every=2, **PRIOR), load_taste, kill)
    run_folder = folder / "runs" / "killed"
    (run_folder / "states" / ".step-000003.part").mkdir()  # what kill -9 leaves in the middle of a save
    with (run_folder / "events.jsonl").open("a") as stream:
        stream.write('{"kind": "upd')
    outcome = resume(str(folder / "runs"), "killed", {}, load_taste, silent)
    same(whole, outcome, atol=0)
    assert [e["step"] for e in events(outcome, "update")] == [1, 2, 3]


def as_version_0_1_wrote(folder, step):
    """Give a run's folder the words of version 0.1: settings it did not have, and the state of a step."""
    import shutil

    config = json.loads((folder / "config.json").read_text())
    del config["config"]["prior_update"], config["calibrations"]
    (folder / "config.json").write_text(json.dumps(config))
    state = States(folder / "states").read(step)
    shutil.rmtree(folder / "states")
    place = folder / "states" / f"step-{step:06d}"
    place.mkdir(parents=True)
    content = {"parameters": state.parameters, "optimiser": state.optimiser, "scaler": state.scale}
    torch.save(content, place / "learner.pt")
    checks = {"step": step, "checks": state.progress["checks"]}
    (place / "state.json").write_text(json.dumps(checks), encoding="utf-8")


def test_a_run_of_version_0_1_goes_on(reference):
    folder, whole = reference
    stopped_after(folder, "update", step=2, name="earlier", **PRIOR)
    as_version_0_1_wrote(folder / "runs" / "earlier", 2)
    outcome = resume(str(folder / "runs"), "earlier", {}, load_taste, silent)
    same(whole, outcome, atol=0)
    assert [e["step"] for e in events(outcome, "update")] == [1, 2, 3]


def test_a_damaged_newest_state_does_not_stop_a_resume(reference):
    folder, whole = reference
    stopped_after(folder, "update", step=2, name="damaged", save_every=1, **PRIOR)
    newest = folder / "runs" / "damaged" / "states" / "step-000002" / "learner.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    outcome = resume(str(folder / "runs"), "damaged", {}, load_taste, silent)
    same(whole, outcome, atol=0)
    skipped, resumed = [e["text"] for e in events(outcome, "note")][-2:]
    assert skipped == f"skipped a state: the state {newest.parent} cannot be read: learner.pt is damaged"
    assert resumed == "resumed after update 1"


OWN_STEP = {"prior_weight": 0.5, "prior_images": 4, "prior_update": "own step"}


def test_the_prior_takes_a_step_of_its_own_before_the_rewards(tmp_path, monkeypatch):
    """As in the paper: L_reward is computed with the weights that L_pre has moved."""
    order = []

    def spied(name, original):
        def spy(self, step, samples):
            order.append((name, [p.detach().clone() for p in self.parts.trainable()]))
            return original(self, step, samples)

        monkeypatch.setattr(Algorithm, name, spy)

    spied("pretraining", Algorithm.pretraining)
    spied("reward_feedback", Algorithm.reward_feedback)
    outcome = run(tmp_path, updates=2, micro_batch=2, **OWN_STEP)
    names = [name for name, _ in order]
    assert (
        names == ["pretraining"] * 2 + ["reward_feedback"] * 2 + ["pretraining"] * 2 + ["reward_feedback"] * 2
    )
    weights_at = [sum(float(p.double().sum()) for p in weights) for _, weights in order[::2]]
    assert len(set(weights_at)) == 4, "each of the four losses sees other weights"
    figures = events(outcome, "update")[0]
    assert figures["prior"] > 0
    expected = 1e-3 * figures["phi"] + 1e-4 * figures["kl"] + 0.5 * figures["prior"]
    assert figures["loss"] == pytest.approx(expected, rel=1e-4)


def test_two_steps_an_update_have_equal_trajectories_too(tmp_path):
    whole = run(tmp_path, "whole", **OWN_STEP)
    same(whole, run(tmp_path, "uneven", micro_batch=3, **OWN_STEP))
    first = stopped_after(tmp_path, "update", step=1, name="cut", **OWN_STEP)
    assert first.ending == "asked"
    same(whole, resume(str(tmp_path / "runs"), "cut", {}, load_taste, silent), atol=0)
    summed, apart = weights(run(tmp_path, "summed", **{**OWN_STEP, "prior_update": "summed"})), weights(whole)
    assert any((summed[key] - apart[key]).abs().max() > 10 * ROUNDING for key in apart)


@pytest.mark.parametrize("changes", [{}, {"text_encoder": True, "gradient_checkpointing": True}])
def test_merging_the_lora_for_the_roll_out_changes_no_gradient(changes, tmp_path, monkeypatch):
    settings = {"updates": 2, "kl_weight": 1e-3, **changes}
    merged = run(tmp_path, "merged", **settings)
    for module in (algorithm, samples, pool_maker):
        monkeypatch.setattr(module, "merged_for_inference", lambda parts: nullcontext())
    same(merged, run(tmp_path, "beside", **settings))


def test_running_out_of_memory_once_changes_nothing(reference, monkeypatch):
    folder, whole = reference
    original = Algorithm.reward_feedback

    def short_of_memory(self, step, samples):
        if len(samples) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return original(self, step, samples)

    monkeypatch.setattr(Algorithm, "reward_feedback", short_of_memory)
    outcome = run(folder, "short", **PRIOR)
    same(whole, outcome)
    assert "2 images at a time" in events(outcome, "note")[-1]["text"]


def test_the_failed_attempt_is_forgotten_before_the_second_one(tmp_path, monkeypatch):
    """Otherwise its tensors would still lie where the second attempt needs the room."""
    import weakref

    original, failed = Algorithm.reward_feedback, []

    def short_of_memory(self, step, samples):
        if not failed:
            activations = torch.zeros(9)
            failed.append(weakref.ref(activations))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        assert failed[0]() is None
        return original(self, step, samples)

    monkeypatch.setattr(Algorithm, "reward_feedback", short_of_memory)
    assert run(tmp_path).ending == "finished"


def test_running_out_of_memory_elsewhere_is_one_clear_line_too(tmp_path):
    def no_room(name):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    with pytest.raises(
        MemoryTooSmallError, match="out of memory: close other programs, lower the resolution"
    ):
        train(tiny_config(tmp_path), no_room, silent)


def test_running_out_of_memory_twice_is_one_clear_line(tmp_path, monkeypatch):
    def never_enough(self, step, samples):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Algorithm, "reward_feedback", never_enough)
    with pytest.raises(TrainingError, match="out of memory with 2 images at a time: lower the resolution"):
        run(tmp_path)


# --------------------------------------------------------------------------------------- methods and guard rails


@pytest.mark.parametrize("method", ["reward-weighted", "filtering", "raft"])
def test_the_comparison_methods_train(method, tmp_path):
    outcome = run(
        tmp_path, method=method, prior_images=8, keep_share=0.5, rounds=2, updates=4, text_encoder=False
    )
    assert outcome.ending == "finished"
    assert events(outcome, "update")[-1]["denoising"] > 0
    pools = sorted(path.name for path in outcome.folder.glob("pool-*"))
    assert pools == (
        ["pool-0.safetensors", "pool-1.safetensors"] if method == "raft" else ["pool-0.safetensors"]
    )
    assert any(t.abs().max() > 0 for k, t in weights(outcome).items() if "lora_up" in k)


@pytest.mark.parametrize(("family", "prediction"), [("sdxl", "epsilon"), ("sd2", "v_prediction")])
def test_every_family_trains(family, prediction, tmp_path, monkeypatch):
    from imagereward_ext.diffusion.lora_file import read_lora
    from tests.diffusion.tiny_models import known_as
    from tests.diffusion.tiny_models import tiny_config as tiny_model

    known_as(tiny_model(family), monkeypatch)
    model = make_checkpoint(tmp_path / "model", family)
    outcome = run(
        tmp_path,
        checkpoint=str(model),
        prediction=prediction,
        updates=2,
        text_encoder=True,
        guidance=2.0,
        width=16,
        height=16,
    )
    components = {"unet", "text_0", "text_1"} if family == "sdxl" else {"unet", "text_0"}
    assert set(read_lora(outcome.lora, tiny_model(family))) == components
    assert events(outcome, "update")[-1]["gradient"] > 0


def test_frozen_weights_in_16_bit_train_a_lora_in_32(tmp_path):
    outcome = run(
        tmp_path, precision="bf16", updates=2, prior_weight=0.1, prior_images=4, gradient_checkpointing=True
    )
    assert all(t.dtype == torch.float32 and torch.isfinite(t).all() for t in weights(outcome).values())
    assert events(outcome, "update")[-1]["gradient"] > 0


def test_a_trained_text_encoder_is_in_the_file(tmp_path):
    outcome = run(tmp_path, text_encoder=True, updates=2)
    trained = {k: t for k, t in weights(outcome).items() if k.startswith("lora_te_") and "lora_up" in k}
    assert trained
    assert any(t.abs().max() > 0 for t in trained.values())


def test_a_folder_of_captioned_images_serves_as_the_prior(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (20, 30), (name == "a" and "red") or "blue").save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"a {name}")
    outcome = run(tmp_path, images="~/images", prior_weight=1.0, updates=1)
    assert events(outcome, "update")[0]["prior"] > 0
    assert tuple(read_tensors(outcome.folder / "pool-0.safetensors")["latents"].shape) == (2, 4, 8, 8)


def test_the_guard_rails_stop_a_run_whose_judge_falls_and_keep_the_best_state(tmp_path):
    changes = {"judge": "not-red", "kl_weight": 0.0, "learning_rate": 2e-2, "updates": 12, "check_every": 2, "patience": 2,
               "phi": "linear"}  # fmt: skip
    outcome = run(tmp_path, **changes)
    assert outcome.ending == "guard"
    assert outcome.step < 12
    assert "judge fell" in outcome.reason
    checks = events(outcome, "check")
    assert checks[-1]["reward"] > checks[0]["reward"]
    assert checks[-1]["judge"] < checks[0]["judge"]
    assert outcome.lora_step == max(checks, key=lambda c: c["judge"])["step"]
    assert (outcome.folder / "states" / f"step-{outcome.lora_step:06d}").is_dir()
    off = run(tmp_path, "off", guard=False, **changes)
    assert (off.ending, off.step) == ("finished", 12)


def test_a_loss_that_is_no_number_stops_with_the_last_good_state(tmp_path):
    scorers = {"red": load_taste("red")}

    def turning_bad(event):
        if event["kind"] == "update" and event["step"] == 2:
            scorers["red"].weights.mul_(float("nan"))

    with pytest.raises(TrainingError, match="stopped at update 3: the loss is not finite"):
        train(tiny_config(tmp_path, updates=5), scorers.__getitem__, turning_bad)
    outcome = resume(str(tmp_path / "runs"), "run", {"updates": 2}, load_taste, silent)
    assert outcome.step == 2
    assert all(torch.isfinite(tensor).all() for tensor in weights(outcome).values())


@pytest.mark.parametrize(("step", "words"), [(0, "choose precision fp32"), (2, "the images after update 2")])
def test_images_without_a_score_end_the_run_before_they_are_recorded(step, words, tmp_path):
    scorers = {"red": load_taste("nan" if step == 0 else "red")}

    def turning_bad(event):
        if event["kind"] == "update" and event["step"] == step:
            scorers["red"].weights.mul_(float("nan"))

    with pytest.raises(TrainingError, match=words):
        train(tiny_config(tmp_path, check_every=2, save_every=1), scorers.__getitem__, turning_bad)
    folder = tmp_path / "runs" / "run"
    assert (
        "NaN" not in (folder / "events.jsonl").read_text() if step else not (folder / "events.jsonl").exists()
    )
    assert sorted(path.name for path in (folder / "states").iterdir())[-1:] == ["step-000001"] * bool(step)


def test_the_log_is_json_that_browsers_read(tmp_path, monkeypatch):
    """In half precision the first gradients overflow until the loss scale has come down: that is no error."""
    step = Learner.step
    monkeypatch.setattr(Learner, "step", lambda self, processes: step(self, processes) * float("inf"))
    outcome = run(tmp_path, updates=1)
    log = EventLog(outcome.folder / "events.jsonl")
    log.note(1, "one\u2028line é")
    with log.journal.path.open("ab") as stream:
        stream.write("é".encode()[:1])  # what a full disk leaves of a letter
    lines = log.journal.path.read_bytes().splitlines()[:-1]
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [event["gradient"] for event in found if event["kind"] == "update"] == [None]
    assert log.journal.read() == found


def test_states_are_pruned_to_the_last_two_and_the_best(tmp_path):
    outcome = run(tmp_path, updates=6, check_every=2, save_every=1, guard=False)
    best = max(events(outcome, "check"), key=lambda c: c["reward"])["step"]
    kept = sorted(path.name for path in (outcome.folder / "states").iterdir())
    assert kept == sorted({f"step-{step:06d}" for step in (best, 5, 6)})


# ----------------------------------------------------------------------------------------------- the run folder


def test_the_run_folder_holds_everything(tmp_path):
    from PIL import Image

    target = tmp_path / "models" / "Lora"
    outcome = run(tmp_path, updates=4, check_every=2, lora_every=2, lora_dir=str(target), shown_images=2)
    config = json.loads((outcome.folder / "config.json").read_text())
    assert config["config"]["rank"] == 2
    assert len(config["checkpoint_sha256"]) == 64
    assert {"torch", "diffusers", "imagereward"} <= config["versions"].keys()
    samples = sorted(
        p.relative_to(outcome.folder / "samples").as_posix() for p in outcome.folder.glob("samples/*/*")
    )
    assert samples == [f"step-00000{s}/0{i}.png" for s in (0, 2, 4) for i in (0, 1)]
    names = sorted(path.name for path in target.iterdir())
    assert names == [f"run-00000{s}.{e}" for s in (2, 4) for e in ("json", "png", "safetensors")]
    with Image.open(outcome.folder / "samples" / "step-000004" / "00.png") as sample:
        assert "Steps: 4, Sampler: DDPM, CFG scale: 1, Seed: 0, Size: 16x16" in sample.info["parameters"]
        assert "<lora:run-000004:1>" in sample.info["parameters"]


def test_the_preview_is_what_base_and_merged_file_make(tmp_path):
    """The trained layers and the file that a WebUI merges give the same image."""
    from imagereward_ext.diffusion.loading import load_parts
    from imagereward_ext.diffusion.lora_file import read_lora
    from imagereward_ext.diffusion.pictures import to_image
    from imagereward_ext.diffusion.sampling import SamplingSettings, generate
    from tests.refl.world import PROMPTS

    outcome = run(tmp_path, updates=3, learning_rate=1e-2, guard=False)
    parts = load_parts(tmp_path / "model" / "tiny.safetensors")
    settings = SamplingSettings("ddpm", 4, 1.0, 16, 16)
    with lora.merged(parts, read_lora(outcome.lora, parts.config), 1.0):
        pixels = next(generate(parts, parts.encode([PROMPTS[0]]), None, settings, [0]))
    from PIL import Image, ImageChops

    with Image.open(outcome.lora.with_suffix(".png")) as preview:
        difference = ImageChops.difference(preview, to_image(pixels))
    assert max(high for _, high in difference.getextrema()) <= 1


def stopped_after(folder, kind, step=0, name="run", **changes):
    """Train until an event asks for the stop."""

    def ask_to_stop(event):
        if event["kind"] == kind and event["step"] == step:
            (folder / "runs" / name / "stop").touch()

    config = tiny_config(folder, name=name, lora_dir=str(folder / "Lora"), **changes)
    return train(config, load_taste, ask_to_stop)


def test_a_run_stopped_between_two_checks_has_a_preview(tmp_path):
    from PIL import Image

    outcome = stopped_after(tmp_path, "update", step=1)
    with Image.open(tmp_path / "Lora" / "run-000001.png") as preview:
        assert "<lora:run-000001:1>" in preview.info["parameters"]
    assert outcome.lora.name == "run-000001.safetensors"


def test_a_run_stopped_before_its_first_update_writes_no_lora(tmp_path, capsys):
    from imagereward_ext.cli import train as command

    outcome = stopped_after(tmp_path, "check")
    assert (outcome.ending, outcome.step, outcome.lora) == ("asked", 0, None)
    assert not (tmp_path / "Lora").exists()
    assert events(outcome, "end")[0]["lora"] == ""
    command._end(outcome)
    assert "No LoRA was written" in capsys.readouterr().out


def test_a_signal_that_comes_late_lets_the_lora_be_written(tmp_path, monkeypatch):
    import signal

    write = training_module.export.write

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return write(*arguments)

    def end_at_once(number, frame):
        raise SystemExit

    monkeypatch.setattr(training_module.export, "write", interrupted)
    before = signal.signal(signal.SIGTERM, end_at_once)
    try:
        outcome = run(tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert outcome.ending == "finished"
    assert outcome.lora.exists()


def test_a_state_gets_its_name_though_windows_lets_go_of_it_late(tmp_path, monkeypatch):
    """A virus scanner that looks into a new file keeps its folder from being renamed."""
    import os
    from pathlib import Path
    from types import SimpleNamespace

    from imagereward_ext import storage

    monkeypatch.setattr(storage, "os", SimpleNamespace(name="nt", path=os.path, fsync=os.fsync))
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: None)
    move, attempts = Path.replace, []

    def held(self, target):
        attempts.append(self)
        if len(attempts) < 3:
            raise PermissionError(13, "used by another process")
        return move(self, target)

    states = States(tmp_path)
    monkeypatch.setattr(Path, "replace", held)
    states.write(SavedState(1, [], {}, {}, {}))
    assert states.steps() == [1]
    assert len(attempts) == 3


def test_a_run_of_the_cpu_resumes_on_the_cpu(tmp_path, monkeypatch):
    stopped_after(tmp_path, "update", step=1)
    asked = []

    def record(cpu):
        asked.append(cpu)
        return Processes(cpu)

    monkeypatch.setattr(training_module, "Processes", record)
    resume(str(tmp_path / "runs"), "run", {}, load_taste, silent)
    assert asked == [True]


def test_a_resumed_run_makes_images_of_the_size_it_began_with(tmp_path, monkeypatch):
    """However much memory other programs have left free by then."""
    from PIL import Image

    from imagereward_ext.refl import fit, session

    monkeypatch.setattr(fit, "PRESETS", {"sd1": {6: (8, 1), 24: (16, 8)}})
    monkeypatch.setattr(session, "free_memory", lambda device: 24.0)
    stopped_after(tmp_path, "update", step=1)
    monkeypatch.setattr(session, "free_memory", lambda device: 7.0)
    outcome = resume(str(tmp_path / "runs"), "run", {}, load_taste, silent)
    with Image.open(outcome.folder / "samples" / "step-000003" / "00.png") as sample:
        assert sample.size == (16, 16)


class Several(Processes):
    """The first of several processes, as far as the start of a run can tell."""

    count, index = 4, 0

    def __init__(self, gigabytes=()):
        super().__init__(cpu=True)
        self.gigabytes = list(gigabytes)

    def collect(self, items):
        return items + self.gigabytes


@pytest.mark.parametrize("name", ["batch", "check_images", "prior_images"])
def test_every_process_must_have_images_to_make(name, tmp_path):
    config = tiny_config(tmp_path, **{"check_images": 4, "prior_weight": 1.0, name: 3})
    with pytest.raises(FieldError, match=f"{name} is 3, fewer than the 4 processes"):
        load_session(config, read_inputs(config), Several(), load_taste, print)


def test_the_smallest_of_several_cards_decides_for_all(tmp_path, monkeypatch):
    """Otherwise they would make images of different sizes."""
    from imagereward_ext.refl import session

    monkeypatch.setattr(session, "free_memory", lambda device: 24.0)
    config = tiny_config(tmp_path, batch=32, micro_batch=0)
    alone = load_session(config, read_inputs(config), Several([24.0] * 3), load_taste, print)
    mixed = load_session(config, read_inputs(config), Several([24.0, 8.0, 24.0]), load_taste, print)
    assert (alone.fit.micro_batch, mixed.fit.micro_batch) == (8, 1)


def test_two_processes_are_one(reference):
    """Two gloo processes with the same total batch end with the same weights."""
    folder, whole = reference
    a, b = weights(whole), read_tensors(train_by_two(folder, "two", **PRIOR) / "two-000003.safetensors")
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=ROUNDING, rtol=0)


def test_mixes_are_read():
    assert parse_mix("red") == [("red", 1.0)]
    assert parse_mix("red:0.7, green:0.3") == [("red", 0.7), ("green", 0.3)]
    assert parse_mix("C:/models/mine") == [("C:/models/mine", 1.0)]
