"""Dataset filtering: denoise the share of all images that has the highest rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagereward_ext.refl.methods import Method

if TYPE_CHECKING:
    from torch import Tensor

    from imagereward_ext.refl.pool import Pool


class Filtering(Method):
    """Choose among the images of all prompts together."""

    def kept(self, pool: Pool, keep_share: float) -> Tensor:
        count = max(1, round(keep_share * len(pool)))
        return pool.rewards.argsort(descending=True, stable=True)[:count].sort().values


METHOD = Filtering()
