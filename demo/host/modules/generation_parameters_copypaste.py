"""The earlier name of modules.infotext_utils, which puts itself in this module's place."""

from modules import infotext_utils  # noqa: F401
