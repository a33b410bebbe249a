"""A text goes into a file and nothing else of the file changes: pixels, foreign chunks, permissions."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence
from PIL.PngImagePlugin import PngInfo

from imagereward_ext import storage
from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata import exif, jpeg, png, records, score_mark, webp
from imagereward_ext.metadata.containers import read_texts, write_infotext
from imagereward_ext.metadata.found_text import FoundText
from tests.metadata.test_infotext import TYPICAL

TEXTS = [
    TYPICAL,
    "naïve café",
    "a 🦊 und ein Übel, 狐狸\nSteps: 1, Seed: 2, Size: 3x3",
    "שועל אדום, ثعلب أحمر",
    " ".join(f"word{i}" for i in range(2000)),
]
FORMATS = {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp"}


def image(size: tuple[int, int] = (23, 17), mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


def encoded(format: str, picture: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (picture or image()).save(file, format.upper(), **options)
    return file.getvalue()


def pixels(data: bytes | Path) -> list[bytes]:
    with Image.open(data if isinstance(data, Path) else io.BytesIO(data)) as opened:
        return [frame.convert("RGBA").tobytes() for frame in ImageSequence.Iterator(opened)]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(format: str, picture: Image.Image | None = None, **options: object) -> Path:
        path = tmp_path / f"image{FORMATS[format]}"
        path.write_bytes(encoded(format, picture, **options))
        return path

    return save


@pytest.mark.parametrize("text", TEXTS, ids=["typical", "latin", "emoji", "right-to-left", "long"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_text_comes_back_and_the_pixels_stay(saved: Callable[..., Path], format: str, text: str) -> None:
    path = saved(format)
    before = pixels(path)
    write_infotext(path, text)
    assert read_texts(path).infotext == FoundText(text)
    assert pixels(path) == before
    write_infotext(path, "short")
    assert read_texts(path).infotext == FoundText("short")
    assert pixels(path) == before


@pytest.mark.parametrize("text", TEXTS)
def test_pillow_reads_what_we_write_into_a_png(saved: Callable[..., Path], text: str) -> None:
    path = saved("PNG")
    write_infotext(path, text)
    with Image.open(path) as opened:
        assert opened.info["parameters"] == text


@pytest.mark.parametrize("format", ["JPEG", "WebP"])
@pytest.mark.parametrize("text", TEXTS)
def test_piexif_reads_what_we_write_and_we_read_what_it_writes(
    saved: Callable[..., Path], format: str, text: str
) -> None:
    """The WebUI reads and writes EXIF with piexif."""
    piexif = pytest.importorskip("piexif")
    from piexif import helper

    path = saved(format)
    comment = {
        "Exif": {piexif.ExifIFD.UserComment: helper.UserComment.dump("an old text", encoding="unicode")}
    }
    piexif.insert(piexif.dump(comment), str(path))
    assert read_texts(path).infotext.text == "an old text"
    before = pixels(path)
    write_infotext(path, text)
    with Image.open(path) as opened:
        block = piexif.load(opened.info["exif"])
    assert helper.UserComment.load(block["Exif"][piexif.ExifIFD.UserComment]) == text
    assert pixels(path) == before


def test_a_png_keeps_every_other_chunk_in_its_place(saved: Callable[..., Path]) -> None:
    info = PngInfo()
    info.add_text("Comment", "not ours")
    info.add_text("parameters", "old")
    info.add_itxt("Title", "Füchse", lang="de", zip=True)
    info.add_text("workflow", "{}", zip=True)
    path = saved("PNG", image(mode="P"), pnginfo=info, dpi=(72, 72), icc_profile=b"profile", transparency=3)
    path.write_bytes(path.read_bytes() + b"a stowaway behind the end")
    before = chunks(path.read_bytes())
    write_infotext(path, "new")
    after = chunks(path.read_bytes())
    assert [kind for kind, _ in after] == [kind for kind, _ in before]
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [((b"tEXt", b"parameters\0old"), (b"tEXt", b"parameters\0new"))]
    assert path.read_bytes().endswith(b"a stowaway behind the end")


def test_of_two_texts_in_a_png_the_one_that_counts_is_replaced_and_the_other_stays(
    saved: Callable[..., Path],
) -> None:
    info = PngInfo()
    info.add_text("parameters", "one")
    info.add_text("parameters", "two", zip=True)
    path = saved("PNG", pnginfo=info)
    assert read_texts(path).infotext.text == "two"  # as Pillow and so the WebUI take it
    write_infotext(path, "three")
    assert [content for kind, content in chunks(path.read_bytes()) if kind in (b"tEXt", b"zTXt")] == [
        b"parameters\0one",
        b"parameters\0three",
    ]


def text_chunk(kind: bytes, content: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:33] + chunk(kind, content) + data[33:]


def bad_checksum(data: bytes) -> bytes:
    return data[:33] + chunk(b"tEXt", b"parameters\0x")[:-1] + b"\0" + data[33:]


UNREADABLE = {
    "no UTF-8": (
        text_chunk(b"iTXt", b"parameters\0\0\0\0\0a f\xffx"),
        r'its text "parameters" is no UTF-8 \(byte 3\)',
    ),
    "cut off": (text_chunk(b"iTXt", b"parameters\0\0\0"), 'its text "parameters" is cut off'),
    "damaged": (text_chunk(b"zTXt", b"parameters\0\0rubbish"), "is compressed and damaged"),
    "half": (
        text_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a fox" * 9)[:-6]),
        "is compressed and cut off",
    ),
    "a bomb": (
        text_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"x" * 2**24)),
        "unfolds to more than 2,097,152 bytes",
    ),
    "long": (
        text_chunk(b"tEXt", b"parameters\0" + b"x" * 2**21),
        "has 2,097,163 bytes; more than 2,097,152 are not read",
    ),
    "too many letters": (
        text_chunk(b"tEXt", b"parameters\0" + b"x" * 200_000),
        "has 200,000 characters; more than 131,072",
    ),
    "checksum": (bad_checksum, "is damaged"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_text_that_cannot_be_read_is_kept_and_nothing_is_written(
    saved: Callable[..., Path], case: str
) -> None:
    spoil, reason = UNREADABLE[case]
    path = saved("PNG")
    path.write_bytes(spoil(path.read_bytes()))
    before = path.read_bytes()
    assert re.search(reason, records.read(path).flaw)
    with pytest.raises(MetadataError, match=rf"image\.png: .*{reason}.*; nothing is written over it"):
        records.write_mark(path, score_mark.ScoreMark("ImageReward", 0.25, "1a2b3c4d5e", "a fox"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("comment", "text", "reason"),
    [
        (b"UNICODE\0" + "a fox".encode("utf-16-be") + b"\xd8\0\0a", "a fox\ufffda", "is no UTF-16"),
        (b"UNICODE\0" + "a fox".encode("utf-16-be") + b"x", "a fox", "half a letter at the end"),
        (b"ASCII\0\0\0a \xff\x01 fox", "a \xff\x01 fox", "cannot be decoded"),
        (b"JIS\0\0\0\0\0a \xff fox", "a \xff fox", "cannot be decoded"),
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "WebP"])
def test_a_comment_that_cannot_be_read_whole_is_kept(
    saved: Callable[..., Path], format: str, comment: bytes, text: str, reason: str
) -> None:
    tags = Image.Exif()
    tags[0x8769] = {0x9286: comment}
    path = saved(format, exif=tags.tobytes())
    before = path.read_bytes()
    assert read_texts(path).infotext.text == text
    with pytest.raises(MetadataError, match=rf"its EXIF comment .*{reason}.*; nothing is written over it"):
        write_infotext(path, text + " and more")
    assert path.read_bytes() == before


@pytest.mark.parametrize("start", ["\ufeff", "\ufffe"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_text_that_starts_like_a_mark_of_byte_order_keeps_its_start(
    saved: Callable[..., Path], format: str, start: str
) -> None:
    path = saved(format)
    write_infotext(path, start + TYPICAL)
    assert read_texts(path).infotext.text == start + TYPICAL


def test_a_text_that_would_not_come_back_is_not_written(saved: Callable[..., Path]) -> None:
    path = saved("JPEG")
    before = path.read_bytes()
    with pytest.raises(MetadataError, match="would not come back as it was written"):
        write_infotext(path, "一" * 9)  # with the bytes of each pair exchanged, nine times the letter N
    assert path.read_bytes() == before


def test_half_a_letter_is_written_as_a_letter(saved: Callable[..., Path]) -> None:
    path = saved("JPEG")
    write_infotext(path, "a \ud800 fox")
    assert read_texts(path).infotext.text == "a \N{REPLACEMENT CHARACTER} fox"


def test_a_second_exif_chunk_of_a_webp_stays(saved: Callable[..., Path]) -> None:
    path = saved("WebP", exif=exif.PREFIX + exif.with_user_comment(b"", "one"))
    second = b"EXIF" + struct.pack("<I", 4) + b"more"
    data = path.read_bytes() + second
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    write_infotext(path, "three")
    assert read_texts(path).infotext.text == "three"
    assert path.read_bytes().endswith(second)


@pytest.mark.parametrize("size", [0, 4, 9])
@pytest.mark.parametrize("kind", [b"VP8X", b"VP8L", b"VP8 "])
def test_a_webp_whose_first_chunk_is_too_short_is_refused(
    saved: Callable[..., Path], kind: bytes, size: int
) -> None:
    path = saved("WebP")
    body = b"WEBP" + kind + struct.pack("<I", size) + b"\0" * (size + size % 2)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(MetadataError, match="does not start with a picture"):
        write_infotext(path, "text")


def test_a_text_behind_the_picture_is_found_and_replaced_there(saved: Callable[..., Path]) -> None:
    path = saved("PNG")
    data = path.read_bytes()
    late = chunk(b"iTXt", b"parameters\0\0\0\0\0sp\xc3\xa4t")
    path.write_bytes(data[:-12] + late + data[-12:])
    assert read_texts(path).infotext.text == "spät"
    write_infotext(path, "后来")
    assert [kind for kind, _ in chunks(path.read_bytes())][-2:] == [b"iTXt", b"IEND"]
    assert read_texts(path).infotext.text == "后来"


def test_an_animated_png_stays_animated(saved: Callable[..., Path]) -> None:
    frames = [image().rotate(angle) for angle in (0, 90, 180)]
    path = saved("PNG", frames[0], save_all=True, append_images=frames[1:], duration=50)
    before = pixels(path)
    assert len(before) == 3
    write_infotext(path, TYPICAL)
    assert pixels(path) == before


def test_an_animated_webp_stays_animated(saved: Callable[..., Path]) -> None:
    frames = [image().rotate(angle) for angle in (0, 90, 180)]
    path = saved("WebP", frames[0], save_all=True, append_images=frames[1:], duration=50, lossless=True)
    before = pixels(path)
    assert len(before) == 3
    write_infotext(path, TYPICAL)
    assert pixels(path) == before
    assert read_texts(path).infotext.text == TYPICAL


@pytest.mark.parametrize("format", ["JPEG", "WebP"])
def test_other_exif_tags_icc_and_xmp_survive(saved: Callable[..., Path], format: str) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6  # orientation
    tags[0x010F] = "Camera maker"
    tags[0x8769] = {0x9003: "2024:01:02 03:04:05"}
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    path = saved(format, exif=tags.tobytes(), icc_profile=b"a profile of its own" * 20)
    if format == "WebP":
        path.write_bytes(
            encoded(format, exif=tags.tobytes(), icc_profile=b"a profile of its own" * 20, xmp=xmp)
        )
    else:
        path.write_bytes(with_segment(path.read_bytes(), 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))
    for text in (TYPICAL, TYPICAL * 3, "short"):
        write_infotext(path, text)
        with Image.open(path) as opened:
            found = opened.getexif()
            assert (found[0x0112], found[0x010F]) == (6, "Camera maker")
            assert found.get_ifd(0x8769)[0x9003] == "2024:01:02 03:04:05"
            assert opened.info["icc_profile"] == b"a profile of its own" * 20
        if format == "WebP":
            assert path.read_bytes()[20] & 0x2C == 0x2C  # there are ICC, EXIF and XMP
        assert xmp in path.read_bytes()
        assert read_texts(path).infotext.text == text


@pytest.mark.parametrize("exif_tags", [{}, {0x927C: b"maker note" * 9}], ids=["none", "maker note"])
def test_a_jpeg_keeps_its_thumbnail_and_unknown_segments(
    saved: Callable[..., Path], exif_tags: dict[int, bytes]
) -> None:
    piexif = pytest.importorskip("piexif")
    tags = {"0th": {0x010F: b"Maker"}, "Exif": exif_tags, "1st": {0x0103: 6}}
    path = saved("JPEG", exif=piexif.dump({**tags, "thumbnail": encoded("JPEG", image((8, 8)))}))
    thumbnail = piexif.load(str(path))["thumbnail"]
    assert len(thumbnail) > 200
    path.write_bytes(with_segment(path.read_bytes(), 0xE2, b"FPXR\0 some offsets"))
    before = pixels(path)
    for text in (TYPICAL, "x", TYPICAL * 2):
        write_infotext(path, text)
        block = piexif.load(str(path))
        assert block["thumbnail"] == thumbnail
        assert block["0th"][0x010F] == b"Maker"
        assert exif_tags.items() <= block["Exif"].items()
        assert b"FPXR\0 some offsets" in path.read_bytes()
    assert pixels(path) == before


def test_a_file_grows_by_the_text_alone_when_a_score_is_written_again(saved: Callable[..., Path]) -> None:
    path = saved("JPEG", exif=Image.Exif().tobytes())
    write_infotext(path, TYPICAL)
    size = path.stat().st_size
    for more in range(1, 6):
        write_infotext(path, TYPICAL + "x" * more)
        assert path.stat().st_size == size + 2 * more


def test_a_jpeg_without_room_for_the_text_says_so_and_stays(saved: Callable[..., Path]) -> None:
    path = saved("JPEG")
    before = path.read_bytes()
    with pytest.raises(MetadataError, match=r"image\.jpg.*a JPEG holds at most 65,527.*PNG or WebP"):
        write_infotext(path, "x" * 33_000)
    assert path.read_bytes() == before
    write_infotext(path, "x" * 32_700)
    assert len(read_texts(path).infotext.text) == 32_700


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (23, 17), (300, 2)])
def test_a_plain_webp_becomes_an_extended_one(
    saved: Callable[..., Path], lossless: bool, mode: str, size: tuple[int, int]
) -> None:
    picture = image(size)
    if mode == "RGBA":
        picture = Image.merge("RGBA", [picture.getchannel(0)] * 4)
    path = saved("WebP", picture, lossless=lossless)
    before = pixels(path)
    write_infotext(path, TYPICAL)
    data = path.read_bytes()
    assert data[12:16] == b"VP8X"
    assert bool(data[20] & 0x08)  # there is EXIF
    assert bool(data[20] & 0x10) == (mode == "RGBA")
    assert len(data) == 8 + struct.unpack("<I", data[4:8])[0]
    assert pixels(path) == before
    with Image.open(path) as opened:
        assert (opened.size, opened.mode) == (size, mode)


@pytest.mark.parametrize(
    "value",
    [
        b"UNICODE\0" + "hallo, größer".encode("utf-16-le"),
        b"UNICODE\0" + "hallo, größer".encode("utf-16"),
        b"UNICODE\0" + "hallo, größer".encode("utf-16-be") + b"\0\0",
        b"ASCII\0\0\0" + "hallo, größer".encode(),
        b"ASCII\0\0\0" + "hallo, größer".encode("latin-1"),
        b"\0" * 8 + "hallo, größer".encode(),
        "hallo, größer".encode(),
    ],
)
def test_comments_of_other_programs_are_read(value: bytes) -> None:
    block = Image.Exif()
    block[0x8769] = {0x9286: value}
    assert exif.user_comment(block.tobytes().removeprefix(exif.PREFIX)).text == "hallo, größer"


@pytest.mark.parametrize("order", ["II", "MM"])
def test_blocks_of_either_byte_order_are_written(order: str) -> None:
    e = "<" if order == "II" else ">"
    block = order.encode() + struct.pack(
        e + "HIHHHII", 42, 8, 1, 0x0112, 3, 1, 6 if order == "II" else 6 << 16
    )
    block += b"\0" * 4
    written = exif.with_user_comment(block, TYPICAL)
    assert exif.user_comment(written).text == TYPICAL
    found = Image.Exif()
    found.load(exif.PREFIX + written)
    assert found[0x0112] == 6


def test_a_comment_that_claims_to_lie_behind_the_end_is_replaced() -> None:
    block = b"MM\0*" + struct.pack(">IHHHIII", 8, 1, 0x8769, 4, 1, 26, 0)
    block += struct.pack(">HHHIII", 1, 0x9286, 7, 9000, 90, 0)
    written = exif.with_user_comment(block, "a fox")
    assert exif.user_comment(written).text == "a fox"


@pytest.mark.parametrize("block", [b"rubbish", b"MM\0*\0\0\xff\xff", b"II*\0\x08\0\0\0\xff\xff"])
def test_a_broken_block_is_no_text_and_is_never_overwritten(block: bytes) -> None:
    assert exif.user_comment(block).text == ""
    with pytest.raises(MetadataError, match="EXIF block is broken"):
        exif.with_user_comment(block, "text")


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


@given(
    st.lists(st.tuples(st.sampled_from([b"tEXt", b"prIV", b"tIME", b"zTXt"]), st.binary(max_size=20))), texts
)
def test_any_foreign_png_chunk_survives(foreign: list[tuple[bytes, bytes]], text: str) -> None:
    data = encoded("PNG")
    extra = b"".join(chunk(kind, b"key\0" + content) for kind, content in foreign)
    data = data[:33] + extra + data[33:]
    written = rewritten(png.with_text, data, "parameters", text)
    assert png.read_texts(io.BytesIO(written), ["parameters"])["parameters"] == FoundText(text)
    assert [c for c in chunks(written) if not c[1].startswith(b"parameters\0")] == chunks(data)
    assert rewritten(png.with_text, written, "parameters", text) == written


@given(st.binary(max_size=30), st.binary(max_size=30), texts)
def test_any_foreign_segment_and_chunk_survives(one: bytes, two: bytes, text: str) -> None:
    text = "a: " + text  # a text without one ASCII letter may be of either byte order
    block = exif.with_user_comment(b"", text)
    data = with_segment(with_segment(encoded("JPEG"), 0xED, one), 0xFE, two)
    written = rewritten(jpeg.with_exif, data, block)
    assert exif.user_comment(jpeg.read_exif(io.BytesIO(written))).text == text.rstrip("\0")
    assert without(written, len(written) - len(data), after=20) == data
    simple = encoded("WebP")
    odd = b"PRIV" + struct.pack("<I", len(one)) + one + b"\0" * (len(one) % 2)
    data = b"RIFF" + struct.pack("<I", len(simple) - 8 + len(odd)) + simple[8:] + odd
    written = rewritten(webp.with_exif, data, block)
    assert exif.user_comment(webp.read_exif(io.BytesIO(written))).text == text
    assert odd in written
    assert pixels(written) == pixels(data)
    assert rewritten(webp.with_exif, written, block) == written


def test_permissions_stay(saved: Callable[..., Path]) -> None:
    path = saved("PNG")
    path.chmod(0o640)
    write_infotext(path, "text")
    assert stat.S_IMODE(path.stat().st_mode) == (0o640 if os.name != "nt" else 0o666)


def test_times_stay_when_that_is_asked_for(saved: Callable[..., Path]) -> None:
    path = saved("PNG")
    os.utime(path, ns=(10**18, 10**18 + 7))
    write_infotext(path, "text", keep_times=True)
    assert path.stat().st_mtime_ns == 10**18 + 7
    write_infotext(path, "another text")
    assert path.stat().st_mtime_ns > 10**18 + 7


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays_when_root_writes(saved: Callable[..., Path]) -> None:
    path = saved("PNG")
    path.chmod(0o640)
    os.chown(path, 1234, 2345)
    write_infotext(path, "text")
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 2345, 0o640)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="this system has no extended attributes")
def test_extended_attributes_stay(saved: Callable[..., Path]) -> None:
    path = saved("PNG")
    try:
        os.setxattr(path, "user.rating", b"5")
    except OSError:
        pytest.skip("this disk has no extended attributes")
    write_infotext(path, "text")
    assert os.getxattr(path, "user.rating") == b"5"


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_stays_a_link_and_what_it_leads_to_is_written(saved: Callable[..., Path]) -> None:
    path = saved("PNG")
    store = path.with_name("store.png")
    path.rename(store)
    path.symlink_to("store.png")
    write_infotext(path, "text")
    assert path.is_symlink()
    assert read_texts(store).infotext.text == "text"
    assert sorted(other.name for other in path.parent.iterdir()) == ["image.png", "store.png"]


def test_a_read_only_file_is_left_alone(saved: Callable[..., Path]) -> None:
    path = saved("PNG")
    before = path.read_bytes()
    path.chmod(0o444)
    with pytest.raises(MetadataError, match=r"image\.png: is read-only"):
        write_infotext(path, "text")
    assert path.read_bytes() == before


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_file_whole_and_nothing_beside_it(
    saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, format: str, call: str
) -> None:
    path = saved(format)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "write":  # the last bytes do not go out any more
        monkeypatch.setattr(f"imagereward_ext.metadata.{format.lower()}.bytes_between", failing_late(full))
    else:
        monkeypatch.setattr({"fsync": "os.fsync", "replace": "pathlib.Path.replace"}[call], full)
    with pytest.raises(MetadataError, match=r"image.*not written, No space left on device"):
        write_infotext(path, "text")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_name_as_long_as_a_file_system_allows_is_no_obstacle(saved: Callable[..., Path]) -> None:
    path = saved("PNG")
    path = path.rename(path.with_name("狐" * 83 + "_.png"))
    assert len(path.name.encode()) == 254
    write_infotext(path, TYPICAL)
    assert read_texts(path).infotext.text == TYPICAL


def test_the_file_is_closed_when_it_is_replaced(
    saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved("PNG")
    opened: list[BinaryIO] = []
    open_file, replace = Path.open, storage.replace

    def remembered(self: Path, *arguments: str) -> BinaryIO:
        opened.append(open_file(self, *arguments))
        return opened[-1]

    def as_windows_does(source: Path, target: Path) -> None:
        assert all(file.closed for file in opened)
        replace(source, target)

    monkeypatch.setattr(Path, "open", remembered)
    monkeypatch.setattr(storage, "replace", as_windows_does)
    write_infotext(path, TYPICAL)
    assert len(opened) >= 2
    assert read_texts(path).infotext.text == TYPICAL


def failing_late(full: Callable[[], None]) -> Callable[..., bytes]:
    """Read as ever, and meet the full disk when the rest of the file is copied."""

    def read(file: BinaryIO, start: int, end: int | None) -> bytes:
        if end is None:
            full()
        file.seek(start)
        return file.read(end - start)

    return read


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_file_is_named(saved: Callable[..., Path], format: str) -> None:
    path = saved(format)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(MetadataError, match=rf"image.*the {format} file is truncated"):
        write_infotext(path, "text")
    assert path.stat().st_size == 30


def test_a_format_that_holds_no_text_is_read_as_empty_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "image.png"  # the name lies
    image().save(path, "BMP")
    assert read_texts(path).infotext.text == ""
    with pytest.raises(MetadataError, match="PNG, JPEG and WebP files only"):
        write_infotext(path, "text")


@pytest.mark.parametrize("format", ["GIF", "AVIF"])
def test_texts_of_formats_that_are_only_read(tmp_path: Path, format: str) -> None:
    """The WebUI writes a GIF's comment and an AVIF's EXIF."""
    if f".{format.lower()}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow knows no {format}")
    path = tmp_path / f"image.{format.lower()}"
    block = exif.PREFIX + exif.with_user_comment(b"", TYPICAL)
    options = {"comment": TYPICAL.encode()} if format == "GIF" else {"exif": block}
    image((64, 64)).save(path, format, **options)
    assert read_texts(path).infotext.text == TYPICAL


def test_a_score_goes_into_a_file_and_comes_back(saved: Callable[..., Path]) -> None:
    info = PngInfo()
    info.add_text("parameters", TYPICAL)
    path = saved("PNG", pnginfo=info)
    mark = score_mark.ScoreMark("ImageReward", 0.25, "1a2b3c4d5e")
    records.write_mark(path, mark)
    assert records.read(path).mark("ImageReward") == mark
    changed = path.stat().st_mtime_ns
    records.write_mark(path, mark)
    assert path.stat().st_mtime_ns == changed  # the same again is no reason to touch the file


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    def walk() -> Iterator[tuple[bytes, bytes]]:
        position = 8
        while position < len(data):
            size, kind = struct.unpack_from(">I4s", data, position)
            content = data[position + 8 : position + 8 + size]
            assert data[position + 8 + size : position + 12 + size] == struct.pack(
                ">I", zlib.crc32(kind + content)
            )
            yield kind, content
            position += 12 + size
            if kind == b"IEND":
                return

    return list(walk())


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    segment = struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
    return data[:20] + segment + data[20:]  # behind the JFIF header, which is 18 bytes long


def without(data: bytes, count: int, after: int) -> bytes:
    return data[:after] + data[after + count :]


def rewritten(rewrite: Callable[..., Iterator[bytes]], data: bytes, *arguments: object) -> bytes:
    return b"".join(rewrite(io.BytesIO(data), *arguments))
