"""LoRA files as the WebUIs load them: kohya's tensor names, its metadata, a card and a preview beside the file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from imagereward_ext.diffusion.checkpoint import CheckpointError, inspect, read_tensors
from imagereward_ext.diffusion.lora import LoraLayer, LoraLayers, LoraShape
from imagereward_ext.diffusion.model_config import DiffusionConfig, Family
from imagereward_ext.storage import replacing, write_bytes, write_text

PREFIXES: dict[Family, dict[str, str]] = {
    "sd1": {"unet": "lora_unet", "text_0": "lora_te"},
    "sd2": {"unet": "lora_unet", "text_0": "lora_te"},
    "sdxl": {"unet": "lora_unet", "text_0": "lora_te1", "text_1": "lora_te2"},
}
BASE_VERSIONS: dict[Family, str] = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
ARCHITECTURES: dict[Family, str] = {
    "sd1": "stable-diffusion-v1/lora",
    "sd2": "stable-diffusion-v2-512/lora",
    "sdxl": "stable-diffusion-xl-v1-base/lora",
}
CARD_VERSIONS: dict[Family, str] = {"sd1": "SD1", "sd2": "SD2", "sdxl": "SDXL"}

# Per block, in every base of these families. AUTOMATIC1111 finds a LoRA's blocks by it, whatever the model has.
_USUAL_LAYERS = 2
# The only paths that the WebUIs know. A library that renames its modules makes an error here, not a dead LoRA.
_UNET_PATH = re.compile(
    r"(?:(?:down|up)_blocks\.\d+|mid_block)\.attentions\.\d+\.transformer_blocks\.\d+\."
    r"(?:attn[12]\.to_(?:q|k|v|out\.0)|ff\.net\.(?:0\.proj|2))"
)
_TEXT_PATH = re.compile(r"text_model\.encoder\.layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])")
# Where an underscore of a file's name was a dot of the path.
_UNET_NAME = re.compile(
    r"(?:(down|up)_blocks_(\d+)_attentions_(\d+)|(in|out)put_blocks_(\d+)_1|mid_block_attentions_0|middle_block_1)"
    r"_transformer_blocks_(\d+)_(attn[12]_to_(?:q|k|v|out_0)|ff_net_(?:0_proj|2))"
)
_SIDE_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)(?=\.)")
_TEXT_NAME = re.compile(r"text_model_encoder_layers_(\d+)_(self_attn_(?:q|k|v|out)_proj|mlp_fc[12])")


@dataclass(frozen=True)
class LoraOrigin:
    """What a LoRA file says about where it comes from."""

    name: str
    model: DiffusionConfig
    shape: LoraShape
    base_name: str
    base_sha256: str
    base_old_hash: str
    width: int
    height: int
    description: str
    training: Mapping[str, str]
    """More ``ss_*`` entries: steps, learning rate, method, ..."""
    notes: str = ""


def to_file_name(model: DiffusionConfig, component: str, path: str) -> str:
    """Return the name of a layer inside a file, without the ending of its three tensors."""
    known = _UNET_PATH if component == "unet" else _TEXT_PATH
    if not known.fullmatch(path):
        raise CheckpointError(
            f"the WebUIs know no LoRA layer {path} in {component}: the installed library renamed it"
        )
    if component == "unet" and model.unet["layers_per_block"] != _USUAL_LAYERS:
        path = _SIDE_BLOCK.sub(lambda m: _numbered(m, model), path)
    return f"{PREFIXES[model.family][component]}_{path.replace('.', '_')}"


def _numbered(block: re.Match[str], model: DiffusionConfig) -> str:
    """Name a block by its number in the checkpoint, which the WebUIs take as well, and read right in every model."""
    number = int(block[2]) * (model.unet["layers_per_block"] + 1) + int(block[3])
    return f"input_blocks.{number + 1}.1" if block[1] == "down" else f"output_blocks.{number}.1"


def _unet_block(name: re.Match[str], model: DiffusionConfig) -> str:
    if name[1]:
        return f"{name[1]}_blocks.{name[2]}.attentions.{name[3]}"
    if not name[4]:
        return "mid_block.attentions.0"
    side, number = ("down", int(name[5]) - 1) if name[4] == "in" else ("up", int(name[5]))
    block, layer = divmod(number, model.unet["layers_per_block"] + 1)
    return f"{side}_blocks.{block}.attentions.{layer}"


def from_file_name(model: DiffusionConfig, name: str) -> tuple[str, str]:
    """Return the component and the path of a layer from its name inside a file."""
    for component, prefix in PREFIXES[model.family].items():
        rest = name.removeprefix(prefix + "_")
        if rest == name:
            continue
        if component == "unet" and (m := _UNET_NAME.fullmatch(rest)):
            inner = m[7].replace("attn1_", "attn1.").replace("attn2_", "attn2.").replace("out_0", "out.0")
            inner = inner.replace("ff_net_", "ff.net.").replace("0_proj", "0.proj")
            return component, f"{_unet_block(m, model)}.transformer_blocks.{m[6]}.{inner}"
        if component != "unet" and (m := _TEXT_NAME.fullmatch(rest)):
            inner = m[2].replace("self_attn_", "self_attn.").replace("mlp_", "mlp.")
            return component, f"text_model.encoder.layers.{m[1]}.{inner}"
    raise CheckpointError(
        f"{name} is no layer of a {CARD_VERSIONS[model.family]} LoRA that this project can read"
    )


def read_lora(path: Path, model: DiffusionConfig) -> LoraLayers:
    """Read a LoRA file for a base model."""
    names = inspect(path).shapes
    if not any(key.endswith("lora_down.weight") for key in names):
        raise CheckpointError(
            f"{path.name} is no LoRA in the format of the WebUIs (no lora_down tensors in it)"
        )
    if any(".lora_mid." in key for key in names):
        raise CheckpointError(f"{path.name} is a LoCon: only plain LoRA files can be compared")
    tensors = read_tensors(path)
    result: LoraLayers = {}
    for key in tensors:
        name, ending = key.split(".", 1)
        if ending == "lora_down.weight":
            component, module = from_file_name(model, name)
            down, up = tensors[key], tensors[f"{name}.lora_up.weight"]
            alpha = tensors.get(f"{name}.alpha")
            layer = LoraLayer(down, up, float(down.shape[0] if alpha is None else alpha))
            result.setdefault(component, {})[module] = layer
    return result


def to_tensors(
    model: DiffusionConfig, lora: LoraLayers, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Return a file's tensors: ``lora_down``, ``lora_up`` and ``alpha`` of every layer."""
    tensors: dict[str, Tensor] = {}
    for component, layers in lora.items():
        for path, layer in layers.items():
            name = to_file_name(model, component, path)
            tensors[f"{name}.lora_down.weight"] = layer.down.to(dtype).contiguous()
            tensors[f"{name}.lora_up.weight"] = layer.up.to(dtype).contiguous()
            tensors[f"{name}.alpha"] = torch.tensor(layer.alpha, dtype=dtype)
    return tensors


