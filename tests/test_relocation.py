"""Moving and copying: an image with all that belongs to it is at one place, whatever happens on the way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from imagereward_ext import relocation
from imagereward_ext.errors import ImageError
from tests.fuzzing import interruptions


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "out" / "0.png"
    path.parent.mkdir()
    path.write_bytes(b"pixels")
    path.with_suffix(".txt").write_text("a fox")
    return path


@pytest.fixture
def away(tmp_path: Path) -> Path:
    return tmp_path / "away"


@pytest.fixture
def another_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def refusing(source: Path, target: Path, **options: Any) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", refusing)


def test_image_and_text_move_together(image: Path, away: Path) -> None:
    assert relocation.move(image, away) == away / "0.png"
    assert ((away / "0.png").read_bytes(), (away / "0.txt").read_text()) == (b"pixels", "a fox")
    assert names(away) == ["0.png", "0.txt"]
    assert names(image.parent) == []


def test_nothing_is_ever_overwritten(image: Path, away: Path) -> None:
    away.mkdir()
    (away / "0.png").write_bytes(b"was here first")
    (away / "0-1.txt").write_bytes(b"so was this")
    (away / "0-2.txt").symlink_to("nowhere")
    assert relocation.move(image, away) == away / "0-3.png"
    assert (away / "0-3.png").read_bytes() == b"pixels"
    assert (away / "0-3.txt").read_text() == "a fox"
    assert (away / "0.png").read_bytes() == b"was here first"
    assert (away / "0-1.txt").read_bytes() == b"so was this"


@pytest.mark.parametrize("taken", ["0.png", "0.txt"])
@pytest.mark.parametrize("disk", ["one disk", "another disk", "no hard links"])
def test_a_name_taken_meanwhile_is_left_to_who_took_it(
    image: Path, away: Path, monkeypatch: pytest.MonkeyPatch, taken: str, disk: str
) -> None:
    link, free_name = os.link, relocation.free_name

    def taken_after_a_look(image: Path, folder: Path) -> Path:
        name = free_name(image, folder)
        if not (away / taken).exists():
            (away / taken).write_bytes(b"quicker")
        return name

    def unable(source: Path, target: Path, **options: Any) -> None:
        if disk == "no hard links" or Path(source).parent != Path(target).parent:
            raise OSError(errno.EPERM if disk == "no hard links" else errno.EXDEV, "no")
        link(source, target, **options)

    monkeypatch.setattr(relocation, "free_name", taken_after_a_look)
    if disk != "one disk":
        monkeypatch.setattr(os, "link", unable)
    assert relocation.move(image, away) == away / "0-1.png"
    assert names(away) == sorted(["0-1.png", "0-1.txt", taken])
    assert (away / taken).read_bytes() == b"quicker"
    assert names(image.parent) == []


def test_a_text_that_belongs_to_another_image_too_is_left_with_it(image: Path, away: Path) -> None:
    image.with_suffix(".jpg").write_bytes(b"")
    relocation.move(image, away)
    assert image.with_suffix(".txt").read_text() == (away / "0.txt").read_text() == "a fox"
    (away / "0.txt").write_text("changed")
    assert image.with_suffix(".txt").read_text() == "a fox"


def test_a_copy_is_a_file_of_its_own(image: Path, away: Path) -> None:
    assert relocation.copy(image, away) == away / "0.png"
    (away / "0.png").write_bytes(b"changed")
    assert image.read_bytes() == b"pixels"
    assert names(image.parent) == names(away) == ["0.png", "0.txt"]


@pytest.mark.usefixtures("another_disk")
def test_on_another_disk_a_file_keeps_times_and_mode(image: Path, away: Path) -> None:
    image.chmod(0o440)
    os.utime(image, (1_000_000, 1_000_000))
    moved = relocation.move(image, away)
    assert moved.read_bytes() == b"pixels"
    assert (moved.stat().st_mtime, moved.stat().st_mode & 0o777) == (1_000_000, 0o440)
    assert names(away) == ["0.png", "0.txt"]
    assert names(image.parent) == []


@pytest.mark.usefixtures("another_disk")
@pytest.mark.parametrize(
    ("relocate", "says"),
    [
        (relocation.move, "moved to {} (No space left on device); it is where it was"),
        (relocation.copy, "copied to {} (No space left on device)"),
    ],
    ids=["move", "copy"],
)
@pytest.mark.parametrize("full_for", ["0.png", "0.txt"])
def test_a_disk_full_for_one_of_two_leaves_both_where_they_were(
    image: Path,
    away: Path,
    monkeypatch: pytest.MonkeyPatch,
    full_for: str,
    relocate: Callable[[Path, Path], Path],
    says: str,
) -> None:
    copyfile = relocation.shutil.copyfile

    def full(source: Path, target: Path) -> None:
        copyfile(source, target)
        if source.name == full_for:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(ImageError) as caught:
        relocate(image, away)
    assert str(caught.value) == f"{image}: could not be {says.format(away)}"
    assert names(image.parent) == ["0.png", "0.txt"]
    assert names(away) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("read_only", ["away", "out"])
def test_a_folder_that_must_not_be_changed_leaves_all_as_it_was(
    image: Path, away: Path, tmp_path: Path, read_only: str
) -> None:
    away.mkdir()
    (tmp_path / read_only).chmod(0o555)
    try:
        with pytest.raises(ImageError, match="it is where it was"):
            relocation.move(image, away)
    finally:
        (tmp_path / read_only).chmod(0o755)
    assert (names(image.parent), names(away)) == (["0.png", "0.txt"], [])


def test_a_disk_that_is_read_only_leaves_all_as_it_was(
    image: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "link", refusing)
    with pytest.raises(ImageError, match=r"\(Read-only file system\); it is where it was"):
        relocation.move(image, away)
    assert (names(image.parent), names(away)) == (["0.png", "0.txt"], [])


def test_a_source_that_cannot_be_taken_away_brings_all_back(
    image: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def refusing(self: Path, missing_ok: bool = False) -> None:
        if self == image.with_suffix(".txt"):  # the second of the two
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refusing)
    with pytest.raises(ImageError, match=r"\(Permission denied\); it is where it was"):
        relocation.move(image, away)
    assert (names(image.parent), names(away)) == (["0.png", "0.txt"], [])
    assert image.read_bytes() == b"pixels"


@pytest.mark.parametrize("name", ["0.png", "0.txt"])
@pytest.mark.parametrize("disk", ["one disk", "another disk"])
@pytest.mark.parametrize("way", ["another file", "the same file"])
def test_what_another_program_writes_meanwhile_is_not_taken_away(
    image: Path, away: Path, monkeypatch: pytest.MonkeyPatch, request: Any, name: str, disk: str, way: str
) -> None:
    if disk == "another disk":
        request.getfixturevalue("another_disk")
    leave_source = relocation._Transfer.leave_source

    def written_meanwhile(transfer: Any) -> None:
        if transfer.source.name == name:
            if way == "another file":
                transfer.source.unlink()
            transfer.source.write_bytes(b"newer and longer")
        leave_source(transfer)

    monkeypatch.setattr(relocation._Transfer, "leave_source", written_meanwhile)
    with pytest.raises(ImageError, match=r"\(it was changed meanwhile\); it is where it was"):
        relocation.move(image, away)
    assert (names(image.parent), names(away)) == (["0.png", "0.txt"], [])
    assert (image.parent / name).read_bytes() == b"newer and longer"


def test_an_image_that_is_called_like_a_text_is_moved(tmp_path: Path, away: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"pixels")
    assert relocation.move(tmp_path / "p.txt", away).read_bytes() == b"pixels"
    assert not (tmp_path / "p.txt").exists()


@pytest.mark.parametrize("fails", [False, True])
def test_a_read_only_file_moves_on_windows_too(
    image: Path, away: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    unlink = Path.unlink

    def as_on_windows(self: Path, missing_ok: bool = False) -> None:
        if self.exists() and not self.stat().st_mode & 0o200:
            raise PermissionError(errno.EACCES, "Access is denied")
        if fails and self == image.with_suffix(".txt"):
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(relocation, "_IS_WINDOWS", True)
    monkeypatch.setattr(Path, "unlink", as_on_windows)
    image.chmod(0o444)
    if fails:
        with pytest.raises(ImageError, match="it is where it was"):
            relocation.move(image, away)
    else:
        relocation.move(image, away)
    here, there = (away, image.parent) if not fails else (image.parent, away)
    assert (names(here), names(there)) == (["0.png", "0.txt"], [])
    assert (here / "0.png").stat().st_mode & 0o777 == 0o444


def test_what_cannot_be_undone_is_told_and_nothing_is_lost(
    image: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(self: Path, missing_ok: bool = False) -> None:
        if self.exists():
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refusing)
    with pytest.raises(ImageError, match=r"could not be undone: nothing is lost, look for .*0\.png"):
        relocation.move(image, away)
    assert names(image.parent) == ["0.png", "0.txt"]


@pytest.mark.parametrize("folder", ["file/rejected", "a\0b", "x" * 300])
def test_a_folder_that_cannot_be_made_leaves_the_image(image: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ImageError, match=r"0\.png: could not be moved to .* it is where it was"):
        relocation.move(image, tmp_path / folder)
    assert names(image.parent) == ["0.png", "0.txt"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_is_moved_as_a_link_that_leads_where_it_led(
    image: Path, tmp_path: Path, absolute: bool
) -> None:
    (tmp_path / "through").symlink_to(tmp_path / "a" / "deep", target_is_directory=True)
    (tmp_path / "a" / "deep").mkdir(parents=True)
    store = tmp_path / "a" / "store.png"
    image.rename(store)
    image.symlink_to(store if absolute else Path("..", "through", "..", "store.png"))
    moved = relocation.move(image, tmp_path / "far" / "away")
    assert moved.is_symlink()
    assert moved.samefile(store)
    assert not image.is_symlink()
    copied = relocation.copy(moved, tmp_path / "copies")
    assert not copied.is_symlink()
    assert copied.read_bytes() == b"pixels"


def test_no_interrupt_and_no_full_disk_takes_anything_apart() -> None:
    """Every call of the file system, in every act; every line, in the smallest one."""
    cases = [
        case
        for case in interruptions.every_case()
        if case.way != interruptions.LINE or case.act == interruptions.MOVE
    ]
    assert len(cases) > 300
    assert [(case, failure) for case in cases if (failure := interruptions.check(case))] == []


def test_lines_chosen_by_chance_do_no_harm_either() -> None:
    cases = islice(interruptions.cases(14), 150)
    assert [(case, failure) for case in cases if (failure := interruptions.check(case))] == []


def test_a_mover_that_undoes_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relocation, "_undo", lambda transfers, error: None)
    found = [case for case in islice(interruptions.cases(14), 100) if interruptions.check(case)]
    assert len(found) > 20
