from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import pytest
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from imagereward_ext.cli import train as command
from imagereward_ext.errors import ImageRewardError
from imagereward_ext.refl import export
from imagereward_ext.refl.config import TrainingConfig, from_mapping
from imagereward_ext.refl.plan import make_plan
from imagereward_ext.refl.run_folder import RunFolder
from imagereward_ext.refl.samples import PREVIEW
from imagereward_ext.refl.training import resume, train
from imagereward_ext.settings import FieldError, schema
from imagereward_ext.settings.flags import flag
from imagereward_ext.training import states as states_module
from tests.refl.world import load_taste, silent, tiny_config
from tests.tiny import picture


def test_the_defaults_are_the_papers():
    c = TrainingConfig()
    assert (c.steps, c.first_step, c.last_step, c.reward_cap, c.reward_weight) == (40, 30, 39, 2.0, 1e-3)
    assert (c.guidance, c.phi, c.method, c.clip, c.batch, c.updates) == (1.0, "relu", "refl", 1.0, 64, 100)


def test_every_setting_says_what_it_is_and_survives_json():
    for setting in schema(TrainingConfig).values():
        assert setting.label
        assert setting.help
        setting.check(setting.default)
    config = from_mapping({"rank": 4, "guard": False, "alpha": 2})
    assert from_mapping(json.loads(config.to_json())) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rnak": 4}, "did you mean rank"),
        ({"rank": 0}, "between 1 and 1024"),
        ({"rank": "4"}, "expected a whole number"),
        ({"rank": True}, "expected a whole number"),
        ({"phi": "sqrt"}, "choose one of relu, linear, log-sigmoid"),
        ({"learning_rate": float("nan")}, "finite"),
        ({"first_step": 20, "last_step": 10}, "swap them"),
        ({"last_step": 40}, "40 steps end at 39"),
        ({"reward_weight": 0.0}, "nothing would be learned"),
    ],
)
def test_bad_values_are_one_clear_line(values, words):
    with pytest.raises(FieldError, match=words):
        from_mapping(values)


@pytest.mark.parametrize("name", ["a/b", "..", "../up", "a\\b", ".hidden", "", " ", "a" * 200, "c:x", "end."])
def test_names_that_leave_the_folder_are_refused(name, tmp_path):
    with pytest.raises(FieldError, match="cannot be the name of a run"):
        train(tiny_config(tmp_path, name=name), load_taste, silent)
    assert not (tmp_path / "runs").exists()


def bad_inputs(folder):
    """Yield what is wrong, the settings, and the words of the error."""
    write = lambda name, text: str((folder / name, (folder / name).write_text(text))[0])  # noqa: E731
    yield "missing checkpoint", {"checkpoint": str(folder / "none.ckpt")}, "does not exist"
    yield "no checkpoint", {"checkpoint": ""}, "--checkpoint"
    yield "corrupt checkpoint", {"checkpoint": write("bad.safetensors", "x" * 99)}, "damaged"
    save_file({"lora_unet_x.lora_up.weight": __import__("torch").zeros(1)}, folder / "lora.safetensors")
    yield "a LoRA", {"checkpoint": str(folder / "lora.safetensors")}, "is a LoRA"
    yield "missing VAE", {"vae": str(folder / "none.pt")}, "does not exist"
    yield "no prompts", {"prompts": ""}, "--prompts"
    yield "missing prompts", {"prompts": str(folder / "none.txt")}, "cannot be read"
    yield "empty prompts", {"prompts": write("empty.txt", "\n \n")}, "holds 0 prompts; at least 2"
    yield "one prompt", {"prompts": write("one.txt", "a cat\n")}, "holds 1 prompt; at least 2"
    yield (
        "10,000 words",
        {"prompts": write("long.txt", "a cat\n" + "word " * 10_000)},
        "prompt 2 has 10000 words",
    )
    yield "broken JSON", {"prompts": write("bad.json", "[")}, "no valid JSON"
    yield "JSON of numbers", {"prompts": write("numbers.json", "[1, 2]")}, "entry 1 is no text"
    yield "judge is reward", {"judge": "red"}, "is also the reward"
    yield "odd size", {"width": 18, "height": 16}, "multiples of 4"
    yield "no images", {"images": str(folder / "none"), "prior_weight": 1.0}, "does not exist"
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "pictures" / "a.png").touch()
    (folder / "pictures" / "a.txt").write_bytes(b"\xff\xfe")
    yield "a caption in another encoding", {"images": str(folder / "pictures")}, "a.txt is not UTF-8"
    write("file", "")
    yield "LoRA folder", {"lora_dir": str(folder / "file" / "Lora")}, "file is no folder"
    yield "fp16 on a CPU", {"precision": "fp16"}, "fp16"
    yield "mix of nothing", {"scorers": ","}, "expected a name"


