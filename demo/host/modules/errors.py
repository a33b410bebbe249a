"""Reporting: an extension's failure is printed and never ends the host."""

from __future__ import annotations

import sys
import textwrap
import traceback


def report(message: str, *, exc_info: bool = False) -> None:
    for line in message.splitlines():
        print("***", line, file=sys.stderr)
    if exc_info:
        print(textwrap.indent(traceback.format_exc(), "    "), file=sys.stderr)
        print("---", file=sys.stderr, flush=True)


def display(e: Exception, task: str, *, full_traceback: bool = False) -> None:
    print(f"{task or 'error'}: {type(e).__name__}: {e}", file=sys.stderr, flush=True)
    if full_traceback:
        traceback.print_exception(e)


def print_error_explanation(message: str) -> None:
    report(message)
