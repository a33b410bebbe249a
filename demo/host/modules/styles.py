"""Saved prompt styles: styles.csv with the columns name, prompt, negative_prompt."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path


def merge_prompts(style_prompt: str, prompt: str) -> str:
    """`{prompt}` in a style is the place of the prompt; without it the style goes to the end."""
    if "{prompt}" in style_prompt:
        return style_prompt.replace("{prompt}", prompt)
    return ", ".join(part for part in (prompt.strip(), style_prompt.strip()) if part)


class StyleDatabase:
    def __init__(self, path: str):
        self.styles: dict[str, dict[str, str]] = {}
        if Path(path).is_file():
            with Path(path).open(encoding="utf-8-sig", newline="") as file:
                self.styles = {row["name"]: row for row in csv.DictReader(file, skipinitialspace=True)}

    def _applied(self, column: str, prompt: str, names: Iterable[str]) -> str:
        for name in names:
            style = self.styles.get(name, {}).get(column)
            prompt = merge_prompts(style, prompt) if style else prompt
        return prompt.strip()

    def apply_styles_to_prompt(self, prompt: str, names: Iterable[str]) -> str:
        return self._applied("prompt", prompt, names)

    def apply_negative_styles_to_prompt(self, prompt: str, names: Iterable[str]) -> str:
        return self._applied("negative_prompt", prompt, names)
