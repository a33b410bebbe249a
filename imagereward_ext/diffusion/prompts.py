"""Prompt files: one prompt per line, or a JSON list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.storage import refuse_pipe
from imagereward_ext.wording import counted

LONGEST = 500  # words; the text encoders read about 60, so more is not a prompt but another kind of file


class PromptError(ImageRewardError):
    """A prompt file that cannot be used."""


def read_prompts(path: Path, least: int = 1) -> list[str]:
    """Read a prompt file; doubles stay, since they may be meant."""
    try:
        refuse_pipe(path)
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise PromptError(f"{path} cannot be read: {error.strerror or error}") from error
    prompts = _from_json(path, content) if path.suffix.lower() == ".json" else content.splitlines()
    prompts = [prompt.strip() for prompt in prompts if prompt.strip()]
    if len(prompts) < least:
        raise PromptError(
            f"{path} holds {counted(len(prompts), 'prompt')}; at least {least} are needed, one per line"
        )
    for number, prompt in enumerate(prompts, start=1):
        if len(prompt.split()) > LONGEST:
            words = len(prompt.split())
            raise PromptError(
                f"{path}: prompt {number} has {words} words, more than {LONGEST}; one prompt per line?"
            )
    return prompts


def _from_json(path: Path, content: str) -> list[str]:
    """Take a list of texts, or of objects with a text under "prompt" or "text" (as in published prompt sets)."""
    try:
        values = json.loads(content)
    except ValueError as error:
        raise PromptError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(values, list):
        raise PromptError(f"{path} must hold a JSON list of prompts")
    return [_text(path, number, value) for number, value in enumerate(values, start=1)]


def _text(path: Path, number: int, value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("prompt", value.get("text"))
    if not isinstance(value, str):
        raise PromptError(f"{path}: entry {number} is no text, and has no text under prompt or text")
    return value
