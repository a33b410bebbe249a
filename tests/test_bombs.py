"""Small files of which Pillow makes much: refused before it sees them, and every honest file opened as before."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagereward_ext import bombs
from imagereward_ext.errors import ImageError
from imagereward_ext.images import open_image
from tests.fuzzing import containers
from tests.fuzzing.containers import (
    BOMBS,
    RATIONAL,
    UNDEFINED,
    exif_of_one_value,
    gif_comment,
    gif_with,
    jpeg_segment,
    jpeg_with,
    picture,
    png_chunk,
    png_with,
    tiff_end,
    tiff_of,
)
from tests.fuzzing.work import memory_of

SHORT, LONG, LONG8 = 3, 4, 16
EXIF, ORIENTATION = 0x8769, 0x0112
REFUSED = {
    "TIFF": "is a TIFF whose values claim more than the file holds",
    "JPEG": "is a JPEG whose EXIF claims more than it holds",
    "JPEG in pieces": "is a JPEG whose EXIF claims more than it holds",
    "index of a JPEG": "is a JPEG whose index of pictures claims more than it holds",
}


def written(folder: Path, data: bytes) -> Path:
    path = folder / "a.png"
    path.write_bytes(data)
    return path


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        bombs.refuse_bombs(io.BytesIO(data))
    return str(caught.value)


@pytest.mark.parametrize("name", BOMBS)
def test_no_small_file_takes_much_memory(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, BOMBS[name]())

    def open_it() -> None:
        if name in REFUSED:
            with pytest.raises(ImageError, match=REFUSED[name]):
                open_image(path)
        else:  # its metadata does not take the picture away
            assert open_image(path).size == (23, 17)

    size = path.stat().st_size
    assert memory_of(open_it) < containers.most_remembered(size), size


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("place", [0, None])
def test_values_of_one_place_are_counted_wherever_it_is(order: str, place: int | None) -> None:
    entries = [
        (tag, UNDEFINED, 2000, tiff_end(range(9)) if place is None else place) for tag in range(256, 265)
    ]
    assert "claim more than the file holds" in refusal(tiff_of(entries, b"x" * 2000, order))


def exif_by(*pointers: tuple[int, int, int, int]) -> bytes:
    """Make a TIFF with a harmless directory at 1000, the place 2000 at 1100 and a dear one at 2000."""
    dear = [(tag, UNDEFINED, 900, 0) for tag in range(256, 265)]
    head = tiff_of(pointers).ljust(1000, b"\0")
    harmless = tiff_of([])[8:].ljust(100, b"\0") + struct.pack("<Q", 2000)
    return (head + harmless).ljust(2000, b"\0") + tiff_of(dear)[8:]


@pytest.mark.parametrize(
    "pointers",
    [
        [(EXIF, LONG, 1, 2000)],
        [(EXIF, SHORT, 1, 0xFFFF_0000 + 2000)],
        [(EXIF, LONG8, 1, 1100)],
        [(EXIF, LONG, 1, 1000)] * 9 + [(EXIF, LONG, 1, 2000)],
        [(EXIF, LONG, 1, 2000), (EXIF, LONG, 1, 1000)],
    ],
)
def test_a_further_directory_is_found_however_it_is_named(pointers: list[tuple[int, int, int, int]]) -> None:
    assert "claim more than the file holds" in refusal(exif_by(*pointers))
    assert not bombs.is_bomb(exif_by((EXIF, LONG, 1, 1000)))


def test_directories_without_an_end_are_refused() -> None:
    assert bombs.is_bomb(tiff_of([(EXIF, LONG, 1, 8)]))


def test_what_pillow_takes_for_no_bigtiff_is_read_as_none() -> None:
    entries = [(tag, UNDEFINED, 2000, 0) for tag in range(256, 265)]
    data = tiff_of(entries, b"x" * 2000, ">")
    assert "claim more than the file holds" in refusal(data[:3] + b"\x2b" + data[4:])


def test_a_bigtiff_is_read_as_one() -> None:
    entries = b"".join(struct.pack("<HHQQ", tag, UNDEFINED, 2000, 0) for tag in range(256, 265))
    data = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 9) + entries + b"\0" * 8 + b"x" * 2000
    assert "claim more than the file holds" in refusal(data)
    many = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 70_000) + struct.pack("<HHQQ", 1, 1, 1, 1) * 70_000
    assert "claim more than the file holds" in refusal(many)


def test_more_numbers_than_any_picture_needs_are_refused() -> None:
    def tiff_of_numbers(count: int) -> bytes:
        return tiff_of([(282, RATIONAL, count, tiff_end([0]))], b"\1" * 8 * count)

    bombs.refuse_bombs(io.BytesIO(tiff_of_numbers(2**20)))
    assert "claim more than the file holds" in refusal(tiff_of_numbers(2**20 + 1))


def test_a_second_prefix_before_the_block_hides_nothing() -> None:
    assert bombs.is_bomb(b"Exif\0\0" * 2 + exif_of_one_value(9, 2000))


@pytest.mark.parametrize(
    "before",
    [b"\xff\xff", b"\xff\0", b"junk", jpeg_segment(0xED, b"\xff\xda"), b"\xff\xf0", b"\xff\xd8", b"\xff\xc8"],
)
def test_exif_is_found_behind_what_pillow_passes_over(before: bytes) -> None:
    data = jpeg_with(before, jpeg_segment(0xE1, b"Exif\0\0" + exif_of_one_value(9, 2000)))
    assert refusal(data) == REFUSED["JPEG"]


def test_what_stands_behind_the_picture_is_not_looked_at() -> None:
    data = picture("JPEG") + jpeg_segment(0xE1, b"Exif\0\0" + exif_of_one_value(9, 2000))
    bombs.refuse_bombs(io.BytesIO(data))


@pytest.mark.parametrize(
    "segments",
    [
        [jpeg_segment(0xE1, b"Exif\0\0" + b"x" * 65_000)] * 33,
        [jpeg_segment(0xE1, b"Exif\0\0" + b"x" * 65_000)] * 30 + [jpeg_segment(0xE1, b"Exif\0\0x")] * 1200,
        [b"junk" * 2**14],
    ],
)
def test_a_jpeg_of_too_many_pieces_is_refused(segments: list[bytes]) -> None:
    assert refusal(jpeg_with(*segments)).startswith(
        ("is a JPEG with more than", "is a JPEG whose EXIF has more")
    )


LONG_COMMENT = gif_comment(b"x" * 70_000, piece=1)


@pytest.mark.parametrize(
    "extensions",
    [
        [gif_comment(b"x" * 2**21)],
        [LONG_COMMENT],
        [b"\0", LONG_COMMENT],
        [b"!\xff\x0bNETSCAPE2.0\0\x01,\0", LONG_COMMENT],
        [b"!\x01\0\x01,\0", LONG_COMMENT],
        [gif_comment(b"x")] * 70_000,
        [b"\0" * 70_000],
    ],
)
def test_a_comment_that_pillow_would_copy_over_and_over_is_refused(extensions: list[bytes]) -> None:
    assert refusal(gif_with(*extensions)).startswith("is a GIF with too long a comment, or too many pieces")


def test_an_infotext_in_a_gif_is_no_bomb(tmp_path: Path) -> None:
    comment = ("\U0001f98a" * 2**17).encode()
    image = open_image(written(tmp_path, gif_with(gif_comment(comment))))
    assert image.info["comment"] == comment


@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [
        ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "CMYK", {"compression": "jpeg"}),
        ("TIFF", "1", {"compression": "group4"}),
        ("TIFF", "P", {"save_all": True, "append_images": [Image.new("P", (9, 9))] * 3}),
        ("TIFF", "L", {"exif": True}),
        ("JPEG", "RGB", {"exif": True, "dpi": (72, 72)}),
        ("MPO", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]}),
        ("PNG", "RGB", {"exif": True}),
        ("WEBP", "RGB", {"exif": True}),
        ("GIF", "P", {"comment": "a fox", "save_all": True, "append_images": [Image.new("P", (9, 9))]}),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (300, 200)])
def test_what_pillow_writes_is_opened(
    tmp_path: Path, format: str, mode: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    tags = Image.Exif()
    tags[ORIENTATION], tags[0x010F] = 6, "Maker"
    tags[EXIF] = {0x9286: b"UNICODE\0" + b"\0a" * 5000, 0x829A: (1, 60), 0xA005: {1: "R98"}}
    tags[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    tags.load(tags.tobytes())
    options = {**options, **({"exif": tags} if "exif" in options else {})}
    Image.new(mode, size).save(tmp_path / "a.png", format, **options)
    assert open_image(tmp_path / "a.png").size == (size[::-1] if "exif" in options else size)


def test_a_picture_is_turned_as_imagemagick_noted(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = 6
    profile = b"\nexif\n      26\n" + tags.tobytes().hex().encode()
    data = png_with(png_chunk(b"tEXt", b"Raw profile type exif\0" + profile))
    assert open_image(written(tmp_path, data)).size == (17, 23)
