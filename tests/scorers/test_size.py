"""The size that a plan counts with is the size that loading takes, and telling it reads no weight."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from imagereward_ext.scorers import load_scorer, size
from imagereward_ext.scorers.size import size_of
from imagereward_ext.weights import catalogue, tensors


def test_a_folders_size_is_what_loading_it_takes(tiny_folder):
    scorer = load_scorer(str(tiny_folder), device="cpu", precision="fp32")
    assert size_of(str(tiny_folder)) == pytest.approx(scorer.size_in_bytes(), rel=0.01)
    assert size_of(tiny_folder.name, tiny_folder.parent) == size_of(str(tiny_folder))


def test_a_file_in_16_bit_counts_what_it_takes_in_32(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "half")
    weights = folder / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights)
    assert weights.stat().st_size < 0.6 * (tiny_folder / "model.safetensors").stat().st_size
    assert size_of(str(folder)) == size_of(str(tiny_folder))


def test_a_mix_is_its_parts_and_a_head_brings_its_tower(tiny_folder, tmp_path):
    parts = [{"scorer": name, "weight": 1} for name in (tiny_folder.name, "PickScore")]
    config = {"format": "imagereward-scorer/1", "name": "m", "label": "M"}
    for name, more in (("mixed", {"architecture": "mix", "settings": {"parts": parts}}),
                       ("head", {"architecture": "clip-mlp", "settings": {"tower": "CLIP"}})):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config | more))
    save_file({"layer.weight": torch.zeros(10, 10)}, tmp_path / "head" / "model.safetensors")
    shutil.copytree(tiny_folder, tmp_path / tiny_folder.name)
    pick, clip = (catalogue.ENTRIES[name].size_in_bytes for name in ("PickScore", "CLIP"))
    assert size_of("mixed", tmp_path) == size_of(str(tiny_folder)) + pick
    assert size_of("head", tmp_path) == 400 + clip


def test_a_published_scorer_counts_without_being_here_and_an_unknown_one_not(tmp_path):
    assert size_of("imagereward", tmp_path) == catalogue.ENTRIES["ImageReward-v1.0"].size_in_bytes
    assert size_of("nobody's", tmp_path) == 0


def test_no_weight_is_read(tiny_folder, monkeypatch):
    def opened(path):
        file = tensors.open_tensors(path)
        file._read = lambda name: pytest.fail(f"{name} was read")
        return file

    monkeypatch.setattr(size, "open_tensors", opened)
    assert size_of(str(tiny_folder)) > 0
