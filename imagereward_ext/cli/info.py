"""`info`: what an image file says about itself."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imagereward_ext.cli.exit_codes import ALL_GOOD, SOME_FAILED
from imagereward_ext.cli.image_options import add_image_options, chosen_images
from imagereward_ext.cli.messages import say
from imagereward_ext.cli.output import Results, add_output_options
from imagereward_ext.errors import ImageRewardError
from imagereward_ext.images import open_image
from imagereward_ext.metadata import records
from imagereward_ext.metadata.records import ImageRecord
from imagereward_ext.metadata.score_mark import ScoreMark, rounded

HELP = "show the prompt and the scores that are in an image file"
DESCRIPTION = """\
Show what image files say about themselves: prompt, parameters, and the scores that were written into them.
No model is loaded.

  info a.png
  info out/ --recursive --json
"""
COLUMNS = ("file", "format", "prompt", "prompt_from", "negative_prompt", "scores", "parameters", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_image_options(parser)
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print a block of lines for each image."""
    found = chosen_images(options)
    failed = len(found.problems)
    with Results(options.output, COLUMNS) as results:
        for path in found.paths:
            try:
                record = _read(path)
            except ImageRewardError as error:
                say(f"error: {error}")
                results.add({"file": str(path), "error": str(error)})
                failed += 1
                continue
            values = _values(record)
            if options.output == "csv":  # a cell holds no list
                values |= {
                    key: json.dumps(values[key], ensure_ascii=False) for key in ("scores", "parameters")
                }
            results.add(values, *_block(record))
    return SOME_FAILED if failed else ALL_GOOD


def _read(path: Path) -> ImageRecord:
    try:
        record = records.read(path)
    except ImageRewardError:
        open_image(path)  # knows better what is wrong with a broken file
        raise
    if not record.format:
        open_image(path)
    return record


def _values(record: ImageRecord) -> dict[str, Any]:
    text = record.parsed
    return {
        "file": str(record.path),
        "format": record.format,
        "prompt": record.own_prompt.text if record.own_prompt else "",
        "prompt_from": record.own_prompt.source if record.own_prompt else "",
        "negative_prompt": text.negative_prompt,
        "scores": [asdict(mark) for mark in record.marks()],
        "parameters": dict(text.fields),
    }


def _block(record: ImageRecord) -> list[str]:
    text = record.parsed
    lines = [str(record.path)]
    if record.flaw:
        lines.append(f"  not read whole: {record.flaw}")
    if record.own_prompt is None:
        lines.append("  no prompt")
    else:
        lines += _lines("prompt", record.own_prompt.text, f" (from {record.own_prompt.source})")
        if record.prompt != record.own_prompt.text:
            lines += _lines("as scored", record.prompt)
    if text.negative_prompt:
        lines += _lines("negative", text.negative_prompt)
    lines += [f"  {_mark(mark)}" for mark in record.marks()] or ["  no score"]
    own = {key for mark in record.marks() for key in mark.fields()}
    lines += [f"  {key}: {value}" for key, value in text.fields.items() if key not in own]
    return lines


def _lines(name: str, text: str, note: str = "") -> list[str]:
    """Write a text of several lines under its name, indented so that nothing else looks like it."""
    first, *more = text.split("\n")
    return [f"  {name}{note}: {first}", *(f"    {line}" for line in more)]


def _mark(mark: ScoreMark) -> str:
    weights = f"weights {mark.digest}" if mark.digest else "weights unknown"
    prompt = f', for "{mark.prompt}"' if mark.prompt is not None else ""
    return f"{mark.label}: {rounded(mark.value)} ({weights}{prompt})"
