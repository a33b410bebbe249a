"""The LoRAs that earlier stops of a resumed run have put into the LoRA folder."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from imagereward_ext.jobs.order import Order
from imagereward_ext.training.journal import Journal


def replace_interim(order: Order, lora: str) -> Iterator[str]:
    """Take them away now that there is a newer one, unless somebody has changed them; yields what was done."""
    folder, target = order.folder, Path(str(order.config.get("lora_dir") or order.folder)).expanduser()
    every = int(order.config.get("lora_every") or 0)
    for event in Journal(folder / "events.jsonl").read():
        name, step = str(event.get("lora") or ""), int(event.get("step") or 0)
        interim = event.get("ending") == "asked" and name not in ("", lora)
        if not interim or target == folder or (every and step % every == 0):  # ordered as one of several
            continue
        ours = list(folder.glob(f"{Path(name).stem}.*"))
        if ours and all(_same(path, target / path.name) for path in ours):
            with suppress(OSError):
                for path in ours:
                    (target / path.name).unlink()
                yield f"{Path(lora).stem} took the place of {Path(name).stem} in the LoRA folder"


def _same(file: Path, other: Path) -> bool:
    with suppress(OSError):
        return filecmp.cmp(file, other, shallow=False)
    return False
