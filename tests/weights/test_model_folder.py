"""A model folder comes from anybody: what it says reaches no other field, no other file, no terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagereward_ext.errors import WeightsError
from imagereward_ext.metadata.score_mark import ScoreMark
from imagereward_ext.scorers.size import size_of
from imagereward_ext.weights import catalogue, locate
from imagereward_ext.weights.labels import check_label, label_of
from imagereward_ext.weights.model_folder import ModelConfig, read_config, write_config

GOOD = {"format": "imagereward-scorer/1", "architecture": "image-reward", "name": "mine", "label": "Mine"}


def folder_with(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**GOOD, **changes}), encoding="utf-8")
    return folder


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = ModelConfig(
        "image-reward", "mine", "My taste", 0.5, 2.0, "sub/m.safetensors", {"vocabulary": "v.txt"}
    )
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config


@pytest.mark.parametrize(
    "label",
    ["Steps", "steps", "CFG  scale", "Sampler", "Schedule type", "Seed", "Size", "Model", "Model hash", "VAE", "Clip skip",
     "Denoising strength", "Hires upscale", "Hires", "Lora hashes", "TI hashes", "Hashes", "Version", "Negative",
     "Negative prompt", "Lora", "Refiner", "ControlNet 0", "ADetailer model", "Variation seed", "X Type", "Init image",
     "a: b", "a, b", "a\nb", '"a"', "", " a", "a" * 91, "\x1b[2J", "Taste-v1.5", "A+", "x", "\u00c4"],
)  # fmt: skip
def test_a_label_that_is_no_ones_own_is_refused_on_writing_and_replaced_on_reading(
    tmp_path: Path, label: str
) -> None:
    with pytest.raises(WeightsError, match="the label .* (write over|cannot stand)") as refusal:
        write_config(tmp_path, ModelConfig("mix", "mine", label))
    assert str(refusal.value).isprintable()
    assert not (tmp_path / "config.json").exists()
    read = read_config(folder_with(tmp_path / "m", label=label)).label
    assert read != label and check_label(read) == read == label_of(label)


@pytest.mark.parametrize("label", [7, None, ["a"]])
def test_a_label_that_is_no_text_is_refused(tmp_path: Path, label: object) -> None:
    with pytest.raises(WeightsError, match="config.json: label is no text"):
        read_config(folder_with(tmp_path / "m", label=label))
    with pytest.raises(WeightsError, match="the label"):
        write_config(tmp_path, ModelConfig("mix", "mine", label))  # type: ignore[arg-type]


@pytest.mark.parametrize("label", ["a" * 90, "Taste-2/3", "2nd", "\u00c4rger", "A_b c"])
def test_a_score_can_stand_under_every_label_that_is_taken(label: str) -> None:
    assert ScoreMark(check_label(label), 1.0, "0" * 10, "a cat").fields()


def test_labels_of_every_published_scorer_and_usual_ones_are_taken() -> None:
    for label in [*(entry.label for entry in catalogue.ENTRIES.values()), "My taste", "Taste-2/3", "Seedling",
                  "Stepsister", "Sizes", "Versions"]:  # fmt: skip
        assert check_label(label) == label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("my-taste", "my-taste"),
        ("model", "Reward model"),
        ("Steps", "Reward Steps"),
        ("vae 2", "Reward vae 2"),
        ("v1.2", "Reward v1 2"),
        ("a, b: c", "Reward a b c"),
        ("m", "Reward m"),
        ("\u2192", "Reward"),
        ("", "Reward"),
        ("x" * 120, f"Reward {'x' * 40}"),
    ],
)
def test_any_name_gives_a_label_that_an_image_can_hold(tmp_path: Path, name: str, label: str) -> None:
    assert check_label(label_of(name)) == label
    assert ScoreMark(label, 1.0).fields()
    if name:  # a model made when every name was a label
        assert read_config(folder_with(tmp_path / "m", name=name, label=name)).label == label


@pytest.mark.parametrize(
    "name", ["../m.safetensors", "a/../../m", "/etc/passwd", "C:\\m", "C:m", "..\\m", "\\\\host\\m", "", "..", "a\nb", 5, None]
)  # fmt: skip
def test_files_outside_the_folder_are_refused(tmp_path: Path, name: object) -> None:
    for changes in ({"weights": name}, {"companions": {"vocabulary": name}}):
        folder = folder_with(tmp_path / "m", **changes)
        with pytest.raises(WeightsError, match="lies outside the model's folder|no plain text"):
            read_config(folder)
        with pytest.raises(WeightsError):
            size_of(str(folder))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "a\x1b[31mb"}, "the name 'a.x1b.31mb' cannot be a model's"),
        ({"name": "evil\u202egnp"}, "cannot be a model's"),
        ({"name": ""}, "cannot be a model's"),
        ({"name": {}}, "cannot be a model's"),
        ({"mean": "0"}, "mean is no number"),
        ({"mean": float("nan")}, "mean is no number"),
        ({"std": 0}, "std is 0"),
        ({"std": True}, "std is no number"),
        ({"companions": ["a"]}, "companions is no object"),
        ({"settings": 3}, "settings is no object"),
        ({"architecture": []}, "architecture is no text"),
    ],
)
def test_values_of_a_wrong_kind_are_named(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(WeightsError, match=reason):
        read_config(folder_with(tmp_path / "m", **changes))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, " " * 2**20 + "{}"])
def test_json_that_is_a_burden_is_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=r"config.json (is nested too deeply|takes more than)"):
        read_config(tmp_path)


def test_a_folder_whose_name_controls_a_terminal_is_no_model(tmp_path: Path) -> None:
    folder_with(tmp_path / "good")
    folder_with(tmp_path / "evil\x1b[2J")
    assert list(locate.model_folders(tmp_path)) == ["good"]