def test_bad_input_is_one_clear_line_and_nothing_is_written(tmp_path):
    for what, changes, words in bad_inputs(tmp_path):
        with pytest.raises(ImageRewardError) as error:
            train(tiny_config(tmp_path, **changes), load_taste, silent)
        assert words in str(error.value), what
        assert "\n" not in str(error.value), what
        assert not (tmp_path / "runs").exists(), what


def test_an_existing_run_is_not_overwritten_and_keeps_its_settings(tmp_path):
    train(tiny_config(tmp_path, updates=1), load_taste, silent)
    with pytest.raises(ImageRewardError, match="exists already: continue it with --resume"):
        train(tiny_config(tmp_path, updates=1), load_taste, silent)
    runs = str(tmp_path / "runs")
    with pytest.raises(FieldError, match=r"rank is 16 and was 2"):
        resume(runs, "run", {"rank": 16}, load_taste, silent)
    with pytest.raises(ImageRewardError, match="there is no run"):
        resume(runs, "other", {}, load_taste, silent)
    prompts = tmp_path / "prompts.txt"
    held = prompts.read_text()
    prompts.write_text("one more\n" + held)
    with pytest.raises(ImageRewardError, match="not hold the prompts this run began with"):
        resume(runs, "run", {}, load_taste, silent)
    config = tmp_path / "runs" / "run" / "config.json"
    facts = json.loads(config.read_text())
    config.write_text(json.dumps({key: facts[key] for key in facts if key != "prompts_sha256"}))
    assert resume(runs, "run", {}, load_taste, silent).step == 1, "a run of before this was kept"
    config.write_text(json.dumps(facts))
    prompts.write_text(held + "\n\n")
    assert resume(runs, "run", {}, load_taste, silent).step == 1, (
        "the prompts are the same, the file need not be"
    )
    checkpoint = tmp_path / "model" / "tiny.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes() + b" ")
    with pytest.raises(ImageRewardError, match="not the checkpoint this run began with"):
        resume(runs, "run", {}, load_taste, silent)


def test_a_full_disk_is_one_clear_line_and_keeps_the_previous_state(tmp_path, monkeypatch):
    import errno

    real = states_module.flush_to_disk

    def full(file):
        if "step-000002" in str(file):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(states_module, "flush_to_disk", full)
    with pytest.raises(ImageRewardError, match="no space is left"):
        train(tiny_config(tmp_path, updates=3, save_every=1), load_taste, silent)
    states = tmp_path / "runs" / "run" / "states"
    assert "step-000001" in [path.name for path in states.iterdir()]
    assert not [path for path in states.iterdir() if path.name.endswith(".part")]
    monkeypatch.setattr(states_module, "flush_to_disk", real)
    assert resume(str(tmp_path / "runs"), "run", {}, load_taste, silent).step == 3


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_clear_line(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(ImageRewardError, match="no permission"):
        train(tiny_config(tmp_path, output=str(locked)), load_taste, silent)


def test_a_file_where_the_runs_should_be_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageRewardError, match="cannot be written"):
        train(tiny_config(tmp_path, output=str(tmp_path / "file")), load_taste, silent)


def test_a_preview_that_cannot_be_read_costs_no_lora(tmp_path):
    folder = RunFolder(tmp_path)
    assert export._preview(folder, 3) is None
    preview = folder.samples_of(3) / PREVIEW
    preview.parent.mkdir(parents=True)
    preview.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert export._preview(folder, 3) is None
    text = PngInfo()
    text.add_text("parameters", "a fox")
    picture().save(preview, "PNG", pnginfo=text)
    assert export._preview(folder, 3).info["parameters"] == "a fox"


