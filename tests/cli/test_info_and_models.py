"""`info` and `models`: what is known without loading anything."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from imagereward_ext.weights.catalogue import ENTRIES
from tests.cli.conftest import Command, save
from tests.tiny import make_tiny_scorer_folder


def test_info_shows_prompt_scores_and_parameters(command: Command, scoring: Command, gallery: Path) -> None:
    scoring("score", gallery / "0.png", "--prompt", "a dog, black", "--write")
    lines = [line.strip() for line in command("info", gallery / "0.png").out.splitlines()]
    assert lines[1:4] == [
        "prompt (from infotext): a (red:1.2) fox, <lora:fur:1> in snow 0",
        "as scored: a red fox, in snow 0",
        "negative: ugly",
    ]
    assert lines[4].startswith("Tiny: ")
    assert lines[4].endswith(', for "a dog, black")')
    assert "Sampler: Euler a" in lines
    assert not any(line.startswith("Tiny hash") for line in lines)


def test_info_for_programs(command: Command, scoring: Command, gallery: Path) -> None:
    scoring("score", gallery / "0.png", "--write")
    first, second = json.loads(command("info", gallery / "0.png", gallery / "1.png", "--json").out)
    assert first["negative_prompt"] == "ugly"
    assert first["parameters"]["Seed"] == "1"
    assert [score["label"] for score in first["scores"]] == ["Tiny"]
    assert second["scores"] == []
    (row, _) = csv.DictReader(io.StringIO(command("info", gallery / "0.png", gallery / "1.png", "--csv").out))
    assert json.loads(row["scores"]) == first["scores"]


def test_info_names_what_is_no_image(command: Command, gallery: Path) -> None:
    (gallery / "7.png").write_bytes(b"")
    (gallery / "8.jpg").write_text("hello")
    (gallery / "9.png").write_bytes((gallery / "0.png").read_bytes()[:50])
    result = command("info", gallery)
    assert result.code == 1
    assert [error.removeprefix(f"error: {gallery}/").split(" (")[0] for error in result.errors] == [
        "7.png: is empty",
        "8.jpg: is not an image, or of a kind that is not read here",
        "9.png: is truncated or damaged",
    ]
    assert result.out.count("negative: ugly") == 6


def test_info_reads_the_older_score_line(command: Command, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    data = path.read_bytes()
    assert data.count(b"Size: 48x40") == 1
    from imagereward_ext.metadata.containers import write_infotext
    from imagereward_ext.metadata.records import read

    write_infotext(path, read(path).infotext + "\n ImageReward Score: 0.5300")
    lines = command("info", path).out.splitlines()
    assert "  ImageReward: 0.5300 (weights unknown)" in lines
    assert "  Sampler: Euler a" in lines


def test_models_say_where_they_are_or_would_come_from(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    make_tiny_scorer_folder(home / "my-taste", name="my-taste", label="My taste")
    (home / "ImageReward.pt").write_bytes(b"weights")
    monkeypatch.setenv("IMAGEREWARD_HOME", str(home))
    result = command("models")
    assert result.code == 0
    assert f"  on disk: {home / 'ImageReward.pt'}" in result.out
    assert all(entry.name in result.out for entry in ENTRIES.values())
    assert (
        "  to download (0.2 MB): https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt"
        in result.out
    )
    assert f"my-taste\n  your own, stored as 'My taste': {home / 'my-taste'}" in result.out
    assert "demo-witness\n  the demo's, stored as 'DemoWitness': " in result.out
    assert f"\n  {home}\n" in result.out
    known = {record["name"]: record for record in json.loads(command("models", "--json").out)}
    assert known["my-taste"]["ready"] is True
    assert known["ImageReward-v1.0"]["ready"] is False  # its vocabulary is missing
    elsewhere = command("models", "--weights-dir", tmp_path / "none").out
    assert f"  {tmp_path / 'none'} (not there yet)\n  {home}\n" in elsewhere


def test_a_broken_model_folder_hides_no_other(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path))
    result = command("models")
    assert result.code == 1
    assert "is not valid JSON" in result.errors[0]
    assert "ImageReward-v1.0 (default)" in result.out
