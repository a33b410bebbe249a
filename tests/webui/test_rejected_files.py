import errno
import os

import pytest

from imagereward_ext.errors import ImageError
from imagereward_ext.webui.job import rejected_files
from imagereward_ext.webui.job.rejected_files import discard, folder_for, free_name, move


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "00001-7.png"
    path.write_bytes(b"pixels")
    path.with_suffix(".txt").write_text("infotext")
    return path


def test_image_and_text_move_together(image):
    target = move(image, image.parent / "rejected")
    assert target == image.parent / "rejected" / "00001-7.png"
    assert target.read_bytes() == b"pixels" and target.with_suffix(".txt").read_text() == "infotext"
    assert not image.exists() and not image.with_suffix(".txt").exists()


def test_names_stay_unique_for_image_and_text(image):
    folder = image.parent / "rejected"
    folder.mkdir()
    (folder / "00001-7.png").write_bytes(b"older")
    (folder / "00001-7-1.txt").write_text("a text without image")
    assert move(image, folder).name == "00001-7-2.png"
    assert (folder / "00001-7.png").read_bytes() == b"older"


def test_a_folder_that_cannot_be_made_leaves_the_image(image):
    blocked = image.parent / "file"
    blocked.write_text("in the way")
    with pytest.raises(ImageError, match=r"00001-7\.png could not be moved"):
        move(image, blocked / "rejected")
    assert image.read_bytes() == b"pixels" and image.with_suffix(".txt").exists()


@pytest.mark.parametrize("cross_disk", [False, True])
def test_a_full_disk_leaves_image_and_text(image, monkeypatch, cross_disk):
    real = os.rename

    def rename(source, target):
        if str(source).endswith(".png"):
            raise OSError(errno.EXDEV if cross_disk else errno.ENOSPC, "no space left on device")
        real(source, target)

    def copy(source, target):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(rejected_files.shutil, "copy2", copy)
    with pytest.raises(ImageError, match="no space left"):
        move(image, image.parent / "rejected")
    assert image.read_bytes() == b"pixels" and image.with_suffix(".txt").read_text() == "infotext"
    assert list((image.parent / "rejected").iterdir()) == []


def test_another_disk_is_copied_to(image, monkeypatch):
    def rename(source, target):
        raise OSError(errno.EXDEV, "cross-device link")

    monkeypatch.setattr(os, "rename", rename)
    target = move(image, image.parent / "rejected")
    assert target.read_bytes() == b"pixels" and target.with_suffix(".txt").read_text() == "infotext"
    assert not image.exists() and not image.with_suffix(".txt").exists()


def test_discard_takes_the_text_along_and_may_be_repeated(image):
    discard(image)
    discard(image)
    assert list(image.parent.iterdir()) == []


def test_the_folder_is_beside_the_image_or_where_the_user_says(image, tmp_path):
    assert folder_for(image, "rejected") == image.parent / "rejected"
    assert folder_for(image, "") == image.parent / "rejected"
    assert folder_for(image, str(tmp_path / "elsewhere")) == tmp_path / "elsewhere"


def test_free_name_counts_on(tmp_path):
    for name in ("a.png", "a-1.png"):
        (tmp_path / name).touch()
    assert free_name(tmp_path, "a.png").name == "a-2.png"
