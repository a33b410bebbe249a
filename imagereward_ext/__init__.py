"""ImageReward for the Stable Diffusion WebUI: score images, keep the good ones, train towards better ones.

Importing this package costs nothing: neither torch nor transformers is loaded before a model is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagereward_ext.scorers import load_scorer as load_scorer

__version__ = "0.1.0"
__all__ = ["__version__", "load_scorer"]


def __getattr__(name: str) -> Any:
    if name == "load_scorer":
        from imagereward_ext.scorers import load_scorer

        return load_scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
