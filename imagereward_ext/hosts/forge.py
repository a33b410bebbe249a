"""Forge: its checkpoint lives in a memory management of its own, and the loaders of AUTOMATIC1111 do nothing."""

from __future__ import annotations

from pathlib import Path

from modules import sd_models, shared

from imagereward_ext.hosts.a1111 import A1111, A1111Checkpoints
from imagereward_ext.hosts.base import Checkpoint
from imagereward_ext.memory import return_memory


class ForgeCheckpoints(A1111Checkpoints):
    """A job loads the one that is chosen when it starts."""

    def _loaded(self) -> Checkpoint:
        wanted = (
            sd_models.model_data.forge_loading_parameters.get("checkpoint_info")
            or sd_models.select_checkpoint()
        )
        return Checkpoint.of(Path(wanted.filename))

    def make_room(self) -> None:
        from backend import memory_management

        memory_management.unload_all_models()
        sd_models.model_data.sd_model = sd_models.FakeInitialModel()  # what it is before the first job
        sd_models.model_data.forge_hash = ""  # otherwise the next job believes it is still there
        memory_management.soft_empty_cache()
        return_memory()

    def load_when_asked(self) -> None:
        """Do nothing: without a checkpoint Forge has a stand-in, which answers what anything but a job asks."""

    def restore(self) -> None:
        sd_models.forge_model_reload()
        assert shared.sd_model is not None


class Forge(A1111):
    """Forge."""

    name = "Forge"
    packages = ("modules_forge",)
    checkpoints = ForgeCheckpoints()
