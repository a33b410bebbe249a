"""ReFL: train a LoRA so that a scorer likes the images better (Xu et al. 2023, "ImageReward", section 3).

:mod:`~imagereward_ext.refl.algorithm` reads like the paper, :mod:`~imagereward_ext.refl.training` runs it, and
:mod:`~imagereward_ext.refl.run_folder` keeps what a run leaves behind.
"""
