"""One of the processes that test_training.py starts."""

import sys
from pathlib import Path

from imagereward_ext.refl.training import train
from tests.refl.world import load_taste, silent, tiny_config

if __name__ == "__main__":
    train(tiny_config(Path(sys.argv[1]), name="two", prior_weight=0.1, prior_images=4), load_taste, silent)
