"""Results on standard output: lines for people, or JSON or CSV for programs."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from imagereward_ext.cli.messages import OutputError, print_raw, show
from imagereward_ext.wording import visible


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Declare --json and --csv."""
    group = parser.add_argument_group("output").add_mutually_exclusive_group()
    group.add_argument(
        "--json",
        action="store_const",
        dest="output",
        const="json",
        help="print a JSON list, one object per line",
    )
    group.add_argument(
        "--csv", action="store_const", dest="output", const="csv", help="print CSV with a header line"
    )
    parser.set_defaults(output="lines")


class Results:
    """Prints records one after the other; whatever ends the program, what was printed is well-formed.

    `columns` are the keys a record may have, in the order of the CSV.
    """

    def __init__(self, kind: str, columns: tuple[str, ...]) -> None:
        self.kind = kind
        self.columns = columns
        self._count = 0

    def __enter__(self) -> Results:
        if self.kind == "csv":
            self._table().writeheader()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.kind == "json" and not isinstance(error, (BrokenPipeError, OutputError)):
            show("]" if self._count else "[]")

    def add(self, record: Mapping[str, Any], *lines: str) -> None:
        """Print one record, or for people its lines."""
        if self.kind == "json":
            # A prompt's letters stay letters where the output can carry them.
            plain = not (sys.stdout.encoding or "").lower().startswith("utf")
            text = json.dumps({key: record[key] for key in self.columns if key in record}, ensure_ascii=plain)
            show(("," if self._count else "[") + text)  # what is made visible reads the same as JSON
        elif self.kind == "csv":
            self._table().writerow({key: _cell(value) for key, value in record.items()})
        elif lines:
            show(*lines)
        self._count += 1

    def _table(self) -> csv.DictWriter[str]:
        return csv.DictWriter(_Lines(), self.columns, lineterminator="\n")


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


class _Lines:
    """What the CSV writer writes to."""

    def write(self, text: str) -> None:
        # CSV has no escapes: a program gets the texts as they are, and a person's terminal does not obey them.
        print_raw("\n".join(map(visible, text.split("\n"))) if sys.stdout.isatty() else text)
