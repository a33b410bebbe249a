"""Images from files, broken ones above all: one clear line, with the file and the cause."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from imagereward_ext.diffusion.prompts import PromptError, read_prompts
from imagereward_ext.errors import ImageError, ImageRewardError, MetadataError
from imagereward_ext.evaluation import generators
from imagereward_ext.images import MAX_PIXELS, find_images, open_image
from imagereward_ext.metadata import records
from imagereward_ext.rankings import read_rankings
from imagereward_ext.refl.pool import pixels_of
from imagereward_ext.storage import file_digest


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_an_image_is_decoded_and_its_file_is_let_go(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    image = open_image(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    assert image.tobytes() == gradient().tobytes()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_an_empty_file_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert refusal(tmp_path / name) == "is empty (0 bytes)"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".gif", ".tif"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_truncated_file_says_so(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    noise.save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert refusal(path).startswith(("is truncated or damaged (", "is not an image"))


def test_a_text_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    assert refusal(tmp_path / "a.png").startswith("is not an image")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "is a folder, not an image"


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.png") == "does not exist"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert refusal(tmp_path / "a.png") == "is no file, but a pipe or a device"
    with pytest.raises(MetadataError, match=r"a\.png: is no file, but a pipe or a device"):
        records.read(tmp_path / "a.png")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_to_itself_or_to_nothing_is_told_and_hides_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    gradient().save(tmp_path / "z.png")
    assert names(tmp_path, find_images([tmp_path], leave_out=[tmp_path / "loop.png"]).paths) == [
        "gone.png",
        "loop.png",
        "z.png",
    ]
    assert refusal(tmp_path / "loop.png").startswith("cannot be read (")
    assert refusal(tmp_path / "gone.png") == "does not exist"
    for name in ("loop.png", "gone.png"):
        with pytest.raises(MetadataError, match=name):
            records.read(tmp_path / name)


def test_an_unreadable_file_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    gradient().save(path)

    def denied(
        *_: object, **__: object
    ) -> None:  # a file without permissions would do, but the superuser reads everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", denied)
    assert refusal(path) == "cannot be read (Permission denied)"


def test_a_decompression_bomb_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(100_000, 100_000))
    assert refusal(path) == "claims to be larger than Pillow's own limit, and was not decoded"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as some hosts set it
    assert refusal(path).startswith("is 100,000 x 100,000 pixels large; more than 134 megapixels")
    assert Image.MAX_IMAGE_PIXELS is None
    assert MAX_PIXELS > 8192 * 12288


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / f"a{suffix}"
    frames[0].save(
        path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == ".webp" else {})
    )
    image = open_image(path)
    assert image.convert("RGB").getpixel((5, 5)) == (255, 0, 0)
    assert getattr(image, "n_frames", 1) == 1


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_greys_keep_their_shades(tmp_path: Path, suffix: str) -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    image = open_image(tmp_path / f"a{suffix}")
    assert image.mode == "L"
    assert np.abs(np.asarray(image) - values / 257).max() <= 1


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "P", "LA", "RGBA"])
def test_other_modes_stay_for_the_scorer_to_convert(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.tif")
    gradient().convert(mode).save(path)
    assert open_image(path).mode == mode


def test_a_turned_photograph_is_seen_upright(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6  # to be turned right by 90 degrees
    image = gradient(40, 30)
    image.save(tmp_path / "a.png", exif=tags)
    assert open_image(tmp_path / "a.png").tobytes() == image.transpose(Image.Transpose.ROTATE_270).tobytes()
    image.save(tmp_path / "b.jpg", exif=tags)
    assert open_image(tmp_path / "b.jpg").size == (30, 40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_take_the_picture_away(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff rubbish")
    assert open_image(tmp_path / "a.jpg").size == (40, 30)


@pytest.mark.parametrize("size", [(1, 1), (20000, 20), (20, 20000), (1, 3000)])
def test_odd_shapes_are_images_too(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").size == size


def test_folders_are_listed_as_people_sort(tmp_path: Path) -> None:
    for name in (
        "img10.png",
        "img2.PNG",
        "img1.webp",
        "notes.txt",
        ".img2.png.1234.part",
        ".hidden.png",
        "sub/a.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert names(tmp_path, find_images([tmp_path]).paths) == ["img1.webp", "img2.PNG", "img10.png"]
    assert names(tmp_path, find_images([tmp_path], recursive=True).paths)[-1] == str(Path("sub", "a.jpg"))
    without = find_images([tmp_path], recursive=True, leave_out=[tmp_path / "sub"])
    assert names(tmp_path, without.paths) == ["img1.webp", "img2.PNG", "img10.png"]


def test_a_file_named_twice_is_listed_once_and_the_order_is_the_users(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "odd.name"):
        (tmp_path / name).write_bytes(b"")
    found = find_images([tmp_path / "odd.name", tmp_path / "b.png", tmp_path, tmp_path / "*.png"])
    assert names(tmp_path, found.paths) == ["odd.name", "b.png", "a.png"]
    assert found.problems == []


def test_what_stands_for_no_image_is_a_problem_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    found = find_images([tmp_path / "none.png", tmp_path / "*.webp", tmp_path / "sub"])
    assert found.paths == []
    assert [str(problem) for problem in found.problems] == [
        f"{tmp_path / 'none.png'}: no such file or folder",
        f"{tmp_path / '*.webp'}: no such file or folder",
        f"{tmp_path / 'sub'}: no images in this folder (--recursive looks into its folders)",
    ]


def test_a_name_that_no_file_can_have_is_a_problem_of_its_own() -> None:
    name = "x" * 5000
    (problem,) = find_images([name]).problems
    assert str(problem).startswith(f"{name}: ")


def names(folder: Path, paths: list[Path]) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_no_reader_of_lists_waits_for_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "prompts.txt"
    os.mkfifo(pipe)
    for read in (read_prompts, generators.read_prompts):
        with pytest.raises(ImageRewardError, match=r"prompts\.txt cannot be read: it is no file, but a pipe"):
            read(pipe)
    with pytest.raises(OSError, match="a pipe or a device"):
        file_digest(pipe)
    with pytest.raises(ImageRewardError, match="is no file, but a pipe or a device"):
        pixels_of(pipe, 64, 64)
    (tmp_path / "train_1").mkdir()
    os.mkfifo(tmp_path / "train_1" / "train_1.json")
    with pytest.raises(ImageRewardError, match="holds no rankings"):
        read_rankings(tmp_path)


def test_a_folder_inside_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    gradient().save(tmp_path / "a.png")
    scandir = os.scandir

    def refusing(path: object) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refusing)
    found = find_images([tmp_path], recursive=True)
    assert names(tmp_path, found.paths) == ["a.png"]
    assert [str(problem) for problem in found.problems] == [
        f"{tmp_path / 'locked'}: cannot be read (Permission denied)"
    ]


@pytest.mark.parametrize("suffix", [".eps", ".ps", ".png"])
def test_a_page_description_is_not_handed_to_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript is started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    gradient().save(tmp_path / f"a{suffix}", "EPS")
    assert refusal(tmp_path / f"a{suffix}") == "is not an image, or of a kind that is not read here"
    assert records.read(tmp_path / f"a{suffix}").infotext == ""
    with pytest.raises(PromptError, match=r"is not an image, or of a kind that is not read here"):
        pixels_of(tmp_path / f"a{suffix}", 8, 8)
