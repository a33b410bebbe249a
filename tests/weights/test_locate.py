"""Where weights are looked for, and in which order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagereward_ext.errors import UsageError
from imagereward_ext.weights import catalogue, locate

ENTRY = catalogue.entry("ImageReward-v1.0")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_the_order_of_places(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extension = home / "webui" / "extensions" / "imagereward"
    monkeypatch.setattr(locate, "_EXTENSION_ROOT", extension)
    monkeypatch.setenv("IMAGEREWARD_HOME", str(home / "mine"))
    expected = [home / "asked", home / "mine", home / "webui/models/ImageReward", home / ".cache/ImageReward"]
    assert locate.places(home / "asked") == expected
    for place in reversed(expected):
        place.mkdir(parents=True)
        (place / "ImageReward.pt").touch()
        assert locate.find(ENTRY, home / "asked") == place / "ImageReward.pt"


def test_outside_a_webui_only_the_users_own_folders_count(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "_EXTENSION_ROOT", home / "clone")
    assert locate.places() == [home / ".cache" / "ImageReward", home / "clone" / "models" / "ImageReward"]
    assert locate.find(ENTRY) is None


def test_a_clone_knows_its_own_models_and_the_demos_by_name_but_lists_only_the_former(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "_EXTENSION_ROOT", home / "clone")
    mine, demo = home / "clone/models/ImageReward/mine", home / "clone/demo/models/demo-witness"
    hidden = home / "clone/demo/models/mine"
    for folder in (mine, demo, hidden):
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
    assert [locate.resolve("mine"), locate.resolve("demo-witness")] == [mine, demo]
    assert locate.model_folders() == {"mine": mine}
    assert home / "clone" / "demo" / "models" not in locate.places()


def test_a_name_that_nobody_has_names_the_folders_that_were_searched(home: Path) -> None:
    with pytest.raises(UsageError) as caught:
        locate.resolve("nope", home / "asked")
    assert str(home / "asked") in str(caught.value)
    assert str(home / ".cache" / "ImageReward") in str(caught.value)


def test_the_converted_copy_is_preferred_until_the_original_is_replaced(home: Path) -> None:
    pickle, copy = home / "ImageReward.pt", home / "ImageReward.safetensors"
    copy.touch()
    assert locate.find(ENTRY, home) == copy
    pickle.touch()
    os.utime(pickle, (1, 1))
    assert locate.find(ENTRY, home) == copy
    os.utime(copy, (0, 0))
    assert locate.find(ENTRY, home) == pickle


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        ("m.pt", "m.safetensors"),
        ("m.PT", "m.safetensors"),
        ("m.ckpt", "m.safetensors"),
        ("m", "m.safetensors"),
        ("taste-v1.5", "taste-v1.5.safetensors"),
        ("m.safetensors", "m.safetensors"),
        ("m.SAFETENSORS", "m.SAFETENSORS"),
    ],
)
def test_no_pickle_is_its_own_copy(name: str, copy: str) -> None:
    assert locate.converted(Path("a", name)) == Path("a", copy)


def test_the_hub_cache_is_found(home: Path) -> None:
    pytest.importorskip("huggingface_hub")
    import subprocess
    import sys

    snapshot = home / "hub" / "models--zai-org--ImageReward" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "ImageReward.pt").touch()
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    # A process of its own: the hub's client reads its settings when it is imported.
    code = """
from imagereward_ext.weights import catalogue, locate
found = locate.find(catalogue.entry("ImageReward-v1.0"))
print(found, locate.is_hub_cache(found))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(snapshot / "ImageReward.pt"), "True"]


def test_own_models_are_listed_by_folder_name(home: Path) -> None:
    for name in ("mine", "other"):
        (home / "models" / name).mkdir(parents=True)
        (home / "models" / name / "config.json").touch()
    (home / "models" / "unfinished").mkdir()
    assert locate.model_folders(home / "models") == {n: home / "models" / n for n in ("mine", "other")}


def test_names_are_found_in_any_spelling_and_unknown_ones_list_the_choices() -> None:
    assert catalogue.entry("imagereward-V1.0") is catalogue.entry("ImageReward") is ENTRY
    with pytest.raises(Exception, match="no scorer is called 'Imagereward-v9'; known are: ImageReward-v1.0"):
        catalogue.entry("Imagereward-v9")


def test_every_entry_is_complete() -> None:
    labels = [entry.label for entry in catalogue.ENTRIES.values()]
    assert len(set(labels)) == len(labels)
    for entry in catalogue.ENTRIES.values():
        assert entry.licence and entry.homepage.startswith("https://") and entry.size_in_bytes > 1_000
        for file in (entry.weights, *entry.companions.values()):
            assert file.address.startswith("https://") and file.name and bool(file.repos) != bool(file.url)
