"""The same run by two gloo processes: started by `train_by_two`, and each of them this file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from imagereward_ext.refl.training import train
from tests.refl.world import load_taste, silent, tiny_config


def train_by_two(folder: Path, name: str, **changes) -> Path:
    """Train with the inputs that lie in a folder; returns the run's own folder."""
    with socket.socket() as place:  # bound until they end, so that nobody else is given this port meanwhile
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))
        port = str(place.getsockname()[1])
        environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2",
                                    "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}  # fmt: skip
        settings = json.dumps({"name": name, **changes})
        command = [sys.executable, "-m", "tests.refl.two_processes", str(folder), settings]
        running = [
            subprocess.Popen(
                command,
                env=environment | {"RANK": rank, "LOCAL_RANK": rank},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in ("0", "1")
        ]
        for process in running:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors[-3000:]
    run = folder / "runs" / name
    assert json.loads((run / "config.json").read_text())["processes"] == 2
    return run


if __name__ == "__main__":
    train(tiny_config(Path(sys.argv[1]), **json.loads(sys.argv[2])), load_taste, silent)
