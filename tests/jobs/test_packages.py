"""The private folder of training packages, filled by a real pip from wheels made here, without a network."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from imagereward_ext.jobs import packages
from imagereward_ext.jobs.packages import PackageError

A1111 = {
    "torch": "2.1.2",
    "transformers": "4.30.2",
    "numpy": "1.26.2",
    "accelerate": "0.21.0",
    "regex": "2024.1.1",
}


def write_wheel(folder: Path, name: str, version: str, requires: list[str] = (), code: str = "") -> None:
    """A wheel is a zip: a package with a version, and what it needs."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", code or f"__version__ = {version!r}\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def _imports_do_not_matter(monkeypatch):
    monkeypatch.setattr(packages, "check", lambda folder: {})


def host_versions():
    return {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}


def test_versions_follow_the_hosts_transformers():
    assert packages.wanted(A1111.get) == {"diffusers": "0.31.0", "peft": "0.13.2"}
    forge = {**A1111, "transformers": "4.46.1", "diffusers": "0.31.0", "peft": "0.13.2"}
    assert packages.wanted(forge.get) == {}
    reforge = {**A1111, "transformers": "4.48.1", "diffusers": "0.32.2"}
    assert packages.wanted(reforge.get) == {"peft": "0.13.2"}
    newest = {"transformers": "5.23.0"}
    assert packages.wanted(newest.get)["diffusers"] == "0.42.1"
    with pytest.raises(PackageError, match="no transformers"):
        packages.wanted({}.get)


def test_missing_looks_at_host_and_folder_and_at_the_version(tmp_path, wheels):
    assert packages.missing(tmp_path / "none", A1111.get) == ["diffusers", "peft"]
    old = {**A1111, "diffusers": "0.21.0", "peft": "0.13.2"}
    assert packages.missing(tmp_path / "none", old.get) == ["diffusers"]
    write_wheel(wheels, "peft", "0.13.2")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--target", tmp_path / "own", "peft"], check=True
    )
    assert packages.missing(tmp_path / "own", A1111.get) == ["diffusers"]


@pytest.mark.usefixtures("_imports_do_not_matter")
def test_only_what_the_host_lacks_is_installed_and_no_host_package_moves(tmp_path, wheels):
    write_wheel(
        wheels,
        "diffusers",
        "0.31.0",
        ["numpy", "regex!=2019.12.17", "small-thing>=1.2", 'never; extra == "flax"'],
    )
    write_wheel(wheels, "peft", "0.13.2", ["torch>=1.13.0", "accelerate>=0.21.0", "transformers"])
    write_wheel(wheels, "small_thing", "1.3", ["smaller-thing"])
    write_wheel(wheels, "small_thing", "1.1")
    write_wheel(wheels, "smaller_thing", "0.1")
    for name in ("torch", "numpy", "transformers", "accelerate"):  # there to be taken by mistake
        write_wheel(wheels, name, "99.0")
    before, lines = host_versions(), []
    found = packages.install(tmp_path / "packages", lines.append, A1111.get)
    assert found == {"diffusers": "0.31.0", "peft": "0.13.2", "small-thing": "1.3", "smaller-thing": "0.1"}
    assert packages.missing(tmp_path / "packages", A1111.get) == []
    assert host_versions() == before
    assert any("Successfully installed" in line for line in lines), "pip's own words are the progress"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.usefixtures("_imports_do_not_matter")
def test_a_package_that_wants_another_torch_is_refused(tmp_path, wheels):
    write_wheel(wheels, "diffusers", "0.31.0", ["torch>=3"])
    write_wheel(wheels, "peft", "0.13.2")
    with pytest.raises(PackageError, match=r"diffusers 0.31.0 needs torch>=3, but this WebUI has 2.1.2"):
        packages.install(tmp_path / "packages", lambda line: None, A1111.get)
    assert not (tmp_path / "packages").exists()


def test_without_a_network_the_error_says_what_to_install_and_how(tmp_path, wheels):
    with pytest.raises(PackageError) as error:
        packages.install(tmp_path / "packages", lambda line: None, A1111.get)
    text = str(error.value)
    assert "diffusers==0.31.0 peft==0.13.2 could not be installed" in text
    assert (
        f'-m pip install --no-deps --target "{tmp_path / "packages"}" diffusers==0.31.0 peft==0.13.2' in text
    )
    assert "\n" not in text
    assert list(tmp_path.iterdir()) == [wheels]


def test_a_failed_installation_leaves_the_earlier_one(tmp_path, wheels):
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "kept.py").touch()
    with pytest.raises(PackageError):
        packages.install(tmp_path / "packages", lambda line: None, A1111.get)
    assert (tmp_path / "packages" / "kept.py").exists()


def test_packages_that_do_not_import_are_said_so(tmp_path, wheels):
    write_wheel(wheels, "diffusers", "0.31.0", code="raise ImportError('cannot import name X')")
    write_wheel(wheels, "peft", "0.13.2")
    with pytest.raises(PackageError, match="do not fit this WebUI's: ImportError: cannot import name X"):
        packages.install(tmp_path / "packages", lambda line: None, A1111.get)
    assert not (tmp_path / "packages").exists()


def test_the_training_process_sees_the_hosts_own_torch_and_the_folders_rest(tmp_path, wheels):
    pytest.importorskip("accelerate")
    write_wheel(wheels, "diffusers", "0.31.0")
    write_wheel(wheels, "peft", "0.13.2")
    packages.install(tmp_path / "packages", lambda line: None, A1111.get)
    found = packages.check(tmp_path / "packages")
    import numpy
    import torch
    import transformers

    for module in (torch, numpy, transformers):
        assert found[module.__name__] == [module.__version__, module.__file__]
    for name in ("diffusers", "peft"):
        assert Path(found[name][1]).is_relative_to(tmp_path / "packages")
