"""From a name to a scorer: found, brought, converted, replaced when broken; and what a person reads when it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from imagereward_ext.errors import UsageError, WeightsError
from imagereward_ext.scorers import load_scorer
from imagereward_ext.weights import catalogue, locate
from imagereward_ext.weights.catalogue import Entry, RemoteFile
from imagereward_ext.weights.tensors import save_tensors
from tests.hub import Hub
from tests.tiny import TINY, make_tiny_scorer_folder, picture, tiny_weights, write_vocabulary


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A published tiny model: a pickle and a vocabulary on a hub."""
    from dataclasses import asdict

    entry = Entry(
        name="Tiny-v1",
        label="TinyV1",
        architecture="image-reward",
        weights=RemoteFile(("somebody/tiny",), "tiny.pt", 200_000),
        companions={
            "vocabulary": RemoteFile(("somebody/tiny",), "vocab.txt", 500, saved_as="tiny-vocab.txt")
        },
        licence="Apache-2.0",
        homepage="https://example.org",
        settings=asdict(TINY),
    )
    monkeypatch.setitem(catalogue.ENTRIES, entry.name, entry)
    return entry


@pytest.fixture
def shelf(tmp_path: Path, entry: Entry) -> Path:
    """A folder of weights as a download leaves it."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    torch.save(tiny_weights(), folder / "tiny.pt")
    write_vocabulary(folder / "tiny-vocab.txt")
    return folder


def test_the_pickle_is_converted_once(shelf: Path) -> None:
    said: list[str] = []
    first = load_scorer("tiny-v1", folder=shelf, download=False, report=said.append)
    assert (shelf / "tiny.safetensors").is_file()
    assert len(said) == 1 and said[0].startswith("Converting tiny.pt once")
    (shelf / "tiny.pt").unlink()
    second = load_scorer("tiny-v1", folder=shelf, download=False, report=said.append)
    assert len(said) == 1
    assert second.digest == first.digest
    assert second.score([picture()], "a cat") == first.score([picture()], "a cat")


def test_a_lone_file_is_opened_with_the_vocabulary_beside_it(shelf: Path, entry: Entry, monkeypatch) -> None:
    monkeypatch.setattr(catalogue, "DEFAULT", entry.name)
    assert load_scorer(str(shelf / "tiny.pt"), download=False).name == "Tiny-v1"


@pytest.mark.parametrize("name", ["reward", "reward.ckpt", "reward.PT", "reward.v2"])
def test_a_users_own_pickle_is_left_as_it_is_whatever_its_name(
    shelf: Path, entry: Entry, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(catalogue, "DEFAULT", entry.name)
    own = (shelf / "tiny.pt").rename(shelf / name)
    content = own.read_bytes()
    digests = {load_scorer(str(own), download=False).digest for _ in range(2)}
    assert own.read_bytes() == content and len(digests) == 1
    assert [file.name for file in shelf.glob("*.safetensors")] == [locate.converted(own).name]


def folder_with_a_pickle(folder: Path) -> Path:
    """A model folder of the user's own whose weights are `m.bin`."""
    config = make_tiny_scorer_folder(folder) / "config.json"
    config.write_text(config.read_text().replace("model.safetensors", "m.bin"))
    torch.save(tiny_weights(), folder / "m.bin")
    return folder


def test_a_users_own_file_of_the_copys_name_is_left_as_it_is(tmp_path: Path) -> None:
    folder = folder_with_a_pickle(tmp_path / "mine")
    other = (folder / "model.safetensors").rename(
        folder / "m.safetensors"
    )  # the same shapes: it could be one
    os.utime(other, (1, 1))
    content, said = other.read_bytes(), []
    assert load_scorer(str(folder), report=said.append).score([picture()], "a cat")
    assert other.read_bytes() == content
    assert said[0].startswith(
        f"m.bin is read as it is: {other} is there already and is not marked as its copy"
    )


