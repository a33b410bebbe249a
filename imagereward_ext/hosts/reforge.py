"""reForge: Forge's first memory management under AUTOMATIC1111's loaders."""

from __future__ import annotations

from modules import sd_models

from imagereward_ext.hosts.a1111 import A1111, allow_loading, hold_loading
from imagereward_ext.residency import return_memory


class ReForge(A1111):
    """reForge."""

    name = "reForge"

    def make_room(self) -> None:
        """Unload the host's checkpoint and give its memory back."""
        from ldm_patched.modules import model_management

        hold_loading()
        data = sd_models.model_data
        if data.sd_model is not None:
            sd_models.unload_model_weights(data.sd_model)
        data.loaded_sd_models.clear()
        data.sd_model = None
        data.was_loaded_at_least_once = True  # as in AUTOMATIC1111
        model_management.unload_all_models()
        model_management.soft_empty_cache(force=True)
        return_memory()

    def restore(self) -> None:
        """Load the checkpoint again, now."""
        allow_loading()
        sd_models.load_model(sd_models.select_checkpoint(), forced_reload=True)
