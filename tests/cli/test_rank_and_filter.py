"""`rank` and `filter`: the order of images, and where they go."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

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
    link = os.link

    def refusing(source: Path, target: Path, **options: Any) -> None:
        if source.name == "3.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", refusing)
    result = scoring("filter", gallery, "--limit", 99, "--move-to", tmp_path / "away", "--json")
    assert result.code == 1
    assert result.errors == [
        f"error: {gallery / '3.png'}: could not be moved to {tmp_path / 'away'} (Permission denied); it is where it was"
    ]
    assert names(gallery) == ["3.png"]
    assert names(tmp_path / "away") == ["0.png", "1.png", "2.png", "4.png", "5.png"]
    assert "Permission denied" in records(result.out)["3.png"]["error"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_moved_as_links_that_still_lead_somewhere(
    scoring: Command, gallery: Path, tmp_path: Path
) -> None:
    (gallery / "0.png").rename(tmp_path / "kept elsewhere.png")
    (gallery / "0.png").symlink_to(Path("..", "kept elsewhere.png"))
    (gallery / "loop.png").symlink_to("loop.png")
    (gallery / "gone.png").symlink_to("nowhere.png")
    away = tmp_path / "far" / "away"
    result = scoring("filter", gallery, "--limit", 99, "--move-to", away)
    assert result.code == 1
    assert [line.split(": ")[1] for line in result.errors] == [
        str(gallery / "gone.png"),
        str(gallery / "loop.png"),
    ]
    assert (away / "0.png").is_symlink()
    assert (away / "0.png").samefile(tmp_path / "kept elsewhere.png")
    assert names(gallery) == ["gone.png", "loop.png"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("moved_before", [0, 2])
def test_ctrl_c_waits_for_the_file_at_hand_and_the_count_is_true(
    scoring: Command, gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved_before: int
) -> None:
    for number in range(6):
        (gallery / f"{number}.txt").write_text("a fox")
    unlink = Path.unlink
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(self: Path, missing_ok: bool = False) -> None:
        if self.name == f"{moved_before}.png":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", interrupted)
    try:
        result = scoring("filter", gallery, "--limit", 99, "--move-to", tmp_path / "away")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.code == 130
    assert result.err.splitlines()[-1] == (
        f"stopped: {moved_before + 1} of 6 images sorted, all files are whole"
    )
    assert names(tmp_path / "away") == sorted(
        f"{number}{suffix}" for number in range(moved_before + 1) for suffix in (".png", ".txt")
    )