def test_the_file_that_is_named_is_opened_not_a_newer_one_of_its_copys_name(
    shelf: Path, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "DEFAULT", entry.name)
    digest = load_scorer(str(shelf / "tiny.pt"), download=False).digest
    others = {name: 2 * tensor for name, tensor in tiny_weights().items()}
    save_tensors(shelf / "tiny.safetensors", others)
    assert load_scorer(str(shelf / "tiny.pt"), download=False).digest == digest


def test_a_folders_pickle_is_converted_again_only_when_it_has_changed(tmp_path: Path) -> None:
    folder, said = folder_with_a_pickle(tmp_path / "mine"), []
    digests = [load_scorer(str(folder), report=said.append).digest for _ in range(2)]
    assert len(said) == 1 and said[0].startswith("Converting m.bin once")
    torch.save({name: 2 * tensor for name, tensor in tiny_weights().items()}, folder / "m.bin")
    os.utime(folder / "m.safetensors", (1, 1))
    digests.append(load_scorer(str(folder), report=said.append).digest)
    assert len(said) == 2 and digests[0] == digests[1] != digests[2]


def test_a_broken_download_is_kept_aside_and_the_error_says_what_to_do(shelf: Path) -> None:
    content = (shelf / "tiny.pt").read_bytes()
    (shelf / "tiny.pt").write_bytes(content[:5000])
    with pytest.raises(WeightsError) as caught:
        load_scorer("Tiny-v1", folder=shelf, download=False)
    message = str(caught.value)
    assert "tiny.pt cannot be read: it is cut off" in message
    assert "kept aside as tiny.pt.broken" in message
    assert "https://huggingface.co/somebody/tiny/resolve/main/tiny.pt" in message and str(shelf) in message
    assert (shelf / "tiny.pt.broken").read_bytes() == content[:5000]


def test_a_broken_conversion_is_kept_aside_and_made_again(shelf: Path) -> None:
    digest = load_scorer("Tiny-v1", folder=shelf, download=False).digest
    converted = shelf / "tiny.safetensors"
    converted.write_bytes(converted.read_bytes()[:1000])
    assert load_scorer("Tiny-v1", folder=shelf, download=False).digest == digest
    assert (shelf / "tiny.safetensors.broken").exists() and converted.stat().st_size > 1000


def test_a_users_own_broken_file_stays_where_it_is(tmp_path: Path) -> None:
    folder = make_tiny_scorer_folder(tmp_path / "mine")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="model.safetensors cannot be read"):
        load_scorer(str(folder))
    assert (folder / "model.safetensors").read_bytes() == b"nothing"


def test_a_foreign_file_is_refused_and_left(shelf: Path) -> None:
    torch.save({"model.diffusion_model.x": torch.zeros(3)}, shelf / "tiny.pt")
    with pytest.raises(WeightsError, match=r"holds another model, not Tiny-v1 \(image-reward\)"):
        load_scorer("Tiny-v1", folder=shelf, download=False)
    assert (shelf / "tiny.pt").exists()


def test_without_the_file_and_without_a_network_the_error_names_file_address_and_folder(
    tmp_path: Path, entry: Entry
) -> None:
    with pytest.raises(WeightsError) as caught:
        load_scorer("Tiny-v1", folder=tmp_path / "here", download=False)
    for part in ("tiny.pt", entry.weights.address, str(tmp_path / "here")):
        assert part in str(caught.value)


def test_unknown_names_list_the_choices(tmp_path: Path) -> None:
    make_tiny_scorer_folder(tmp_path / "my-taste")
    with pytest.raises(UsageError, match=r"no scorer is called 'nope'; there are ImageReward-v1.0.*my-taste"):
        load_scorer("nope", folder=tmp_path)
    with pytest.raises(UsageError, match="neither a weights file nor a model folder: it does not exist"):
        load_scorer("some/where/else.pt")
    with pytest.raises(UsageError, match="it has no config.json"):
        load_scorer(str(tmp_path))


