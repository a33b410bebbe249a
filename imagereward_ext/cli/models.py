"""`models`: which scorers there are, and where their weights lie."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagereward_ext.cli.exit_codes import ALL_GOOD, SOME_FAILED
from imagereward_ext.cli.messages import say, show
from imagereward_ext.cli.output import Results, add_output_options
from imagereward_ext.cli.scorer_options import add_weights_options
from imagereward_ext.errors import WeightsError
from imagereward_ext.weights import locate
from imagereward_ext.weights.catalogue import DEFAULT, ENTRIES, Entry, RemoteFile
from imagereward_ext.weights.model_folder import read_config

HELP = "list the scorers: what is known, what is on disk, where it would come from"
DESCRIPTION = """\
List the scorers that --scorer takes: those that can be downloaded, and model folders of your own.
"""
COLUMNS = ("name", "label", "licence", "bytes", "ready", "files", "homepage")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_weights_options(parser, can_download=False)
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print a block of lines for each scorer, then the folders that are searched."""
    failed = False
    with Results(options.output, COLUMNS) as results:
        for entry in ENTRIES.values():
            files = [
                _File.of(file, options.weights_dir) for file in (entry.weights, *entry.companions.values())
            ]
            results.add(_values(entry, files, options.output), *_block(entry, files))
        own = locate.model_folders(options.weights_dir)
        for name, folder in {**locate.demo_models(), **own}.items():
            try:
                label = read_config(folder).label
            except WeightsError as error:
                say(f"error: {error}")
                failed = True
            else:
                values = {"name": name, "label": label, "ready": True, "files": str(folder)}
                whose = "your own" if name in own else "the demo's"
                results.add(values, name, f"  {whose}, stored as {label!r}: {folder}")
    if options.output == "lines":
        show(*_places(options.weights_dir))
    return SOME_FAILED if failed else ALL_GOOD


@dataclass(frozen=True)
class _File:
    """One file of a scorer, and where it is."""

    remote: RemoteFile
    path: Path | None

    @classmethod
    def of(cls, remote: RemoteFile, folder: Path | None) -> _File:
        """Look for it on this machine."""
        return cls(remote, locate.find_file(remote, folder))

    def where(self) -> str:
        """Say where it is, or where it would come from."""
        return str(self.path or self.remote.address)


def _values(entry: Entry, files: list[_File], output: str) -> dict[str, Any]:
    where = [file.where() for file in files]
    return {
        "name": entry.name,
        "label": entry.label,
        "licence": entry.licence,
        "bytes": entry.size_in_bytes,
        "ready": all(file.path for file in files),
        "files": where if output == "json" else " ".join(where),
        "homepage": entry.homepage,
    }


def _block(entry: Entry, files: list[_File]) -> Iterator[str]:
    note = " (default)" if entry.name == DEFAULT else ""
    yield f"{entry.name}{note}"
    yield f"  {_size(entry.size_in_bytes)}, {entry.licence}, {entry.homepage}"
    for file in files:
        size = _size(file.remote.size_in_bytes)
        yield f"  on disk: {file.path}" if file.path else f"  to download ({size}): {file.remote.address}"


def _places(folder: Path | None) -> Iterator[str]:
    places = locate.places(folder)
    yield ""
    yield "Weights are looked for in these folders, then in the Hugging Face cache; a download goes to the first:"
    yield from (f"  {place}{'' if place.is_dir() else ' (not there yet)'}" for place in places)
    yield f"--weights-dir or {locate.HOME_VARIABLE} puts another one first."


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
