"""A VAE file in place of the checkpoint's own: this host takes none, and an extension may ask."""

from __future__ import annotations

loaded_vae_file: str | None = None


def reload_vae_weights() -> None:
    """What a WebUI calls when another VAE is chosen."""
