"""Text chunks of PNG files, read and replaced without touching the picture (PNG 3rd edition; APNG too)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata.found_text import (
    LONGEST,
    LONGEST_TOGETHER,
    MOST_PARTS,
    MOST_TEXTS,
    FoundText,
    bytes_between,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT_KINDS = (b"tEXt", b"iTXt", b"zTXt")
_LONGEST_KEYWORD = 79


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    """Where the chunk begins in the file, with its length."""
    size: int
    """Bytes of content."""

    @property
    def end(self) -> int:
        return self.start + 12 + self.size


@dataclass
class _Room:
    """How much more is read of a file's texts; those that turn out to be none were read too."""

    left: int = LONGEST_TOGETHER


class _UndecodableError(Exception):
    """A text chunk that is no text; its words end the sentence "its text "parameters" …"."""


def read_texts(file: BinaryIO, keywords: Collection[str]) -> dict[str, FoundText]:
    """Read the texts under these keywords; of two with one keyword the later one counts, as in Pillow."""
    texts: dict[str, FoundText] = {}
    room = _Room()
    for chunk, keyword in _texts(file, list(_chunks(file))):
        if keyword not in keywords:
            continue
        before = texts.get(keyword, FoundText())
        try:
            text = _decoded(file, chunk, room)
        except _UndecodableError as error:
            texts[keyword] = FoundText(before.text, f'its text "{keyword}" {error}')
        else:
            texts[keyword] = FoundText(text, before.flaw)
    return texts


def read_exif(file: BinaryIO) -> bytes:
    """Read the EXIF block, b"" when there is none."""
    found = next((chunk for chunk in _chunks(file) if chunk.kind == b"eXIf"), None)
    if found is None:
        return b""
    start = found.start + 8
    return bytes_between(file, start, start + min(found.size, LONGEST))


def with_text(file: BinaryIO, keyword: str, text: str) -> Iterator[bytes]:
    """Yield the file's bytes with this text in place of the one that counts; all others stay as they are."""
    chunks = list(_chunks(file))
    same = [chunk for chunk, found in _texts(file, chunks) if found == keyword]
    behind_header = _end_of_header(chunks)
    start, end = (same[-1].start, same[-1].end) if same else (behind_header, behind_header)
    yield bytes_between(file, 0, start)
    yield _encoded(keyword, text)
    # What some tools put behind the end of the picture belongs to the file as well.
    yield bytes_between(file, end, None)


def _chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """Walk over the chunks up to IEND without reading the picture."""
    size_of_file = file.seek(0, 2)
    position = len(SIGNATURE)
    for _ in range(MOST_PARTS):
        file.seek(position)
        head = file.read(8)
        size, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
        chunk = _Chunk(kind, position, size)
        if not kind or chunk.end > size_of_file:
            raise MetadataError("the PNG file is truncated")
        yield chunk
        if kind == b"IEND":
            return
        position = chunk.end
    raise MetadataError(f"the PNG file has more than {MOST_PARTS:,} chunks; such a file is not read")


def _texts(file: BinaryIO, chunks: list[_Chunk]) -> Iterator[tuple[_Chunk, str]]:
    """Go through the text chunks with their keywords."""
    texts = [chunk for chunk in chunks if chunk.kind in _TEXT_KINDS]
    if len(texts) > MOST_TEXTS:
        raise MetadataError(f"the PNG file holds {len(texts):,} texts; more than {MOST_TEXTS:,} are not read")
    for chunk in texts:
        head = bytes_between(file, chunk.start + 8, chunk.start + 8 + min(chunk.size, _LONGEST_KEYWORD + 1))
        yield chunk, head.partition(b"\0")[0].decode("latin-1")


def _end_of_header(chunks: list[_Chunk]) -> int:
    """Say where a new text goes: IHDR comes first, and text may stand anywhere behind it."""
    end = next((chunk.end for chunk in chunks if chunk.kind == b"IHDR"), None)
    if end is None:
        raise MetadataError("the PNG file has no header")
    return end


def _decoded(file: BinaryIO, chunk: _Chunk, room: _Room) -> str:
    """Decode a text chunk, which takes up its room."""
    if chunk.size > LONGEST:
        raise _UndecodableError(f"has {chunk.size:,} bytes; more than {LONGEST:,} are not read")
    if room.left <= 0:
        raise _UndecodableError(f"comes after {LONGEST_TOGETHER:,} bytes of others; more are not read")
    content = bytes_between(file, chunk.start + 8, chunk.end - 4)
    if bytes_between(file, chunk.end - 4, chunk.end) != _checksum(chunk.kind, content):
        raise _UndecodableError("is damaged (its checksum does not fit)")
    _, _, rest = content.partition(b"\0")
    encoding = "latin-1"
    if chunk.kind == b"zTXt":
        data = _inflated(rest[1:], room)
    elif chunk.kind == b"iTXt":
        parts = rest[2:].split(b"\0", 2)  # language, translated keyword, text
        if len(parts) < 3:
            raise _UndecodableError("is cut off")
        data = _inflated(parts[2], room) if rest[:1] == b"\1" else parts[2]
        encoding = "utf-8"
    else:
        data = rest
    room.left -= len(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _UndecodableError(f"is no UTF-8 (byte {error.start:,})") from error


def _inflated(data: bytes, room: _Room) -> bytes:
    unfolding = zlib.decompressobj()
    try:
        text = unfolding.decompress(data, LONGEST)
    except zlib.error as error:
        room.left -= LONGEST  # nobody says how far it came
        raise _UndecodableError(f"is compressed and damaged ({error})") from error
    if not unfolding.eof:
        room.left -= len(text)
    if unfolding.unconsumed_tail:
        raise _UndecodableError(f"unfolds to more than {LONGEST:,} bytes, which are not read")
    if not unfolding.eof:
        raise _UndecodableError("is compressed and cut off")
    return text


def _encoded(keyword: str, text: str) -> bytes:
    """Write Latin-1 as tEXt and everything else as iTXt, as Pillow and so the WebUI do."""
    name = keyword.encode("latin-1")
    try:
        return _chunk(b"tEXt", name + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", name + b"\0\0\0\0\0" + text.encode("utf-8"))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + _checksum(kind, content)


def _checksum(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(kind + content))
