"""multipart/form-data (RFC 7578) of a body that is in memory and bounded already.

The servers' own parser goes through it piece by piece where every other request waits, writes files, and answers
differently from version to version.
"""

from __future__ import annotations

from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import collapse_rfc2231_value
from typing import NamedTuple

from imagereward_ext.errors import UsageError

MOST_HEADER_BYTES = 4096
MOST_BOUNDARY_BYTES = 200  # 70 by RFC 2046


class FormField(NamedTuple):
    """A field of a form: a text, or a file."""

    name: str
    is_file: bool
    content: bytes

    def text(self) -> str:
        """Return a field's text."""
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.name} is no UTF-8 text") from error


def read_fields(body: bytes, content_type: str, most: int) -> list[FormField]:
    """Take a form apart."""
    delimiter = b"\r\n--" + _boundary(content_type)
    pieces = (b"\r\n" + body).split(delimiter, most + 2)[1:]
    fields: list[FormField] = []
    for piece in pieces:
        if piece.startswith(b"--"):
            return fields
        if len(fields) == most:
            raise UsageError(f"the form has more than {most} parts")
        fields.append(_field(piece))
    raise UsageError("the form has no end: its closing boundary is missing")


def _boundary(content_type: str) -> bytes:
    boundary = ""
    if len(content_type) <= MOST_HEADER_BYTES:
        header = Message()
        header["content-type"] = content_type
        boundary = str(header.get_boundary(""))
    if not 1 <= len(boundary) <= MOST_BOUNDARY_BYTES or not boundary.isascii():
        raise UsageError("the content type of a form must name its boundary")
    return boundary.encode("ascii")


def _field(piece: bytes) -> FormField:
    head, gap, content = piece.partition(b"\r\n\r\n")
    if not gap or len(head) > MOST_HEADER_BYTES:
        raise UsageError("a part of the form has no header, or one that is too long")
    headers = BytesHeaderParser().parsebytes(head.lstrip())
    name = headers.get_param("name", header="content-disposition")
    if name is None:
        raise UsageError("a part of the form has no name")
    is_file = headers.get_param("filename", header="content-disposition") is not None
    return FormField(collapse_rfc2231_value(name), is_file, content)
