"""The errors a person sees: one line that says what is wrong, with what, and what to do about it.

Whatever is raised as an :class:`ImageRewardError` may be shown as it is, without a traceback; every other
exception is a defect of ours.
"""

from __future__ import annotations


class ImageRewardError(Exception):
    """Base of everything this project raises on purpose."""


class ImageError(ImageRewardError):
    """A file that is no image, or an image that cannot be read or written."""


class MetadataError(ImageRewardError):
    """A file's metadata cannot be read or written."""


class WeightsError(ImageRewardError):
    """Model weights that are missing, broken or foreign."""


class ScoringError(ImageRewardError):
    """A scorer was asked for something it cannot do, or gave no number."""


class UsageError(ImageRewardError):
    """A wrong option or combination of options."""
