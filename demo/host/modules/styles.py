"""Saved prompt styles: styles.csv with the columns name, prompt, negative_prompt."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class PromptStyle(NamedTuple):
    name: str
    prompt: str
    negative_prompt: str
    path: str | None = None


def merge_prompts(style_prompt: str, prompt: str) -> str:
    """`{prompt}` in a style is the place of the prompt; without it the style goes to the end."""
    if "{prompt}" in style_prompt:
        return style_prompt.replace("{prompt}", prompt)
    return ", ".join(part for part in (prompt.strip(), style_prompt.strip()) if part)


class StyleDatabase:
    def __init__(self, path: str):
        self.path = path
        self.styles: dict[str, PromptStyle] = {}
        self.reload()

    def reload(self) -> None:
        self.styles.clear()
        if not Path(self.path).is_file():
            return
        with Path(self.path).open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, skipinitialspace=True):
                style = PromptStyle(
                    row["name"], row.get("prompt") or "", row.get("negative_prompt") or "", self.path
                )
                self.styles[style.name] = style

    def _chosen(self, names: Iterable[str]) -> list[PromptStyle]:
        return [self.styles[name] for name in names if name in self.styles]

    def get_style_prompts(self, names: Iterable[str]) -> list[str]:
        return [style.prompt for style in self._chosen(names)]

    def apply_styles_to_prompt(self, prompt: str, names: Iterable[str]) -> str:
        for style in self._chosen(names):
            prompt = merge_prompts(style.prompt, prompt) if style.prompt else prompt
        return prompt.strip()

    def apply_negative_styles_to_prompt(self, prompt: str, names: Iterable[str]) -> str:
        for style in self._chosen(names):
            prompt = merge_prompts(style.negative_prompt, prompt) if style.negative_prompt else prompt
        return prompt.strip()
