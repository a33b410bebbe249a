"""PickScore: a CLIP ViT-H/14 trained on half a million choices between two images.

Kirstain et al., "Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation", 2023.
"""

from __future__ import annotations

from imagereward_ext.compute import Placement
from imagereward_ext.scorers.clip import Clip
from imagereward_ext.scorers.clip_tower import ClipArchitecture, load_tower
from imagereward_ext.scorers.loading import Source


def build(source: Source, placement: Placement) -> Clip:
    """Load the scorer: CLIP's cosine times the factor it was trained with, so about 17 to 24."""
    tower = load_tower(source, placement, ClipArchitecture.from_settings(source.settings))
    return Clip(tower, source, placement, factor=tower.logit_scale())
