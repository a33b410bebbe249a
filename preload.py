"""Command-line flags of the extension, added before the WebUI reads its own."""

from __future__ import annotations

import argparse


def preload(parser: argparse.ArgumentParser) -> None:
    """Add our flags."""
    parser.add_argument(
        "--imagereward-dir",
        type=str,
        default=None,
        help="folder of the ImageReward models (default: models/ImageReward)",
    )
    parser.add_argument(
        "--imagereward-device",
        type=str,
        default=None,
        help="device ImageReward scores on: auto, cuda, cuda:1, mps, cpu",
    )
    parser.add_argument(
        "--imagereward-no-download", action="store_true", help="never download ImageReward models"
    )
