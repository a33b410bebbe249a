"""ImageReward: the numbers of the reference implementation, the seam, precision, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from imagereward_ext.errors import ScoringError, UsageError, WeightsError
from imagereward_ext.scorers import load_scorer
from imagereward_ext.scorers.attention import FusedAttention
from imagereward_ext.scorers.image_reward import Architecture, Network, published_tensors
from imagereward_ext.weights.tensors import save_tensors
from tests.frozen_weights import frozen_weights
from tests.reference.cases import PROMPTS, square_images, write_vocabulary
from tests.tiny import TINY, make_tiny_scorer_folder, picture, tiny_weights

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "peer_scores.json").read_text())


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path):
    return load_scorer(str(tiny_folder), device="cpu")


def test_scores_do_not_depend_on_how_they_are_batched(tiny) -> None:
    images = [
        picture(seed, size) for seed, size in enumerate([(48, 40), (20, 90), (33, 33), (200, 64), (1, 1)])
    ]
    prompts = ["a red fox", "a cat", "the sea", "a red fox", ""]
    singles = [tiny.score([image], prompt)[0] for image, prompt in zip(images, prompts, strict=True)]
    for batch_size in (1, 2, 5):
        tiny.batch_size = batch_size
        assert tiny.score(images, prompts) == pytest.approx(singles, abs=2e-6)
    backwards = tiny.score(images[::-1], prompts[::-1])
    assert backwards[::-1] == pytest.approx(singles, abs=2e-6)


def test_an_image_under_several_prompts_is_embedded_once(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = []
    embed = tiny.network.embed
    monkeypatch.setattr(tiny.network, "embed", lambda inputs: embedded.append(len(inputs)) or embed(inputs))
    image, other = picture(1), picture(2)
    scores = tiny.score([image, other, image, image], ["a cat", "a cat", "a dog", "a cat"])
    assert sum(embedded) == 2
    assert scores[0] == pytest.approx(scores[3], abs=1e-6)
    assert scores[0] != pytest.approx(scores[2], abs=1e-3)


def test_prompt_image_and_padding_matter(tiny) -> None:
    first, second = picture(1), picture(2)
    assert tiny.score([first], "a cat")[0] != pytest.approx(tiny.score([second], "a cat")[0], abs=1e-3)
    assert tiny.score([first], "a cat")[0] != pytest.approx(tiny.score([first], "a dog")[0], abs=1e-3)
    ids = tiny.tokenizer(["a cat"], tiny.device)
    with torch.inference_mode():
        embedding = tiny.network.embed(tiny.preprocess(first)[None])
        masked = tiny.network.compare(embedding, ids.ids, ids.mask)
        everything = tiny.network.compare(embedding, ids.ids, torch.ones_like(ids.mask))
    assert (masked - everything).abs() > 1e-3


def test_padding_is_left_out_and_changes_nothing(tiny) -> None:
    tokens = tiny.tokenizer(["a cat", "a red fox in snow", ""], tiny.device)
    trimmed = tokens.trimmed()
    assert tokens.ids.shape[1] == tiny.tokenizer.window > trimmed.ids.shape[1]
    assert (tokens.ids[:, trimmed.ids.shape[1] :] == 0).all() and trimmed.mask[:, -1].any()
    with torch.inference_mode():
        embedding = tiny.network.embed(torch.stack([tiny.preprocess(picture(seed)) for seed in range(3)]))
        padded, short = (tiny.network.compare(embedding, t.ids, t.mask) for t in (tokens, trimmed))
    assert torch.allclose(padded, short, atol=2e-6)


def test_the_fused_attention_computes_what_transformers_does() -> None:
    from transformers import BlipVisionConfig
    from transformers.models.blip.modeling_blip import BlipAttention

    torch.manual_seed(0)
    config = BlipVisionConfig(hidden_size=32, num_attention_heads=4)
    config._attn_implementation = "eager"
    theirs = BlipAttention(config).eval()
    inputs = torch.randn(3, 7, 32)
    expected = theirs(inputs)[0]
    assert torch.allclose(FusedAttention(theirs)(inputs)[0], expected, atol=1e-6)


def test_ranks_the_best_first_and_keeps_the_order_of_equals(tiny) -> None:
    images = [picture(1), picture(2), picture(1), picture(3)]
    places, scores = tiny.rank(images, "a cat")
    assert sorted(places) == [1, 2, 3, 4]
    assert [scores[places.index(place)] for place in (1, 2, 3, 4)] == sorted(scores, reverse=True)
    assert places[0] < places[2]


def test_reward_sends_its_gradient_to_the_pixels_and_to_no_weight(tiny) -> None:
    pixels = torch.rand(3, 3, 50, 44, generator=torch.Generator().manual_seed(0), requires_grad=True)
    rewards = tiny.score_pixels(pixels, ["a cat", "a dog", "a fox"])
    assert rewards.shape == (3,) and rewards.dtype == torch.float32
    rewards.sum().backward()
    assert all(pixels.grad[row].abs().sum() > 0 for row in range(3))
    assert all(parameter.grad is None for parameter in tiny.network.parameters())


def test_reward_and_score_agree_on_pixels_that_need_no_resizing(tiny) -> None:
    image = picture(4, (32, 32))
    exact = tiny.score([image], "a cat")[0]
    from_pixels = tiny.score_pixels(tiny_pixels(image), "a cat").item()
    assert from_pixels == pytest.approx(exact, abs=1e-5)


def tiny_pixels(image) -> torch.Tensor:
    import numpy as np

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def test_wrong_counts_and_shapes_are_refused(tiny) -> None:
    with pytest.raises(ScoringError, match="2 images but 3 prompts"):
        tiny.score([picture(), picture()], ["a", "b", "c"])
    with pytest.raises(ScoringError, match="shape"):
        tiny.score_pixels(torch.rand(3, 32, 32), "a cat")
    assert tiny.score([], []) == []


def test_it_says_what_it_does_not_read(tiny) -> None:
    assert tiny.unread("a red fox in snow") == ""
    words = [f"cat{'' if n % 2 else ','}" for n in range(40)]
    rest = tiny.unread(" ".join(words))
    assert rest and " ".join(words).endswith(rest)
    read = " ".join(words)[: -len(rest)].rstrip()
    image = picture()
    assert tiny.score([image], " ".join(words)) == pytest.approx(tiny.score([image], read), abs=1e-6)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_lower_precisions_stay_close_and_keep_the_head_exact(tiny, tiny_folder: Path, precision: str) -> None:
    try:
        lower = load_scorer(str(tiny_folder), device="cpu", precision=precision)
    except UsageError as refusal:
        assert torch.__version__ < "2.2" and precision == "fp16"
        assert "cannot compute in fp16 on cpu; choose fp32" in str(refusal)
        return
    assert next(lower.network.head.parameters()).dtype == torch.float32
    # bf16 leaves the embeddings as they are, which in a network this small is much.
    share, bound = {"fp16": (0.52, 0.005), "bf16": (0.62, 0.02)}[precision]
    assert lower.size_in_bytes() < share * tiny.size_in_bytes()
    images = [picture(seed) for seed in range(4)]
    assert lower.score(images, "a cat") == pytest.approx(tiny.score(images, "a cat"), abs=bound)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_lower_precisions_leave_nothing_in_the_mapped_file(tiny_folder: Path, precision: str) -> None:
    if torch.__version__ < "2.2" and precision == "fp16":
        pytest.skip("this torch has no half precision on a CPU")
    network = load_scorer(str(tiny_folder), device="cpu", precision=precision).network
    for name, parameter in network.named_parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * parameter.element_size(), name


def test_bf16_multiplies_in_bf16_and_adds_up_in_single_precision(tiny_folder: Path) -> None:
    network = load_scorer(str(tiny_folder), device="cpu", precision="bf16").network
    block = network.vision.encoder.layers[0]
    assert block.mlp.fc1.weight.dtype == block.self_attn.qkv.weight.dtype == torch.bfloat16
    assert (
        block.layer_norm1.weight.dtype
        == network.text.embeddings.word_embeddings.weight.dtype
        == torch.float32
    )
    embeddings = network.embed(torch.rand(1, 3, 32, 32))
    assert embeddings.dtype == torch.float32
    assert not torch.equal(embeddings, embeddings.bfloat16().float())  # nothing rounded the stream on its way


def test_the_digest_tells_weights_apart_and_not_their_container(tiny, tmp_path: Path) -> None:
    same = make_tiny_scorer_folder(tmp_path / "same", name="other name")
    assert load_scorer(str(same)).digest == tiny.digest
    weights = tiny_weights()
    weights["mlp.layers.0.bias"][0] += 1e-3
    save_tensors(same / "model.safetensors", weights)
    assert load_scorer(str(same)).digest != tiny.digest
    save_tensors(same / "model.safetensors", tiny_weights())
    pickle = tmp_path / "pickle"
    make_tiny_scorer_folder(pickle)
    (pickle / "model.safetensors").unlink()
    torch.save(tiny_weights(), pickle / "model.pt")
    config = (pickle / "config.json").read_text().replace("model.safetensors", "model.pt")
    (pickle / "config.json").write_text(config)
    assert load_scorer(str(pickle)).digest == tiny.digest


def test_loading_never_builds_the_network_in_memory(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = set()
    original = Network.__init__

    def watched(self, architecture):
        original(self, architecture)
        devices.update(parameter.device.type for parameter in self.parameters())

    monkeypatch.setattr(Network, "__init__", watched)
    scorer = load_scorer(str(tiny_folder), device="cpu")
    assert devices == {"meta"}
    tensors = [*scorer.network.parameters(), *scorer.network.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}


def test_a_scorer_loaded_in_inference_mode_can_still_be_trained_against(tiny_folder: Path) -> None:
    with torch.inference_mode():
        scorer = load_scorer(str(tiny_folder), device="cpu")
    pixels = torch.rand(1, 3, 32, 32, requires_grad=True)
    scorer.score_pixels(pixels, "a cat").backward()
    assert pixels.grad.abs().sum() > 0


def test_every_setting_is_known_and_every_shape_checked(tmp_path: Path) -> None:
    folder = make_tiny_scorer_folder(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "settings": {**config["settings"], "hieght": 3}})
    )
    with pytest.raises(WeightsError, match="no setting 'hieght'"):
        load_scorer(str(folder))
    (folder / "config.json").write_text(
        json.dumps({**config, "settings": {**config["settings"], "text_width": 48}})
    )
    with pytest.raises(WeightsError, match=r"is not tiny \(image-reward\): .* instead of .* and \d+ more"):
        load_scorer(str(folder))


def test_published_names_are_those_of_the_published_file() -> None:
    with torch.device("meta"):
        names = list(published_tensors(Network(TINY)))
    for expected in (
        "blip.visual_encoder.cls_token",
        "blip.visual_encoder.pos_embed",
        "blip.visual_encoder.patch_embed.proj.weight",
        "blip.visual_encoder.blocks.1.attn.qkv.bias",
        "blip.visual_encoder.blocks.0.mlp.fc2.weight",
        "blip.visual_encoder.norm.weight",
        "blip.text_encoder.encoder.layer.1.crossattention.self.key.weight",
        "blip.text_encoder.embeddings.LayerNorm.bias",
        "mlp.layers.0.weight",
        "mlp.layers.7.bias",
    ):
        assert expected in names
    assert len(set(names)) == len(names)
    assert all(
        name.startswith(("blip.visual_encoder.", "blip.text_encoder.", "mlp.layers.")) for name in names
    )


@pytest.fixture(scope="module")
def full_size_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official file's form: one pickle of published names, and the vocabulary beside it."""
    folder = tmp_path_factory.mktemp("full")
    with torch.device("meta"):
        network = Network(Architecture())
    weights = frozen_weights({name: tuple(t.shape) for name, t in published_tensors(network).items()})
    weights["blip.text_encoder.embeddings.position_ids"] = torch.arange(512)[None]
    weights["blip.vision_proj.weight"] = torch.zeros(256, 1024)  # unused, but in the file
    torch.save(weights, folder / "ImageReward.pt")
    write_vocabulary(folder / "bert-base-uncased-vocab.txt")
    return folder


