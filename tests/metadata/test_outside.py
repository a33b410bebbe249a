"""Files before and after our writing, as programs of others see them: nothing but the mark differs."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imagereward_ext.metadata import exif, records
from imagereward_ext.metadata.score_mark import ScoreMark
from tests.fuzzing import containers
from tests.metadata.test_infotext import TYPICAL

pytestmark = pytest.mark.outside

MARK = ScoreMark("ImageReward", -0.5312, "1a2b3c4d5e", "a fox, 狐")
OUR_TEXT = {"PNG:Parameters", "ExifIFD:UserComment"}
COMES_WITH_EXIF = {"File:ExifByteOrder", "File:FileType", "RIFF:WebP_Flags"}
"""What a file tells as soon as it has EXIF at all: the order of its bytes, and that a WebP is an extended one."""


def encoded(format: str, picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def tags() -> bytes:
    block = Image.Exif()
    block[0x0112], block[0x010F] = 6, "Maker"
    block[0x8769] = {0x9003: "2024:01:02 03:04:05", 0x9286: b"UNICODE\0" + TYPICAL.encode("utf-16-be")}
    return block.tobytes()


def png_texts() -> PngInfo:
    info = PngInfo()
    info.add_text("parameters", TYPICAL)
    info.add_itxt("Title", "Füchse", lang="de", zip=True)
    info.add_text("workflow", "{}", zip=True)
    return info


PICTURE = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
ALPHA = Image.merge("RGBA", [PICTURE.getchannel(0)] * 4)
FRAMES = {"save_all": True, "append_images": [PICTURE.rotate(90), PICTURE.rotate(180)], "duration": 50}
PROFILE = Path(__file__).read_bytes()[:128]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
LAYOUTS: dict[str, Callable[[], bytes]] = {
    "plain.png": lambda: encoded("PNG", PICTURE),
    "texts.png": lambda: encoded("PNG", PICTURE, pnginfo=png_texts(), dpi=(72, 72)),
    "palette.png": lambda: encoded("PNG", PICTURE.convert("P"), transparency=3, pnginfo=png_texts()),
    "exif.png": lambda: encoded("PNG", PICTURE, exif=tags()),
    "animated.png": lambda: encoded("PNG", PICTURE, **FRAMES),
    "late text.png": lambda: containers.picture("PNG")[:-12]
    + containers.png_chunk(b"iTXt", b"parameters\0\0\0\0\0sp\xc3\xa4t")
    + containers.picture("PNG")[-12:],
    "plain.jpg": lambda: encoded("JPEG", PICTURE),
    "progressive.jpg": lambda: encoded("JPEG", PICTURE, progressive=True, quality=60),
    "tags.jpg": lambda: encoded("JPEG", PICTURE, exif=tags(), comment=b"a comment"),
    "xmp.jpg": lambda: containers.jpeg_with(
        containers.jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    ),
    "cmyk.jpg": lambda: encoded("JPEG", PICTURE.convert("CMYK")),
    "lossy.webp": lambda: encoded("WEBP", PICTURE),
    "lossless.webp": lambda: encoded("WEBP", PICTURE, lossless=True),
    "alpha.webp": lambda: encoded("WEBP", ALPHA),
    "lossless alpha.webp": lambda: encoded("WEBP", ALPHA, lossless=True),
    "animated.webp": lambda: encoded("WEBP", PICTURE, **FRAMES),
    "tags.webp": lambda: encoded("WEBP", PICTURE, exif=tags(), xmp=XMP),
    "prefix.webp": lambda: containers.webp_with(containers.webp_chunk(b"EXIF", exif.PREFIX + tags()[6:])),
}  # fmt: skip


@pytest.fixture(params=LAYOUTS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    path.write_bytes(LAYOUTS[request.param]())
    return path


def test_exiftool_sees_nothing_but_the_mark_differ(path: Path) -> None:
    before = exiftool(path)
    records.write_mark(path, MARK)
    after = exiftool(path)
    different = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert different & OUR_TEXT
    if "ExifTool:Warning" not in after:  # a prefix that does not belong there is gone
        different.discard("ExifTool:Warning")
    added = COMES_WITH_EXIF if OUR_TEXT.isdisjoint(before) else set()
    assert different <= OUR_TEXT | added, {name: (before.get(name), after.get(name)) for name in different}
    (text,) = {after[name] for name in different & OUR_TEXT}
    assert text == records.read(path).infotext
    assert records.read(path).mark("ImageReward") == MARK


def test_webpinfo_finds_no_error_and_the_same_chunks(path: Path) -> None:
    if path.suffix != ".webp":
        pytest.skip("webpinfo reads WebP files only")
    before = webpinfo(path)
    records.write_mark(path, MARK)
    assert [line for line in webpinfo(path) if not line.startswith(("VP8X", "EXIF"))] == [
        line for line in before if not line.startswith(("VP8X", "EXIF"))
    ]


def exiftool(path: Path) -> dict[str, Any]:
    """Read all tags, unknown ones and doubles too, with what exiftool finds wrong about the file."""
    command = [
        "exiftool",
        "-j",
        "-G1",
        "-a",
        "-u",
        "-b",
        "-warning",
        "-error",
        "-all",
        "-x",
        "System:all",
    ]
    done = subprocess.run([*command, str(path)], capture_output=True, check=False)
    (found,) = json.loads(done.stdout)
    return dict(found)


def webpinfo(path: Path) -> list[str]:
    """List the chunks with their lengths, from a file in which no error is found."""
    done = subprocess.run(["webpinfo", str(path)], capture_output=True, text=True, check=True)
    assert "No error detected." in done.stdout, done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("Chunk ")]
    return [f"{name} {length}" for _, name, *_, length in lines]