def parsed(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def test_every_setting_is_a_flag_and_only_given_ones_count(tmp_path):
    arguments = parsed("--rank", "4", "--no-guard", "--learning-rate", "2e-4", "--phi", "linear")
    assert command._given(arguments) == {"rank": 4, "guard": False, "learning_rate": 2e-4, "phi": "linear"}
    text = argparse.ArgumentParser()
    command.add_arguments(text)
    assert all(flag(name) in text.format_help() for name in schema(TrainingConfig))


@pytest.mark.parametrize(
    "words",
    [["--scorers", "red:2,green"], ["--scorer", "red:2,green"], ["--scorer", "red:2", "--scorer", "green"]],
)
def test_scorers_are_named_as_in_the_other_commands_too(words):
    assert command._given(parsed(*words)) == {"scorers": "red:2,green"}


def test_the_plan_loads_nothing_and_says_what_matters(tmp_path, capsys, monkeypatch):
    from imagereward_ext.diffusion import loading

    monkeypatch.setattr(loading, "read_tensors", lambda path: pytest.fail("weights were read"))
    config = tiny_config(tmp_path)
    words = [
        f"--{key}={getattr(config, key)}"
        for key in ("checkpoint", "prompts", "name", "output", "scorers", "rank")
    ]
    assert command.run(parsed(*words, "--plan", "--cpu")) == 0
    shown = capsys.readouterr().out
    for part in ("trained parameters", "updates", "peak memory", "time", "judge", "red (weight 1)"):
        assert part in shown
    assert not (tmp_path / "runs").exists()


def test_the_plan_counts_exactly_what_is_trained(tmp_path):
    from imagereward_ext.diffusion import lora
    from imagereward_ext.diffusion.loading import load_parts

    for changes in ({}, {"text_encoder": True, "targets": "attention"}):
        config = tiny_config(tmp_path, **changes)
        parts = load_parts(tmp_path / "model" / "tiny.safetensors")
        lora.inject(parts, config.lora_shape(), 0)
        assert make_plan(config).trained == sum(p.numel() for p in parts.trainable())


def test_the_plan_counts_the_bytes_of_the_precision(tmp_path):
    short, full = (make_plan(tiny_config(tmp_path, precision=name)).memory for name in ("bf16", "fp32"))
    assert short < full


@pytest.mark.parametrize(
    ("family", "pixels", "least", "most"), [("sd1", 512, 0.8, 0.95), ("sdxl", 1024, 3.2, 3.8)]
)
def test_the_plan_counts_a_decoder_that_keeps_a_third(family, pixels, least, most):
    """In GB at 16 bit. As diffusers has it, 2.79 and 11.1."""
    from imagereward_ext.diffusion.model_config import known
    from imagereward_ext.refl.plan import network_work

    unet, decoder = network_work(known(family), pixels, pixels)
    assert least < decoder.saved < most
    assert unet.parameters > 8e8


def test_the_plan_counts_the_scorers_there_are(tmp_path, tiny_folder):
    """A tiny scorer is not planned for as ImageReward, and a judge takes memory too."""
    tiny, whole = str(tiny_folder), "ImageReward-v1.0"
    plans = {
        (scorer, judge): make_plan(tiny_config(tmp_path, scorers=scorer, judge=judge), tmp_path)
        for scorer, judge in ((tiny, ""), (whole, ""), (tiny, whole))
    }
    memory = {key: plan.memory for key, plan in plans.items()}
    gigabytes = 1.79e9 / 2**30
    assert memory[tiny, ""] < 1
    assert memory[tiny, whole] - memory[tiny, ""] == pytest.approx(gigabytes, rel=0.01)
    assert memory[whole, ""] > memory[tiny, whole] + 1, "what is trained on keeps its activations"
    assert any("1.8 GB to download once" in line for line in plans[whole, ""].notes)
    assert not any("download" in line for line in plans[tiny, ""].notes)


def test_the_command_trains_and_stops_when_asked(tmp_path):
    """SIGINT to the real command: the update is finished, the state saved, the exit code 130; then it resumes."""
    import signal
    import time

    config = tiny_config(tmp_path, updates=2000, check_every=2000, save_every=2000)
    (tmp_path / "config.json").write_text(config.to_json())
    program = (
        "import sys; from imagereward_ext.cli import main, train as t; from tests.refl.world import load_taste;"
        "t._loader = lambda *a: load_taste; sys.exit(main(['train', *sys.argv[1:]]))"
    )
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(tmp_path),
    }  # with device locks of its own
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--config", str(tmp_path / "config.json")], env=environment
    )
    log = tmp_path / "runs" / "run" / "events.jsonl"
    deadline = time.monotonic() + 240
    while not (log.exists() and '"update"' in log.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(240) == 130
    last = [json.loads(line) for line in log.read_text().splitlines()][-1]
    assert (last["kind"], last["ending"]) == ("end", "asked")
    state = log.parent / "states" / f"step-{last['step']:06d}"
    assert (state / "learner.pt").is_file()
    again = resume(str(tmp_path / "runs"), "run", {"updates": last["step"] + 1}, load_taste, silent)
    assert again.step == last["step"] + 1


def test_missing_packages_are_named_before_anything_is_read(tmp_path, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name in ("peft", "accelerate") else real(name, *a),
    )
    with pytest.raises(
        ImageRewardError, match="training needs peft and accelerate: install with pip install"
    ):
        train(TrainingConfig(), load_taste, silent)


def test_half_precision_anywhere_on_the_gradients_way_scales_the_loss(tmp_path):
    import torch

    from imagereward_ext.refl.rewards import WeightedScorer
    from imagereward_ext.refl.session import networks
    from tests.diffusion.tiny_models import tiny_parts

    scorer = load_taste("red")
    scorer.layer.half()
    found = networks(tiny_parts(tmp_path), [WeightedScorer("red", scorer, 1.0)])
    assert torch.float16 in {p.dtype for module in found for p in module.parameters()}
