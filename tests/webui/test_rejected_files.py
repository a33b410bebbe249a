import pytest

from imagereward_ext.errors import ImageError
from imagereward_ext.webui.job.rejected_files import discard, folder_for, last_numbered


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "00001-7.png"
    path.write_bytes(b"pixels")
    path.with_suffix(".txt").write_text("infotext")
    return path


def test_discard_takes_the_text_along_and_may_be_repeated(image):
    discard(image)
    discard(image)
    assert list(image.parent.iterdir()) == []


def test_what_cannot_be_deleted_is_named(image):
    text = image.with_suffix(".txt")
    text.unlink()
    text.mkdir()
    with pytest.raises(ImageError, match=r"00001-7\.txt could not be deleted"):
        discard(image)


def test_the_folder_is_beside_the_image_or_where_the_user_says(image, tmp_path):
    assert folder_for(image, "rejected") == image.parent / "rejected"
    assert folder_for(image, "") == image.parent / "rejected"
    assert folder_for(image, str(tmp_path / "elsewhere")) == tmp_path / "elsewhere"


def test_the_name_last_written_is_found(tmp_path):
    for name in ("a.png", "a-1.png"):
        (tmp_path / name).touch()
    assert last_numbered(tmp_path / "a.png").name == "a-1.png"
