"""Reporting: an extension's failure is printed and never ends the host."""

from __future__ import annotations

import sys
import textwrap
import traceback


def report(message: str, *, exc_info: bool = False) -> None:
    print(f"*** {message}", file=sys.stderr)
    if exc_info:
        print(textwrap.indent(traceback.format_exc(), "    "), file=sys.stderr, flush=True)
