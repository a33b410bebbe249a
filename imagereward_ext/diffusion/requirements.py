"""Training needs packages that scoring does not: say in one line which are missing."""

from __future__ import annotations

import importlib.util

from imagereward_ext.errors import ImageRewardError


class MissingPackageError(ImageRewardError):
    """A package that training needs is not installed."""


def require(packages: dict[str, str]) -> None:
    """Check that packages (import name: what to install) are there."""
    missing = [wanted for name, wanted in packages.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"training needs {' and '.join(missing)}: install with pip install {' '.join(missing)}"
        )


def require_diffusion_packages() -> None:
    """Check for what loading a checkpoint needs."""
    require({"diffusers": "diffusers", "transformers": "transformers"})


def require_training_packages() -> None:
    """Check for what training needs."""
    require(
        {"diffusers": "diffusers", "transformers": "transformers", "peft": "peft", "accelerate": "accelerate"}
    )
