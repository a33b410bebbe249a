"""One more published scorer is one file beside the others and one row of the catalogue; nothing else is told of it."""

import json
import textwrap

import pytest
import torch

from imagereward_ext import scorers
from imagereward_ext.cli import main
from imagereward_ext.scorers import calibrate, load_scorer
from imagereward_ext.weights import catalogue
from imagereward_ext.weights.catalogue import Entry, RemoteFile
from imagereward_ext.weights.tensors import save_tensors
from tests.scorers.test_reward import IMAGES, gradients, pixels_of

ONE_FILE = '''
"""Colour: a linear taste in the mean colour, whatever the prompt."""

import torch
from torch import nn

from imagereward_ext.scorers.base import EmbeddingScorer
from imagereward_ext.scorers.filling import fill, published_shapes
from imagereward_ext.scorers.preprocessing import Preprocessing


class Colour(EmbeddingScorer):
    def __init__(self, layer, source, placement, digest):
        self.name, self.label, self.digest = source.name, source.label, digest
        self.device, self.dtype, self.batch_size = placement.device, placement.dtype, placement.batch_size
        self._layer, self._preprocessing = layer, Preprocessing(source.settings["size"])

    def preprocess(self, image):
        return self._preprocessing.image(image)

    def preprocess_pixels(self, pixels):
        return self._preprocessing.pixels(pixels)

    def embed(self, inputs):
        return inputs.mean((2, 3))

    def compare(self, embeddings, prompts):
        return self._layer(embeddings).squeeze(-1).float()

    def modules(self):
        yield self._layer


def build(source, placement):
    with torch.device("meta"):
        layer = nn.Linear(3, 1)
    shapes = published_shapes(layer)
    file = source.open(shapes, f"{source.name} (colour)")
    fill(layer, file, placement)
    return Colour(layer, source, placement, file.digest(shapes))
'''
ONE_ROW = Entry(
    name="Colour-v1",
    label="Colour",
    architecture="mean-colour",
    weights=RemoteFile(("somebody/colour",), "colour.safetensors", 200),
    licence="MIT",
    homepage="https://example.org/colour",
    settings={"size": 32},
)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Add the file and the row, and put the weights where a download would."""
    package = tmp_path / "beside"
    package.mkdir()
    (package / "mean_colour.py").write_text(textwrap.dedent(ONE_FILE))
    monkeypatch.setattr(scorers, "__path__", [*scorers.__path__, str(package)])
    monkeypatch.setitem(catalogue.ENTRIES, ONE_ROW.name, ONE_ROW)
    folder = tmp_path / "shelf"
    folder.mkdir()
    weights = {"weight": torch.tensor([[2.0, -1.0, 0.5]]), "bias": torch.tensor([40.0])}
    save_tensors(folder / "colour.safetensors", weights)
    return folder


def test_it_is_loaded_by_name_scores_and_can_be_trained_on(shelf):
    scorer = load_scorer("colour-V1", device="cpu", folder=shelf, download=False)
    scores = scorer.score(IMAGES, "whatever")
    assert len(set(scores)) == len(IMAGES) and all(30 < score < 50 for score in scores)
    prompts = ["whatever"] * len(IMAGES)
    reward = calibrate(scorer, pixels_of(IMAGES), prompts)
    assert reward.of(IMAGES, prompts) == pytest.approx(reward(pixels_of(IMAGES), prompts).tolist(), abs=1e-3)
    assert (gradients(reward) > 0).all()


def test_the_command_line_lists_it_and_scores_with_it(shelf, tmp_path, capsys):
    assert main(["models", "--weights-dir", str(shelf)]) == 0
    block = capsys.readouterr().out.split("Colour-v1\n")[1].splitlines()
    assert "MIT, https://example.org/colour" in block[0]
    assert block[1].strip() == f"on disk: {shelf / 'colour.safetensors'}"
    image = tmp_path / "a.png"
    IMAGES[0].save(image)
    words = ["score", str(image), "--prompt", "any", "--scorer", "Colour-v1", "--weights-dir", str(shelf)]
    assert main([*words, "--device", "cpu", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["scorer"] == "Colour-v1"
    scorer = load_scorer("Colour-v1", device="cpu", folder=shelf, download=False)
    assert result["score"] == pytest.approx(scorer.score(IMAGES[:1], "any")[0], abs=1e-3)
