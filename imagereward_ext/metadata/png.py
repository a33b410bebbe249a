"""Text chunks of PNG files, read and replaced without touching the picture (PNG 3rd edition; APNG too)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from imagereward_ext.errors import MetadataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT_KINDS = (b"tEXt", b"iTXt", b"zTXt")
_LONGEST_TEXT = 8 * 2**20  # a compressed text may unfold to any size


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    """Where the chunk begins in the file, with its length."""
    size: int
    """Bytes of content."""

    @property
    def end(self) -> int:
        return self.start + 12 + self.size


def read_texts(file: BinaryIO) -> dict[str, str]:
    """Read all text chunks; of two with one keyword the later one counts, as in Pillow."""
    texts = {}
    for chunk in _chunks(file):
        if chunk.kind in _TEXT_KINDS and (pair := _decoded(chunk.kind, _content(file, chunk))) is not None:
            texts[pair[0]] = pair[1]
    return texts


def read_exif(file: BinaryIO) -> bytes:
    """Read the EXIF block, b"" when there is none."""
    return next((_content(file, chunk) for chunk in _chunks(file) if chunk.kind == b"eXIf"), b"")


def with_text(file: BinaryIO, keyword: str, text: str) -> Iterator[bytes]:
    """Yield the file's bytes with this text under this keyword; every other chunk is copied as it is."""
    chunks = list(_chunks(file))
    same = [chunk for chunk in chunks if _keyword(file, chunk) == keyword]
    place = same[-1] if same else _behind_header(chunks)
    yield SIGNATURE
    for chunk in chunks:
        if chunk is place:
            yield _encoded(keyword, text)
        if chunk not in same:
            yield _bytes(file, chunk.start, chunk.end)
    # What some tools put behind the end of the picture belongs to the file as well.
    yield _bytes(file, chunks[-1].end, None)


def _chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """Walk over the chunks up to IEND without reading the picture."""
    size_of_file = file.seek(0, 2)
    position = len(SIGNATURE)
    while True:
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


def _behind_header(chunks: list[_Chunk]) -> _Chunk:
    """Say before which chunk a new text goes: IHDR comes first, and text may stand anywhere behind it."""
    kinds = [chunk.kind for chunk in chunks]
    if b"IHDR" not in kinds:
        raise MetadataError("the PNG file has no header")
    return chunks[kinds.index(b"IHDR") + 1]


def _keyword(file: BinaryIO, chunk: _Chunk) -> str | None:
    if chunk.kind not in _TEXT_KINDS:
        return None
    return _content(file, chunk).partition(b"\0")[0].decode("latin-1")


def _content(file: BinaryIO, chunk: _Chunk) -> bytes:
    return _bytes(file, chunk.start + 8, chunk.end - 4)


def _bytes(file: BinaryIO, start: int, end: int | None) -> bytes:
    file.seek(start)
    return file.read(-1 if end is None else end - start)


def _decoded(kind: bytes, content: bytes) -> tuple[str, str] | None:
    """Decode a text chunk to keyword and text, None when it is broken."""
    keyword, _, rest = content.partition(b"\0")
    try:
        if kind == b"tEXt":
            return keyword.decode("latin-1"), rest.decode("latin-1")
        if kind == b"zTXt":
            return keyword.decode("latin-1"), _inflated(rest[1:]).decode("latin-1")
        is_compressed = rest[:1] == b"\1"
        text = rest[2:].split(b"\0", 2)[2]  # behind the language and the translated keyword
        return keyword.decode("latin-1"), (_inflated(text) if is_compressed else text).decode("utf-8")
    except (zlib.error, UnicodeDecodeError, IndexError):
        return None


def _inflated(data: bytes) -> bytes:
    unfolding = zlib.decompressobj()
    text = unfolding.decompress(data, _LONGEST_TEXT)
    if unfolding.unconsumed_tail:
        raise zlib.error("a text of more than 8 MiB")
    return text


def _encoded(keyword: str, text: str) -> bytes:
    """Write Latin-1 as tEXt and everything else as iTXt, as Pillow and so the WebUI do."""
    name = keyword.encode("latin-1")
    try:
        return _chunk(b"tEXt", name + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", name + b"\0\0\0\0\0" + text.encode("utf-8"))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
