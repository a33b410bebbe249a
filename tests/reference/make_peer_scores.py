"""Make `peer_scores.json` again, with the reference implementation itself.

In a throwaway environment (nothing of it is a dependency of this project):

    python3 -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.1.2 torchvision==0.16.2 transformers==4.30.2 \
        "numpy<2" Pillow==9.5.0 timm==0.6.13 fairscale huggingface_hub==0.25.2 ftfy regex diffusers==0.16.1 \
        accelerate==0.21.0 datasets==2.14.7 setuptools==69.5.1
    /tmp/peer/bin/pip install --no-deps clip-anytorch image-reward
    /tmp/peer/bin/python -m tests.reference.make_peer_scores

It needs 6 GB of memory and a minute. Only the part that depends on Pillow is made again with `--pillow-only`
under another version of it; results of all versions stay side by side in the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import PIL
import torch
import transformers

from tests.frozen_weights import frozen_tensor
from tests.reference.cases import PROMPTS, resized_images, square_images, write_vocabulary

RESULT = Path(__file__).with_name("peer_scores.json")
MED_CONFIG = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 30524,
    "encoder_width": 768,
    "add_cross_attention": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pillow-only", action="store_true")
    options = parser.parse_args()

    results = json.loads(RESULT.read_text()) if RESULT.exists() else {"crops": {}}
    results["crops"][PIL.__version__] = crops()
    if not options.pillow_only:
        results["scores"] = scores()
        results["made_with"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    RESULT.write_text(json.dumps(results, indent=1) + "\n")


def crops() -> dict[str, str | None]:
    """The peer's preprocessing of each kind of image: the digest of the 8-bit crop its network sees, None if it fails."""
    from ImageReward.ImageReward import _transform

    transform = _transform(224)
    transform.transforms = transform.transforms[:-1]  # without the normalisation: exact bytes
    found: dict[str, str | None] = {}
    for name, image in resized_images().items():
        try:
            values = (transform(image).numpy() * 255).round().astype(np.uint8)
            found[name] = hashlib.sha256(values.tobytes()).hexdigest()[:16]
        except ValueError:
            found[name] = None
    return found


def scores() -> list[list[float]]:
    """The peer's scores, one row per prompt, one column per image."""
    from ImageReward.ImageReward import ImageReward
    from transformers import BertTokenizer

    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder, "vocab.txt")
        write_vocabulary(vocabulary)
        config = Path(folder, "med_config.json")
        config.write_text(json.dumps(MED_CONFIG))
        BertTokenizer.from_pretrained = classmethod(lambda cls, *args, **kwargs: cls(str(vocabulary)))
        model = ImageReward(med_config=str(config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(frozen_tensor(name, tuple(parameter.shape)))
        return [[model.score(prompt, image) for image in square_images()] for prompt in PROMPTS]


if __name__ == "__main__":
    main()
