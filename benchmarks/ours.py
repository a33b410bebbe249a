"""This project's scorer, as everything in it loads it."""

from __future__ import annotations

from typing import Any


def load(folder: str, device: str = "cpu", precision: str = "fp32", batch_size: int | None = None) -> Any:
    """Load from a folder with the official file, or from a model folder."""
    from pathlib import Path

    from imagereward_ext.scorers import load_scorer

    own = Path(folder, "config.json").exists()
    name = folder if own else "ImageReward-v1.0"
    return load_scorer(
        name, device=device, precision=precision, batch_size=batch_size, folder=folder, download=False
    )


def score(scorer: Any, images: list[Any], prompts: list[str]) -> list[float]:
    """Score all images under each prompt, in one call."""
    found: list[float] = scorer.score(images * len(prompts), [p for p in prompts for _ in images])
    return found
