"""Reward-weighted training: denoise all images, the better ones with more weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagereward_ext.refl.methods import Method

if TYPE_CHECKING:
    from torch import Tensor


class RewardWeighted(Method):
    """Weigh by the standardised reward, mapped into (0, 1)."""

    def weights(self, rewards: Tensor) -> Tensor:
        return rewards.sigmoid()


METHOD = RewardWeighted()
