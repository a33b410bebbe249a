"""PNG, JPEG, WebP, TIFF and GIF files: in every layout that is about, broken at any place, and with sizes that lie."""

from __future__ import annotations

import functools
import io
import random
import struct
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageSequence

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.images import as_seen, opened, refuse_giants
from imagereward_ext.metadata import exif, records
from imagereward_ext.metadata.score_mark import ScoreMark
from tests.fuzzing import texts, without_a_part
from tests.fuzzing.work import memory_of

MARK = ScoreMark("ImageReward", 0.25, "1a2b3c4d5e")
MOST_BYTES_TO_DECODE = 10**6
MOST_SECONDS = 5.0
UNDEFINED, RATIONAL = 7, 5


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def png_with(*chunks: bytes) -> bytes:
    """Make a PNG with these chunks behind its header."""
    data = picture("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def jpeg_with(*segments: bytes) -> bytes:
    """Make a JPEG with these segments behind its JFIF header."""
    data = picture("JPEG")
    return data[:20] + b"".join(segments) + data[20:]


def webp_with(*chunks: bytes) -> bytes:
    """Make an extended WebP with these chunks behind its picture."""
    simple = picture("WEBP")
    body = b"WEBP" + webp_chunk(b"VP8X", struct.pack("<I", 0x08) + bytes([22, 0, 0, 16, 0, 0])) + simple[12:]
    body += b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@functools.cache
def picture(format: str, mode: str = "RGB", lossless: bool = False, frames: int = 1) -> bytes:
    images = [Image.linear_gradient("L").resize((23, 17)).rotate(90 * i).convert(mode) for i in range(frames)]
    options = {"save_all": True, "append_images": images[1:]} if frames > 1 else {}
    file = io.BytesIO()
    images[0].save(file, format, **options, **({"lossless": lossless} if format == "WEBP" else {}))
    return file.getvalue()


def gif_with(*extensions: bytes) -> bytes:
    """Make a GIF with these extensions before its picture."""
    data = picture("GIF", "P")
    header = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    return data[:header] + b"".join(extensions) + data[header:]


def gif_comment(text: bytes, piece: int = 255) -> bytes:
    """Make a comment in pieces of so many bytes."""
    pieces = (text[start : start + piece] for start in range(0, len(text), piece))
    return b"!\xfe" + b"".join(bytes([len(part)]) + part for part in pieces) + b"\0"


def tiff_of(entries: Sequence[tuple[int, int, int, int]], behind: bytes = b"", order: str = "<") -> bytes:
    """Make a TIFF directory of (tag, type, count, value or its place); `behind` begins at `tiff_end(entries)`."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(entries))
    return head + b"".join(struct.pack(order + "HHII", *entry) for entry in entries) + b"\0" * 4 + behind


def tiff_end(entries: Sequence[object]) -> int:
    """Say where the directory ends."""
    return 14 + 12 * len(entries)


def exif_of_one_value(tags: int, length: int, kind: int = UNDEFINED, unit: int = 1) -> bytes:
    """Make an EXIF block of many tags with the same bytes."""
    entries = [(0x0100 + tag, kind, length // unit, tiff_end(range(tags))) for tag in range(tags)]
    return tiff_of(entries, b"\1" * length)


BOMBS: dict[str, Callable[[], bytes]] = {
    "TIFF": lambda: exif_of_one_value(600, 50_000),
    "PNG": lambda: png_with(png_chunk(b"eXIf", exif_of_one_value(600, 50_000))),
    "ImageMagick's PNG": lambda: png_with(
        png_chunk(b"tEXt", b"Raw profile type exif\0\n\n\n" + exif_of_one_value(600, 50_000).hex().encode())
    ),
    "WebP": lambda: webp_with(webp_chunk(b"EXIF", exif_of_one_value(600, 50_000))),
    "JPEG": lambda: jpeg_without_density(jpeg_segment(0xE1, exif.PREFIX + exif_of_one_value(600, 50_000))),
    "JPEG in pieces": lambda: jpeg_without_density(
        *(
            jpeg_segment(0xE1, exif.PREFIX + exif_of_one_value(300, 100_000)[start : start + 30_000])
            for start in range(0, 103_614, 30_000)
        )
    ),
    "index of a JPEG": lambda: jpeg_with(
        jpeg_segment(0xE2, b"MPF\0" + exif_of_one_value(20, 60_000, RATIONAL, 8))
    ),
}
"""Files of some ten thousand bytes of which Pillow makes more than `MOST_REMEMBERED` allows."""


def jpeg_without_density(*segments: bytes) -> bytes:
    """Make a JPEG of which Pillow seeks the density in its EXIF, as soon as it is opened."""
    data = picture("JPEG")
    return data[:2] + b"".join(segments) + data[20:]


GROWING: dict[str, Callable[[int], bytes]] = {
    "texts of one keyword": lambda n: png_with(png_chunk(b"tEXt", b"parameters\0x") * n),
    "other chunks": lambda n: png_with(png_chunk(b"prIV", b"") * n),
    "one long text": lambda n: png_with(png_chunk(b"tEXt", b"parameters\0" + b"a, " * n)),
    "filling": lambda n: picture("JPEG")[:20] + b"\xff" * n + picture("JPEG")[20:],
    "segments": lambda n: jpeg_with(jpeg_segment(0xE5, b"") * n),
    "WebP chunks": lambda n: webp_with(webp_chunk(b"PRIV", b"") * n),
    "EXIF entries": lambda n: webp_with(webp_chunk(b"EXIF", exif_of_entries(n))),
}


def exif_of_entries(count: int) -> bytes:
    return (
        b"MM\0*\0\0\0\x08"
        + struct.pack(">H", count)
        + struct.pack(">HHII", 0x0100, 4, 1, 1) * count
        + b"\0" * 4
    )


def cases(seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    several = texts.cases(seed)
    while True:
        text = next(several).encode("utf-8", "replace").decode()
        data = chance.choice((*(_png, _jpeg, _webp) * 3, _tiff, _gif, _bomb))(chance, text)
        yield _broken(chance, data) if chance.random() < 0.6 else data


def _png(chance: random.Random, text: str) -> bytes:
    latin, utf_8 = text.encode("latin-1", "replace"), text.encode()
    chunks = [
        lambda: png_chunk(b"tEXt", b"parameters\0" + latin),
        lambda: png_chunk(b"iTXt", b"parameters\0\0\0\0\0" + utf_8),
        lambda: png_chunk(b"iTXt", b"parameters\0\1\0de\0Parameter\0" + zlib.compress(utf_8)),
        lambda: png_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(latin)),
        lambda: png_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"x" * 2**22)),
        lambda: png_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(latin)[:-6]),
        lambda: png_chunk(b"iTXt", b"parameters\0\0\0\0\0" + utf_8 + b"\xff"),
        lambda: png_chunk(b"iTXt", b"parameters\0"),
        lambda: png_chunk(b"tEXt", b"prompt\0{}"),
        lambda: png_chunk(b"tEXt", b"Comment\0" + latin),
        lambda: png_chunk(b"eXIf", _exif(chance, text)),
        lambda: png_chunk(b"prIV", chance.randbytes(9)),
        lambda: png_chunk(b"tEXt", b"no keyword ends"),
    ]  # fmt: skip
    data = picture("PNG", chance.choice(["RGB", "L", "P", "RGBA"]), frames=chance.choice([1, 1, 3]))
    extra = b"".join(make() for make in chance.choices(chunks, k=chance.randint(0, 3)))
    place = chance.choice([33, 33, len(data) - 12])
    return data[:place] + extra + data[place:] + chance.choice([b"", b"", b"behind the end"])


def _jpeg(chance: random.Random, text: str) -> bytes:
    segments = [
        lambda: jpeg_segment(0xE1, exif.PREFIX + _exif(chance, text)),
        lambda: jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
        lambda: jpeg_segment(0xED, chance.randbytes(9)),
        lambda: jpeg_segment(0xFE, b"a comment"),
        lambda: b"\xff" * 3,
    ]  # fmt: skip
    extra = b"".join(make() for make in chance.choices(segments, k=chance.randint(0, 3)))
    data = picture("JPEG", chance.choice(["RGB", "L", "CMYK"]))
    return data[:20] + extra + data[20:] + chance.choice([b"", b"", b"behind the end"])


def _webp(chance: random.Random, text: str) -> bytes:
    chunks = [
        lambda: webp_chunk(b"EXIF", _exif(chance, text)),
        lambda: webp_chunk(b"EXIF", exif.PREFIX + _exif(chance, text)),
        lambda: webp_chunk(b"XMP ", b"<x/>"),
        lambda: webp_chunk(b"PRIV", chance.randbytes(9)),
    ]  # fmt: skip
    if chance.random() < 0.5:
        return webp_with(*(make() for make in chance.choices(chunks, k=chance.randint(0, 3))))
    return picture("WEBP", chance.choice(["RGB", "RGBA"]), chance.random() < 0.5, chance.choice([1, 3]))


def _tiff(chance: random.Random, text: str) -> bytes:
    return chance.choice([picture("TIFF", chance.choice(["RGB", "L", "P"])), _exif(chance, text) or b"II*\0"])


def _gif(chance: random.Random, text: str) -> bytes:
    extensions = [
        lambda: gif_comment(text.encode(), chance.choice([1, 255])),
        lambda: gif_comment(b"x" * 2**17, chance.choice([1, 255])),
        lambda: b"!\xff\x0bNETSCAPE2.0\x03\1\0\0\0",
        lambda: b"junk",
    ]
    return gif_with(*(make() for make in chance.choices(extensions, k=chance.randint(0, 3))))


def _bomb(chance: random.Random, text: str) -> bytes:
    return BOMBS[chance.choice(list(BOMBS))]()


def _exif(chance: random.Random, text: str) -> bytes:
    kind = chance.random()
    if kind < 0.1:
        return b""
    if kind < 0.2:
        return chance.randbytes(40)
    if kind < 0.3:
        return exif_of_one_value(
            chance.choice([2, 600]), chance.choice([50, 50_000]), chance.choice([2, 5, 7])
        )
    value = chance.choice([
        b"UNICODE\0" + text.encode("utf-16-be"), b"UNICODE\0" + text.encode("utf-16-le"),
        b"UNICODE\0" + text.encode("utf-16"), b"UNICODE\0" + ("\ufeff" + text).encode("utf-16-be"),
        b"UNICODE\0" + text.encode("utf-16-be") + b"\xd8\0\0a", b"UNICODE\0a",
        b"ASCII\0\0\0" + text.encode(), b"ASCII\0\0\0\xff\x01" + text.encode(),
        b"JIS\0\0\0\0\0\xff", b"\0" * 8 + text.encode(), b"", text.encode("latin-1", "replace"),
    ])[:60_000]  # fmt: skip
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    tags[0x8769] = {0x9286: value, 0x927C: b"maker note"}
    return tags.tobytes().removeprefix(exif.PREFIX)


def _broken(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data))
    end = min(start + chance.choice([1, 1, 2, 4, 30]), len(data))
    kind = chance.random()
    if kind < 0.2:
        return data[:start]
    if kind < 0.4:
        return data[:start] + data[end:]
    if kind < 0.6:
        return data[:start] + data[start:end] * 2 + data[end:]
    if kind < 0.8:
        return data[:start] + chance.choice([b"\0", b"\xff", b"\x7f"]) * (end - start) + data[end:]
    return data[:start] + chance.randbytes(end - start) + data[end:]


def check(case: bytes) -> str | None:
    """Write a score into a file: it comes back and nothing else changes, or the file stays and a line says why."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.png"
        path.write_bytes(case)
        try:
            return _too_dear(case) or _broken_promise(path, case)
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def _too_dear(case: bytes) -> str | None:
    """Open a picture; say when that took more than its size lets one expect.

    It is in memory, since a file that claims to go on makes Python ask for room that nothing ever fills.
    """

    def open_it() -> None:
        with suppress(Exception):  # a broken file makes Pillow raise anything
            image = opened(io.BytesIO(case))
            refuse_giants(image.size, 10**6)
            image.load()
            as_seen(image)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = time.process_time()
        if (taken := memory_of(open_it)) > (most := most_remembered(len(case))):
            return f"opening takes {taken:,} bytes of memory; {most:,} would be much"
        if (seconds := time.process_time() - started) > MOST_SECONDS:
            return f"opening takes {seconds:.1f} s"
    return None


def most_remembered(size: int) -> int:
    """Return how much memory the opening of a file may take, its pixels aside."""
    return 20 * size + 2**23


def _broken_promise(path: Path, before: bytes) -> str | None:
    try:
        earlier = records.read(path)
        records.write_mark(path, MARK)
    except ImageRewardError as error:
        if not str(error).startswith(f"{path}: ") or "\n" in str(error):
            return f"the refusal names no file, or takes several lines: {error}"
        left = path.read_bytes()
        return (
            None
            if left == before and list(path.parent.iterdir()) == [path]
            else f"changed though refused: {error}"
        )
    after = path.read_bytes()
    record = records.read(path)
    if (found := record.mark(MARK.label)) is None or found.value != MARK.value:
        return f"the mark does not come back: {found}"
    if record.own_prompt != earlier.own_prompt:
        return f"the prompt was {earlier.own_prompt} and is {record.own_prompt}"
    if _frames(after) != _frames(before) is not None:
        return "the picture changed"
    lost = parts(before) - parts(after)
    if lost and (reason := _loss(lost, earlier, after)):
        return f"{reason}: {sorted(lost)[:2]}"
    records.write_mark(path, MARK)
    return None if path.read_bytes() == after else "the same mark again changes the file"


def _loss(lost: set[tuple[str, bytes]], earlier: records.ImageRecord, after: bytes) -> str:
    """Say why the parts that are gone should have stayed: only the text that was read may give way to a new one."""
    ((kind, content), *more) = lost
    if more or kind not in ("tEXt", "iTXt", "zTXt", "APP1", "EXIF"):
        return "lost"
    if earlier.flaw:
        return f"written over what could not be read ({earlier.flaw})"
    if kind in ("tEXt", "iTXt", "zTXt"):
        return "" if earlier.infotext else "a text that nobody read is gone"
    kept = (b"Maker\0", b"maker note")
    return "" if all(after.count(tag) >= min(content.count(tag), 1) for tag in kept) else "EXIF tags are gone"


def _frames(data: bytes) -> list[bytes] | None:
    """Decode a picture, None when nobody can."""
    if len(data) > MOST_BYTES_TO_DECODE:
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > 10**6:
                return None
            return [frame.convert("RGBA").tobytes() for frame in ImageSequence.Iterator(image)]
    except Exception:
        return None


def parts(data: bytes) -> set[tuple[str, bytes]]:
    """Take a file apart into chunks or segments, and what lies behind them; no code is shared with what is tested."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png_parts(data)
    if data[:4] == b"RIFF":
        return _webp_parts(data)
    return _jpeg_parts(data)


def _png_parts(data: bytes) -> set[tuple[str, bytes]]:
    found, place = set(), 8
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        found.add((data[place + 4 : place + 8].decode("latin-1"), data[place:end]))
        place = end
        if data[place - 8 : place - 4] == b"IEND":
            break
    return found | {("rest", data[place:])}


def _jpeg_parts(data: bytes) -> set[tuple[str, bytes]]:
    found, place = set(), 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        size = (
            0
            if marker == 0x01 or 0xD0 <= marker <= 0xD9
            else int.from_bytes(data[place + 2 : place + 4], "big")
        )
        kind = "APP1" if marker == 0xE1 and data[place + 4 :].startswith(exif.PREFIX) else f"{marker:02x}"
        found.add((kind, data[place : place + 2 + size]))
        place += 2 + size
    return found | {("rest", data[place:])}


def _webp_parts(data: bytes) -> set[tuple[str, bytes]]:
    found, place, end = set(), 12, 8 + int.from_bytes(data[4:8], "little")
    while place + 8 <= min(end, len(data)):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        found.add((data[place : place + 4].decode("latin-1"), data[place : place + 8 + size]))
        place += 8 + size + size % 2
    return {part for part in found if part[0] != "VP8X"} | {("rest", data[place:])}


smaller = without_a_part
