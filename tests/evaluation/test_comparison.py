from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image, ImageStat

from imagereward_ext.cli import compare, main, parse
from imagereward_ext.diffusion import lora_file
from imagereward_ext.diffusion.loading import load_parts
from imagereward_ext.diffusion.lora import LoraLayer
from imagereward_ext.diffusion.model_config import known
from imagereward_ext.diffusion.sampling import SamplingSettings
from imagereward_ext.evaluation import comparison
from imagereward_ext.evaluation.comparison import ComparisonRequest
from imagereward_ext.evaluation.comparison_report import comparison_report
from imagereward_ext.evaluation.variants import (
    Comparison,
    ImageSettings,
    VariantResult,
    compare_variants,
    list_variants,
)
from imagereward_ext.scorers import STANDARD
from imagereward_ext.scorers.calibration import Calibration
from tests.refl.world import PROMPTS, load_taste, make_checkpoint, silent, tiny_config


def redness(images, prompts):
    return [ImageStat.Stat(image).mean[0] / 255 for image in images]


def greenness(images, prompts):
    return [ImageStat.Stat(image).mean[1] / 255 for image in images]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A checkpoint and a LoRA that was trained to make it redder."""
    from imagereward_ext.refl.training import train

    folder = tmp_path_factory.mktemp("comparison")
    config = tiny_config(folder, updates=12, learning_rate=2e-2, kl_weight=0.0, guard=False)
    outcome = train(config, load_taste, silent)
    (folder / "held-out.txt").write_text("\n".join(PROMPTS[:6]))
    return folder, folder / "model" / "tiny.safetensors", outcome.lora


def command(world, output, *more):
    folder, base, lora = world
    return main(
        [
            "compare",
            str(base),
            str(lora),
            "--prompts",
            str(folder / "held-out.txt"),
            "--output",
            str(output),
            "--scorer",
            "red",
            "--scorer",
            "green",
            "--steps",
            "4",
            "--sampler",
            "ddpm",
            "--guidance",
            "1",
            "--cpu",
            *more,
        ]
    )


def test_the_comparison_sees_what_was_trained(world, tmp_path, monkeypatch, capsys):
    scorers = {"red": redness, "green": greenness}
    monkeypatch.setattr(
        comparison, "load_chosen", lambda name, *_: SimpleNamespace(score=scorers[name], calibration=STANDARD)
    )
    assert (
        command(world, tmp_path, "--lora-weight", "0", "--lora-weight", "1", "--seeds", "2", "--keep-images")
        == 0
    )
    data = json.loads((tmp_path / "comparison.json").read_text())
    stem = world[2].stem
    off, on = data["candidates"][f"{stem} x 0"], data["candidates"][f"{stem} x 1"]
    assert off["difference"]["red"]["value"] == 0
    assert off["win_rate"]["red"]["value"] == 0.5
    assert on["difference"]["red"]["low"] > 0
    assert on["win_rate"]["red"]["value"] > 0.9
    assert on["difference"]["red"]["value"] > on["difference"]["green"]["value"]
    assert len(data["prompts"]) == 12
    page = (tmp_path / "comparison.md").read_text()
    assert "By red" in page
    assert "Win rates by green" in page
    assert "6 prompts are too few to say" in page
    with Image.open(tmp_path / "comparison-contact-sheet.png") as sheet:
        assert sheet.width > 3 * 192
    assert len(list((tmp_path / "images").glob("*/*.png"))) == 3 * 12
    assert "difference to the base" in capsys.readouterr().out


def test_every_image_has_a_seed_of_its_own(world):
    parts = load_parts(world[1])
    sampling = SamplingSettings("ddim", 2, 1.0, 32, 32)
    measured = compare_variants(
        parts, list_variants([], []), ["a", "a"], ImageSettings(sampling), {"red": redness}
    )
    first, second = measured.results["base"].scores["red"]
    assert first != second


def test_bad_inputs_are_one_line_and_write_nothing(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        comparison, "load_base", lambda request: pytest.fail("the checkpoint was loaded first")
    )
    folder, base, lora = world
    prompts = str(folder / "held-out.txt")
    cases = {
        "does not exist": [str(folder / "none.safetensors"), str(lora), "--prompts", prompts],
        "is no LoRA": [str(base), str(base), "--prompts", prompts],
        "is a LoRA": [str(lora), str(lora), "--prompts", prompts],
        "cannot be read": [str(base), str(lora), "--prompts", str(folder / "none.txt")],
        "choose one of ddpm": [str(base), str(lora), "--prompts", prompts, "--sampler", "euler"],
        "no scorer is called 'nonsense'": [
            str(base),
            str(lora),
            "--prompts",
            prompts,
            "--scorer",
            "nonsense",
        ],
        "name each once": [str(base), str(lora), str(lora), "--prompts", prompts],
    }
    for words, arguments in cases.items():
        try:
            code = main(["compare", *arguments, "--output", str(tmp_path / "out"), "--cpu"])
        except SystemExit as end:  # a word that no flag takes ends the program
            code = end.code
        assert code != 0
        error = capsys.readouterr().err.strip()
        assert words in error
        assert "\n" not in error
    assert not (tmp_path / "out").exists()


def some_comparison(calibrations=None, **scores):
    variants = list_variants([Path("one.safetensors")], [0.5, 1.0])
    measured = Comparison(["a", "b", "c", "d"], variants, calibrations=calibrations or {})
    for variant, kind in zip(variants, ("base", "half", "whole"), strict=True):
        measured.results[variant.label] = VariantResult(
            {name: values[kind] for name, values in scores.items()}
        )
    return measured


def test_the_recommended_weight_is_the_one_all_scorers_like():
    trained = {"base": [0, 0, 0, 0], "half": [1, 1, 1, -1], "whole": [2, 2, 2, 2]}
    held_out = {"base": [0, 0, 0, 0], "half": [1, 1, 1, 1], "whole": [-1, -1, -1, 1]}
    (choice,) = some_comparison(trained=trained, held_out=held_out).recommended().values()
    assert choice is not None
    assert choice.weight == 0.5
    both_win = {"base": [0, 1, 0, 1], "half": [1, 2, 1, 2], "whole": [3, 4, 3, 4]}
    (choice,) = some_comparison(trained=both_win).recommended().values()
    assert choice is not None
    assert choice.weight == 1.0, "both win always, and this one by more"
    bad = {"base": [0, 0, 0, 0], "half": [-1, -1, -1, -1], "whole": [-1, -1, -1, -1]}
    assert list(some_comparison(trained=trained, held_out=bad, other=bad).recommended().values()) == [None]


def test_a_weight_that_wins_narrowly_and_loses_by_far_is_not_recommended():
    scores = {"base": [0, 0, 0, 0], "half": [0.1, 0.1, 0.1, -9], "whole": [-1, -1, -1, -1]}
    assert list(some_comparison(trained=scores).recommended().values()) == [None]


def of_prompts(**differences):
    """Compare on as many prompts as there are differences to a base whose scores are 0, by scorer."""
    prompts = [str(n) for n in range(len(next(iter(differences.values()))))]
    variants = list_variants([Path("one.pt")], [1.0])
    measured = Comparison(prompts, variants, calibrations=dict.fromkeys(differences, Calibration(0.0, 1.0)))
    measured.results["base"] = VariantResult({name: [0.0] * len(prompts) for name in differences})
    measured.results["one"] = VariantResult(differences)
    return measured


@pytest.mark.parametrize(
    ("verdict", "scores"),
    [
        ("better", {"x": [0.4, 0.6] * 10}),
        ("no difference", {"x": [0.9, -0.8] * 10}),  # 0.05 on average: chance
        ("worse", {"x": [-0.4, -0.6] * 10}),
        ("better", {"x": [0.4, 0.6] * 10, "y": [0.9, -0.8] * 10}),
        ("no difference", {"x": [4.0, 6.0] * 10, "y": [-0.4, -0.6] * 10}),  # the trained one up, another down
        ("worse", {"x": [0.9, -0.8] * 10, "y": [-0.4, -0.6] * 10}),
    ],
)
def test_a_verdict_is_more_than_chance_and_no_scorer_is_against_it(verdict, scores):
    measured = of_prompts(**scores)
    (found,) = measured.findings().values()
    assert (found.verdict, found.better) == (verdict, verdict == "better")
    assert (list(measured.recommended().values()) == [None]) is not found.better
    measured.results = {
        label: VariantResult(result.scores, 0.1, [Image.new("RGB", (8, 8))])
        for label, result in measured.results.items()
    }
    report = comparison_report(measured, ImageSettings(SamplingSettings("ddpm", 4, 3.0, 32, 32)), "tiny")
    assert f"one: {verdict} at guidance 3, {found.gain} spreads of the scorers with weight 1" in report.text()
    assert ("recommended weight 1" in report.text()) is found.better
    assert report.data["findings"]["one.pt"]["verdict"] == verdict


def test_gains_of_scorers_with_other_units_are_added_as_rewards():
    """A rating of tens outweighs a cosine of hundredths only where its difference is as many spreads."""
    cosine = {"base": [0.20, 0.22] * 2, "half": [0.22, 0.24] * 2, "whole": [0.22, 0.24] * 2}
    rating = {"base": [50.0, 60.0] * 2, "half": [50.1, 60.1] * 2, "whole": [45.0, 55.0] * 2}
    published = {"cosine": Calibration(0.2, 0.01), "rating": Calibration(50.0, 5.0)}
    measured = some_comparison(published, cosine=cosine, rating=rating)
    half, whole = (variant.label for variant in measured.variants[1:])
    assert measured.reward_gain(half).value == pytest.approx((2 + 0.02) / 2)
    assert measured.reward_gain(whole).value == pytest.approx((2 - 1) / 2), (
        "in scores it would be a loss of 2.5"
    )
    unknown = some_comparison(cosine=cosine, rating=rating)
    scaled = some_comparison(
        cosine=cosine, rating={kind: [score / 100 for score in scores] for kind, scores in rating.items()}
    )
    assert unknown.reward_gain(whole).value == pytest.approx(scaled.reward_gain(whole).value), (
        "units do not matter"
    )
    assert unknown.reward_gain("base").value == 0
    flat = {kind: [0.5] * 4 for kind in ("base", "half", "whole")}
    assert some_comparison(flat=flat).reward_gain(whole).value == 0


def test_few_prompts_get_no_interval_and_no_recommendation():
    for prompts, few in ((9, True), (10, False)):
        # Two seeds per prompt: what counts are the prompts, not the images.
        variants = list_variants([Path("one.pt")], [1.0])
        measured = Comparison([f"{n % prompts}" for n in range(2 * prompts)], variants)
        for worth, variant in enumerate(variants):
            scores = {"x": [float(worth)] * 2 * prompts}
            measured.results[variant.label] = VariantResult(scores, 0.1, [Image.new("RGB", (8, 8))])
        settings = ImageSettings(SamplingSettings("ddpm", 4, 1.0, 32, 32))
        text = comparison_report(measured, settings, "tiny").text()
        assert ("9 prompts are too few to say" in text) is few
        assert ("recommended weight" in text) is not few
        assert ("1.0000 [1.0000, 1.0000]" in text) is not few
        assert ("100.00 % [100.00, 100.00]" in text) is not few


def test_the_win_matrix_is_complementary():
    measured = some_comparison(x={"base": [0, 0, 0, 0], "half": [1, -1, 1, 0], "whole": [2, 2, -2, 2]})
    matrix = measured.win_matrix("x")
    assert matrix[0][0] is None
    assert matrix[1][0] == (2 + 0.5) / 4
    for a in range(3):
        for b in range(3):
            if a != b:
                assert matrix[a][b] + matrix[b][a] == pytest.approx(1)


def test_files_of_other_makers_and_broken_ones(tmp_path):
    """A file that cannot be merged is refused before anything is generated."""
    make_checkpoint(tmp_path)
    from safetensors.torch import save_file

    layer = LoraLayer(torch.zeros(2, 2), torch.zeros(2, 2), 1.0)
    tensors = lora_file.to_tensors(
        known("sd1"), {"unet": {"mid_block.attentions.0.transformer_blocks.0.attn1.to_q": layer}}
    )
    save_file(tensors | {"lora_unet_x.lora_mid.weight": layer.up.clone()}, tmp_path / "locon.safetensors")
    (tmp_path / "p.txt").write_text("a cat")
    code = main(
        [
            "compare",
            str(tmp_path / "tiny.safetensors"),
            str(tmp_path / "locon.safetensors"),
            "--prompts",
            str(tmp_path / "p.txt"),
            "--output",
            str(tmp_path / "out"),
            "--cpu",
        ]
    )
    assert code == 1


def test_a_checkpoint_is_read_as_it_is_asked_for(tmp_path):
    make_checkpoint(tmp_path)
    request = ComparisonRequest(tmp_path / "tiny.safetensors", (), ("a cat",), tmp_path, cpu=True)
    parts = comparison.load_base(replace(request, prediction="v_prediction", precision="bf16"))
    assert parts.config.noise.prediction == "v_prediction"
    assert {parameter.dtype for parameter in parts.unet.parameters()} == {torch.bfloat16}
    assert comparison.load_base(request).config.noise.prediction == "epsilon"


def test_every_word_of_the_command_line_reaches_the_comparison(tmp_path):
    (tmp_path / "p.txt").write_text("a cat\na dog")
    given = {
        "scorer": "red",
        "lora_weight": 0.5,
        "sampler": "ddim",
        "steps": 3,
        "guidance": 2.0,
        "negative": "bad",
        "width": 64,
        "height": 96,
        "seed": 7,
        "seeds": 2,
        "batch_size": 5,
        "clip_skip": 2,
        "vae": "v.pt",
        "prediction": "epsilon",
        "precision": "bf16",
        "weights_dir": "scorers",
    }
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    flags = ["--keep-images", "--cpu", "--no-download"]
    said = ["base.safetensors", "lora.safetensors", "--prompts", str(tmp_path / "p.txt"), "--output", "out"]
    asked = compare.request_of(parse("compare", [*said, *words, *flags]))
    renamed = {
        "scorer": "scorers",
        "lora_weight": "weights",
        "weights_dir": "scorer_folder",
    }
    expected = {renamed.get(name, name): value for name, value in given.items()}
    expected |= {
        "scorers": ("red",),
        "weights": (0.5,),
        "vae": Path("v.pt"),
        "scorer_folder": Path("scorers"),
    }
    expected |= {"keep_images": True, "cpu": True, "download": False, "prompts": ("a cat", "a dog")}
    expected |= {
        "base": Path("base.safetensors"),
        "loras": (Path("lora.safetensors"),),
        "output": Path("out"),
    }
    assert vars(asked) == expected
    plain = compare.request_of(parse("compare", said))
    assert plain == ComparisonRequest(asked.base, asked.loras, asked.prompts, asked.output), (
        "the defaults stand once"
    )


def test_guidance_starts_from_what_the_webuis_start_from(tmp_path, monkeypatch):
    from imagereward_ext.evaluation import variants
    from tests.diffusion.tiny_models import tiny_parts

    negatives = []

    def generate(parts, cond, negative, *more):
        negatives.append(negative)
        return [torch.zeros(3, 16, 16)] * len(cond)

    monkeypatch.setattr(variants, "generate", generate)
    sampling = SamplingSettings("ddim", 2, 7.0, 16, 16)
    parts = tiny_parts(tmp_path, "sdxl")
    for negative in ("", "a dog"):
        settings = ImageSettings(sampling, negative)
        compare_variants(parts, list_variants([], []), ["a"], settings, {"red": redness})
    assert [bool(negative.states.any()) for negative in negatives] == [False, True]
