"""Two Pythons: ours, which runs this, and the peer's, which is made here at first use."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEER = ROOT / ".venv-peer"
REQUIREMENTS = ROOT / "requirements" / "peer.txt"
WITHOUT_DEPENDENCIES = ("clip-anytorch==2.6.0", "image-reward==1.5")
"""Their own pins would bring another torch; what they import stands in the requirements."""


def ours() -> Path:
    return Path(sys.executable)


def peer() -> Path:
    """Return the peer's Python, installing it when that was not done or its list of packages changed."""
    python = PEER / "bin" / "python"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + repr(WITHOUT_DEPENDENCIES).encode()).hexdigest()
    stamp = PEER / "imagereward-installed"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"Setting up {PEER.name} (once; a few minutes) …", flush=True)
    if not python.exists():
        venv.create(PEER, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
    subprocess.run([*pip, "--no-deps", *WITHOUT_DEPENDENCIES], check=True)
    stamp.write_text(wanted)  # last: an interrupted installation is done again
    return python
