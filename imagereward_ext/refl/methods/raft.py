"""RAFT: denoise the best image of every prompt, of images that the current model makes anew in every round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagereward_ext.refl.methods import Method

if TYPE_CHECKING:
    from torch import Tensor

    from imagereward_ext.refl.pool import Pool


class Raft(Method):
    """Choose among the images of each prompt."""

    in_rounds = True

    def kept(self, pool: Pool, keep_share: float) -> Tensor:
        best: dict[int, int] = {}
        for row, prompt in enumerate(pool.prompts.tolist()):
            if prompt not in best or pool.rewards[row] > pool.rewards[best[prompt]]:
                best[prompt] = row
        return pool.prompts.new_tensor(sorted(best.values()))


METHOD = Raft()