def metadata(origin: LoraOrigin, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return everything the WebUIs, and people, look for. All values are strings."""
    family, now = origin.model.family, datetime.now(timezone.utc)
    v = origin.model.noise.prediction == "v_prediction"
    architecture = "stable-diffusion-v2-768-v/lora" if family == "sd2" and v else ARCHITECTURES[family]
    said = {
        "ss_base_model_version": BASE_VERSIONS[family],
        "ss_v2": str(family == "sd2"),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(origin.shape.rank),
        "ss_network_alpha": str(origin.shape.alpha),
        "ss_output_name": origin.name,
        "ss_sd_model_name": origin.base_name,
        "ss_new_sd_model_hash": origin.base_sha256,
        "ss_sd_model_hash": origin.base_old_hash,
        "ss_resolution": f"({origin.width}, {origin.height})",
        "ss_training_finished_at": str(now.timestamp()),
        **{key: str(value) for key, value in origin.training.items()},
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": architecture,
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models"
        if family == "sdxl"
        else "https://github.com/CompVis/stable-diffusion",
        "modelspec.title": origin.name,
        "modelspec.description": origin.description,
        "modelspec.date": now.strftime("%Y-%m-%dT%H:%M:%S"),
        "modelspec.resolution": f"{origin.width}x{origin.height}",
        "modelspec.prediction_type": "v" if v else "epsilon",
    }
    said["sshs_model_hash"], said["sshs_legacy_hash"] = addnet_hashes(tensors, said)
    return said


def addnet_hashes(tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> tuple[str, str]:
    """Hash as the additional-networks extension did, and kohya's scripts do.

    The new hash is over the tensors' bytes, the legacy one over 64 KiB of the file from 1 MiB on, the file
    holding only the ``ss_*`` metadata.
    """
    from safetensors.torch import save

    content = save(dict(tensors), {k: v for k, v in said.items() if k.startswith("ss_")})
    start = 8 + int.from_bytes(content[:8], "little")
    legacy = hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]
    return hashlib.sha256(content[start:]).hexdigest(), legacy


def write_lora(path: Path, lora: LoraLayers, origin: LoraOrigin, preview: Image.Image | None = None) -> None:
    """Write the file, its card and its preview; the file comes last, so that a listed LoRA is complete."""
    from safetensors.torch import save

    tensors = to_tensors(origin.model, lora)
    if preview is not None:
        text = PngInfo()
        if "parameters" in preview.info:  # so that PNG Info can make it again
            text.add_itxt("parameters", preview.info["parameters"])
        with replacing(path.with_suffix(".png")) as part:
            preview.save(part, format="PNG", pnginfo=text)
    write_text(path.with_suffix(".json"), json.dumps(card(origin), indent=2, ensure_ascii=False) + "\n")
    # Through bytes, since a full disk is then an OSError and not an error of the library's own.
    write_bytes(path, save(tensors, metadata(origin, tensors)))


def card(origin: LoraOrigin) -> dict[str, object]:
    """Return what a WebUI shows and fills in for this LoRA."""
    return {
        "description": origin.description,
        "sd version": CARD_VERSIONS[origin.model.family],
        "activation text": "",
        "preferred weight": 1.0,
        "notes": origin.notes,
    }
