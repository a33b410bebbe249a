"""The UserComment of an EXIF block, read and replaced with every other byte left where it is.

EXIF is a TIFF structure full of absolute positions, some of which only a camera's maker can interpret. So nothing
is ever moved: what does not fit in its old place is written to the end, and only the pointer to it changes.
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata.found_text import LONGEST, FoundText

PREFIX = b"Exif\0\0"
_EXIF_DIRECTORY = 0x8769
_USER_COMMENT = 0x9286
_LONG, _UNDEFINED = 4, 7
_UNICODE = b"UNICODE\0"
_ORDER_MARK = "\ufeff"


class _Entry(NamedTuple):
    tag: int
    size: int
    """How many bytes (or numbers) the value has."""
    field: bytes
    """Four bytes: the value itself, or where it is."""
    position: int
    """Where the entry stands."""


def user_comment(tiff: bytes) -> FoundText:
    """Read the comment, without a text when there is none or the block cannot be read."""
    if len(tiff) >= LONGEST:
        return FoundText("", f"its EXIF block has {LONGEST:,} bytes or more, which are not read")
    try:
        block = _Block(tiff)
        entry = block.comment_entry()
        return FoundText() if entry is None else _decoded(block.value(entry))
    except (struct.error, IndexError, ValueError):
        return FoundText()


def with_user_comment(tiff: bytes, text: str) -> bytes:
    """Return the block (a new one if it is empty) with this comment."""
    try:
        value = _UNICODE + text.encode("utf-16-be")  # big-endian whatever the block is, as the WebUI does
        block = _Block(tiff or b"MM\0*\0\0\0\x08" + b"\0" * 6)
        block.set_comment(value)
    except (struct.error, IndexError, ValueError) as error:
        raise MetadataError(f"its EXIF block is broken ({error}), and is left as it is") from error
    return bytes(block.data)


class _Block:
    """A TIFF structure in memory."""

    def __init__(self, tiff: bytes) -> None:
        self.data = bytearray(tiff)
        order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
        if order is None:
            raise ValueError("no TIFF header")
        self.order = order

    def comment_entry(self) -> _Entry | None:
        pointer = self._find(self._first_directory(), _EXIF_DIRECTORY)
        return None if pointer is None else self._find(self._as_position(pointer), _USER_COMMENT)

    def value(self, entry: _Entry) -> bytes:
        if entry.size <= 4:
            return entry.field[: entry.size]
        start = self._as_position(entry)
        return bytes(self.data[start : start + entry.size])

    def set_comment(self, value: bytes) -> None:
        entry = self.comment_entry() or self._added_comment()
        start = self._as_position(entry) if entry.size > 4 else len(self.data)
        behind = len(self.data) - (start + entry.size)
        if behind in (0, 1):  # the last thing in the block (but for padding) can go without leaving a gap
            del self.data[start:]
            start = self._append(value)
        elif behind > 0 and len(value) <= entry.size:
            self.data[start : start + entry.size] = value.ljust(entry.size, b"\0")
        else:
            start = self._append(value)
        struct.pack_into(self.order + "HII", self.data, entry.position + 2, _UNDEFINED, len(value), start)

    def _added_comment(self) -> _Entry:
        """Copy the directory that lacks the entry to the end, with an empty one; what it points to stays."""
        first = self._first_directory()
        pointer = self._find(first, _EXIF_DIRECTORY)
        comment = self._entry(_USER_COMMENT, _UNDEFINED, 0, 0)
        if pointer is not None:
            directory = self._append(self._copied(self._as_position(pointer), comment))
            struct.pack_into(self.order + "I", self.data, pointer.position + 8, directory)
        else:
            directory = self._append(struct.pack(self.order + "H", 1) + comment + b"\0" * 4)
            link = self._entry(_EXIF_DIRECTORY, _LONG, 1, directory)
            struct.pack_into(self.order + "I", self.data, 4, self._append(self._copied(first, link)))
        return next(entry for entry in self._entries(directory) if entry.tag == _USER_COMMENT)

    def _copied(self, directory: int, new: bytes) -> bytes:
        """Copy a directory with one more entry, in the order of tags, and its link to the next directory."""
        entries = [bytes(self.data[e.position : e.position + 12]) for e in self._entries(directory)]
        entries = sorted(
            [*entries, new], key=lambda entry: int(struct.unpack_from(self.order + "H", entry)[0])
        )
        end = directory + 2 + 12 * (len(entries) - 1)
        following = bytes(self.data[end : end + 4]).ljust(4, b"\0")
        return struct.pack(self.order + "H", len(entries)) + b"".join(entries) + following

    def _append(self, content: bytes) -> int:
        if len(self.data) % 2:  # directories start at even positions
            self.data.append(0)
        position = len(self.data)
        self.data += content
        return position

    def _entry(self, tag: int, kind: int, count: int, value: int) -> bytes:
        return struct.pack(self.order + "HHII", tag, kind, count, value)

    def _first_directory(self) -> int:
        return int(struct.unpack_from(self.order + "I", self.data, 4)[0])

    def _as_position(self, entry: _Entry) -> int:
        return int(struct.unpack(self.order + "I", entry.field)[0])

    def _find(self, directory: int, tag: int) -> _Entry | None:
        return next((entry for entry in self._entries(directory) if entry.tag == tag), None)

    def _entries(self, directory: int) -> Iterator[_Entry]:
        (count,) = struct.unpack_from(self.order + "H", self.data, directory)
        first = directory + 2
        entries = self.data[first : first + 12 * count]
        if len(entries) < 12 * count:
            raise ValueError("a directory reaches beyond its end")
        for index, (tag, size, field) in enumerate(struct.iter_unpack(self.order + "H2xI4s", entries)):
            yield _Entry(tag, size, field, first + 12 * index)


def _decoded(value: bytes) -> FoundText:
    """Decode a comment: its first eight bytes name the encoding, if its writer cared."""
    code, text = value[:8], value[8:]
    if code == _UNICODE:
        found = _utf_16(text)
    elif code == b"JIS\0\0\0\0\0":
        found = _in_encoding(text, "shift_jis")
    elif code in (b"ASCII\0\0\0", b"\0" * 8):
        found = _in_encoding(text, "utf-8")
    else:
        found = _in_encoding(value, "utf-8")
    return FoundText(found.text.rstrip("\0"), found.flaw)


def _utf_16(text: bytes) -> FoundText:
    """Decode UTF-16 of either byte order: the standard leaves it open, and files of both kinds are about.

    The WebUI writes the big end first and no mark of the order, so U+FEFF at the start is a letter of the text there.
    """
    whole = text[: len(text) // 2 * 2]
    big, little = (whole.decode(order, errors="replace") for order in ("utf-16-be", "utf-16-le"))
    letters_in_big, letters_in_little = _ascii_letters(big), _ascii_letters(little)
    is_little = letters_in_little > letters_in_big or (
        letters_in_little == letters_in_big and little.startswith(_ORDER_MARK)
    )
    try:
        whole.decode("utf-16-le" if is_little else "utf-16-be")
    except UnicodeDecodeError as error:
        flaw = f"its EXIF comment is no UTF-16 (byte {error.start:,})"
    else:
        flaw = (
            ""
            if not text[len(whole) :].strip(b"\0")
            else "its EXIF comment is no UTF-16 (half a letter at the end)"
        )
    return FoundText(little.removeprefix(_ORDER_MARK) if is_little else big, flaw)


def _ascii_letters(text: str) -> int:
    return sum(" " <= letter <= "~" for letter in text)


def _in_encoding(text: bytes, encoding: str) -> FoundText:
    try:
        return FoundText(text.decode(encoding))
    except UnicodeDecodeError:
        decoded = text.decode("latin-1")
    # Every byte is a letter of Latin-1; what has control characters among them is no text of any kind.
    is_text = encoding == "utf-8" and not any(
        unicodedata.category(letter) == "Cc" and letter not in "\t\n\r" for letter in decoded.rstrip("\0")
    )
    return FoundText(decoded, "" if is_text else "its EXIF comment cannot be decoded")