def test_a_trained_model_is_found_by_its_folders_name(tmp_path: Path) -> None:
    make_tiny_scorer_folder(tmp_path / "my-taste", name="my-taste", label="MyTaste")
    scorer = load_scorer("my-taste", folder=tmp_path)
    assert (scorer.name, scorer.label) == ("my-taste", "MyTaste")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
        ({"precision": "int4"}, "precision 'int4' is unknown; choose auto, fp32, fp16, bf16"),
        ({"batch_size": 0}, "a batch of 0 images"),
    ],
)
def test_impossible_placements_are_refused(tiny_folder: Path, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_scorer(str(tiny_folder), **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "{", "is not valid JSON"),
        (lambda text: "[]", "does not describe a scorer"),
        (lambda text: text.replace('"name"', '"nmae"'), "unknown key 'nmae'"),
        (lambda text: text.replace('"architecture": "image-reward",', ""), "lacks architecture"),
        (
            lambda text: text.replace("image-reward", "telepathy"),
            "architecture 'telepathy'; known are image-reward",
        ),
        (lambda text: text.replace('"vocabulary"', '"dictionary"'), "names no vocabulary"),
    ],
)
def test_a_model_folder_with_a_wrong_config_says_what_is_wrong(tmp_path: Path, change, message: str) -> None:
    config = make_tiny_scorer_folder(tmp_path / "m") / "config.json"
    config.write_text(change(config.read_text()))
    with pytest.raises(WeightsError, match=message):
        load_scorer(str(tmp_path / "m"))


DOWNLOAD = """
import sys
from imagereward_ext.weights.catalogue import RemoteFile
from imagereward_ext.weights.download import obtain
file = RemoteFile(("somebody/gone", "somebody/tiny"), "tiny.pt", 25_600_000, saved_as="named.pt")
print(obtain(file, sys.argv[1], report=lambda message: print(message, file=sys.stderr)))
"""


@pytest.fixture
def hub(tmp_path: Path):
    with Hub({"somebody/tiny/tiny.pt": bytes(range(256)) * 100_000}) as hub:
        yield hub


def start_download(hub: Hub, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DOWNLOAD, str(folder)]
    return subprocess.Popen(
        command, env=hub.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_at_once_download_once(hub: Hub, tmp_path: Path) -> None:
    both = [start_download(hub, tmp_path / "home") for _ in range(2)]
    outputs = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert {out.strip() for out, _ in outputs} == {str(tmp_path / "home" / "named.pt")}
    assert (tmp_path / "home" / "named.pt").read_bytes() == hub.files["somebody/tiny/tiny.pt"]
    assert hub.downloads == 1
    assert sum("Downloading named.pt (25.6 MB) from somebody/gone" in err for _, err in outputs) == 1


def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = 12_000_000  # the client writes in pieces of 10 MB
    for _ in range(3):
        process = start_download(hub, tmp_path / "home")
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert Path(out.strip()).read_bytes() == hub.files["somebody/tiny/tiny.pt"]
    assert hub.ranges, "nothing was resumed"


def test_a_hub_that_cannot_be_reached_ends_in_one_line_of_advice(hub: Hub, tmp_path: Path) -> None:
    hub.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    process = start_download(hub, tmp_path / "home")
    _, err = process.communicate(timeout=240)
    last = err.strip().splitlines()[-1]
    assert process.returncode == 1
    for part in (
        "named.pt could not be downloaded",
        "resolve/main/tiny.pt",
        f"{tmp_path / 'home'} as named.pt",
    ):
        assert part in last
    assert ".. Get it from" not in last, "two full stops"


def test_a_read_only_folder_is_no_obstacle_for_loading(shelf: Path) -> None:
    if os.geteuid() == 0:
        # root writes anywhere: make writing impossible in a way that binds root too
        (shelf / "tiny.safetensors").mkdir()
        shutil.copy(shelf / "tiny-vocab.txt", shelf / "tiny.safetensors" / "in the way")
    else:
        shelf.chmod(0o500)
    scorer = load_scorer("Tiny-v1", folder=shelf, download=False)
    assert scorer.score([picture()], "a cat")
    assert not [path for path in shelf.iterdir() if path.suffix == ".part"]
