"""`rank` and `filter`: the order of images, and where they go."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from imagereward_ext.cli import relocation
from imagereward_ext.errors import ImageError
from tests.cli.conftest import Command, save


def records(out: str) -> dict[str, dict[str, Any]]:
    return {Path(record["file"]).name: record for record in json.loads(out)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_ranking_runs_from_best_to_worst(scoring: Command, gallery: Path) -> None:
    ranking = json.loads(scoring("rank", gallery, "--json").out)
    scores = [record["score"] for record in ranking]
    assert [record["place"] for record in ranking] == [1, 2, 3, 4, 5, 6]
    assert scores == sorted(scores, reverse=True)
    top = scoring("rank", gallery, "--top", 2).out.splitlines()
    assert [line.split()[0] for line in top] == ["1", "2"]
    assert [line.split()[2] for line in top] == [record["file"] for record in ranking[:2]]


def test_folders_inside_are_looked_into_when_asked(scoring: Command, gallery: Path) -> None:
    (gallery / "sub").mkdir()
    save(gallery / "sub" / "deep.webp", 8, prompt=None)
    (gallery / "sub" / "deep.txt").write_text("a fox", encoding="utf-8")
    assert "deep.webp" not in records(scoring("rank", gallery, "--json").out)
    assert "deep.webp" in records(scoring("rank", gallery, "--recursive", "--json").out)


def test_an_image_without_a_score_has_no_place(scoring: Command, gallery: Path) -> None:
    (gallery / "broken.png").write_bytes(b"")
    result = scoring("rank", gallery)
    assert result.code == 1
    assert len(result.out.splitlines()) == 6


def test_without_a_place_to_put_them_images_are_only_judged(scoring: Command, gallery: Path) -> None:
    before = names(gallery)
    result = scoring("filter", gallery, "--limit", "-0.5", "--json")
    assert result.code == 0
    assert all(record["kept"] == (record["score"] >= -0.5) for record in json.loads(result.out))
    assert names(gallery) == before


def test_weak_images_move_away_and_a_second_run_moves_nothing(scoring: Command, gallery: Path) -> None:
    judged = records(scoring("filter", gallery, "--best", 2, "--json").out)
    weak = [name for name, record in judged.items() if not record["kept"]]
    assert len(weak) == 4
    (gallery / f"{Path(weak[0]).stem}.txt").write_text("a fox")
    rejected = gallery / "rejected"
    result = scoring("filter", gallery, "--best", 2, "--move-to", rejected, "--recursive", "--json")
    assert result.code == 0
    assert names(rejected) == sorted([*weak, f"{Path(weak[0]).stem}.txt"])
    assert sorted(name for name in names(gallery) if name != "rejected") == sorted(set(judged) - set(weak))
    moved = {name: record.get("moved_to") for name, record in records(result.out).items()}
    assert {name for name, place in moved.items() if place} == set(weak)
    again = scoring("filter", gallery, "--best", 2, "--move-to", rejected, "--recursive")
    assert again.code == 0
    assert len(again.out.splitlines()) == 2  # what lies in rejected is not judged again


def test_a_second_run_that_finds_all_moved_still_prints_json(
    scoring: Command, gallery: Path, tmp_path: Path
) -> None:
    options = ["--limit", 99, "--move-to", gallery / "rejected", "--recursive", "--json"]
    assert len(json.loads(scoring("filter", gallery, *options).out)) == 6
    again = scoring("filter", gallery, *options)
    assert (again.code, json.loads(again.out)) == (0, [])


def test_a_dry_run_touches_nothing(scoring: Command, gallery: Path, tmp_path: Path) -> None:
    before = names(gallery)
    options = ["--best", 2, "--move-to", tmp_path / "away", "--copy-to", tmp_path / "best"]
    result = scoring("filter", gallery, *options, "--dry-run")
    assert result.out.count(f"(would be moved to {tmp_path / 'away'}") == 4
    assert result.out.count(f"(would be copied to {tmp_path / 'best'}") == 2
    assert names(gallery) == before
    assert names(tmp_path) == ["out"]


def test_good_images_are_copied(scoring: Command, gallery: Path, tmp_path: Path) -> None:
    result = scoring("filter", gallery, "--best", 2, "--copy-to", tmp_path / "best", "--json")
    kept = {name for name, record in records(result.out).items() if record["kept"]}
    assert set(names(tmp_path / "best")) == kept
    assert len(names(gallery)) == 6
    for name in kept:
        assert (tmp_path / "best" / name).read_bytes() == (gallery / name).read_bytes()


def test_all_may_be_dropped_and_what_has_no_score_stays(
    scoring: Command, gallery: Path, tmp_path: Path
) -> None:
    (gallery / "broken.png").write_bytes(b"")
    result = scoring("filter", gallery, "--limit", 99, "--move-to", tmp_path / "away")
    assert result.code == 1
    assert names(gallery) == ["broken.png"]
    assert len(names(tmp_path / "away")) == 6


def test_a_move_that_fails_is_listed_and_the_rest_goes_on(
    scoring: Command, gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def refusing(self: Path, target: Path) -> Path:
        if self.name == "3.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refusing)
    result = scoring("filter", gallery, "--limit", 99, "--move-to", tmp_path / "away", "--json")
    assert result.code == 1
    assert result.errors == [
        f"error: {gallery / '3.png'}: could not be brought to {tmp_path / 'away'} (Permission denied)"
    ]
    assert names(gallery) == ["3.png"]
    assert names(tmp_path / "away") == ["0.png", "1.png", "2.png", "4.png", "5.png"]
    assert "Permission denied" in records(result.out)["3.png"]["error"]


def test_nothing_is_ever_overwritten(gallery: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "0.png").write_bytes(b"was here first")
    (away / "0-1.txt").write_bytes(b"so was this")
    (gallery / "0.txt").write_text("a fox")
    content = (gallery / "0.png").read_bytes()
    assert relocation.move(gallery / "0.png", away) == away / "0-2.png"
    assert (away / "0-2.png").read_bytes() == content
    assert (away / "0-2.txt").read_text() == "a fox"
    assert (away / "0.png").read_bytes() == b"was here first"
    assert (away / "0-1.txt").read_bytes() == b"so was this"
    assert not (gallery / "0.txt").exists()


def test_a_text_that_belongs_to_another_image_too_is_left_with_it(gallery: Path, tmp_path: Path) -> None:
    (gallery / "0.txt").write_text("a fox")
    (gallery / "0.jpg").write_bytes(b"")
    relocation.move(gallery / "0.png", tmp_path / "away")
    assert (gallery / "0.txt").read_text() == (tmp_path / "away" / "0.txt").read_text() == "a fox"


def test_a_file_is_moved_to_another_disk(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gallery / "0.png"
    path.chmod(0o640)
    os.utime(path, (1_000_000, 1_000_000))
    content = path.read_bytes()
    replace = Path.replace

    def refusing(self: Path, target: Path) -> Path:
        if self.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refusing)
    moved = relocation.move(path, tmp_path / "away")
    assert moved.read_bytes() == content
    assert moved.stat().st_mtime == 1_000_000
    assert not path.exists()


@pytest.mark.parametrize("other_disk", [False, True])
def test_ctrl_c_right_after_a_move_loses_nothing(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_disk: bool
) -> None:
    path, away = gallery / "0.png", tmp_path / "away"
    content = path.read_bytes()
    replace, unlink = Path.replace, Path.unlink

    def stopped_replace(self: Path, target: Path) -> Path:
        if self == path and other_disk:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        result = replace(self, target)
        if self == path:
            raise KeyboardInterrupt
        return result

    def stopped_unlink(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok=missing_ok)
        if self == path:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stopped_replace)
    monkeypatch.setattr(Path, "unlink", stopped_unlink)
    with pytest.raises(KeyboardInterrupt):
        relocation.move(path, away)
    assert (away / "0.png").read_bytes() == content


def test_a_copy_that_fails_leaves_nothing_behind(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(
        ImageError, match=r"0\.png: could not be brought to .*away \(No space left on device\)"
    ):
        relocation.copy(gallery / "0.png", tmp_path / "away")
    assert names(tmp_path / "away") == []
    assert (gallery / "0.png").exists()