@pytest.mark.slow
def test_the_full_network_gives_the_numbers_of_the_reference(full_size_folder: Path) -> None:
    scorer = load_scorer("ImageReward-v1.0", device="cpu", folder=full_size_folder, download=False)
    images = square_images()
    assert (full_size_folder / "ImageReward.safetensors").is_file()
    differences = [
        abs(ours - theirs)
        for prompt, row in zip(PROMPTS, REFERENCE["scores"], strict=True)
        for ours, theirs in zip(scorer.score(images, prompt), row, strict=True)
    ]
    print(f"largest difference to the reference: {max(differences):.1e}")
    assert max(differences) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "bound"), [("fp16", 0.02), ("bf16", 0.06)])
def test_the_full_network_in_lower_precision(full_size_folder: Path, precision: str, bound: float) -> None:
    if torch.__version__ < "2.2" and precision == "fp16":
        pytest.skip("this torch has no half precision on a CPU")
    scorer = load_scorer("ImageReward-v1.0", device="cpu", precision=precision, folder=full_size_folder)
    images = square_images()
    worst = max(
        abs(ours - theirs)
        for prompt, row in zip(PROMPTS, REFERENCE["scores"], strict=True)
        for ours, theirs in zip(scorer.score(images, prompt), row, strict=True)
    )
    print(f"worst deviation in {precision}: {worst:.1e}")
    assert worst < bound


@pytest.mark.weights
def test_the_published_example_gets_its_published_scores() -> None:
    """The four images of the reference implementation's repository, in `$IMAGEREWARD_HOME/example/{1..4}.webp`."""
    import os

    from imagereward_ext.images import open_image

    folder = Path(os.environ["IMAGEREWARD_HOME"]) / "example"
    images = [open_image(folder / f"{number}.webp") for number in (1, 2, 3, 4)]
    places, scores = load_scorer(device="cpu").rank(images, PROMPTS[0])
    assert places == [1, 2, 3, 4]
    assert scores == pytest.approx([0.58, 0.27, -1.41, -2.03], abs=0.01)
