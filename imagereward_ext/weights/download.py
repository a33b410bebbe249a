"""Getting weights onto this machine, once."""

from __future__ import annotations

from pathlib import Path

from imagereward_ext.errors import WeightsError
from imagereward_ext.weights import locate
from imagereward_ext.weights.catalogue import RemoteFile
from imagereward_ext.wording import Say


def obtain(
    file: RemoteFile, folder: Path | str | None = None, *, download: bool = True, report: Say | None = None
) -> Path:
    """Return the file's path, downloading it first when it is nowhere on this machine."""
    found = locate.find_file(file, folder)
    if found is not None:
        return found
    target_folder = locate.places(folder)[0]
    if not download:
        raise WeightsError(
            f"{file.name} is not on this machine and downloading is off. {_by_hand(file, target_folder)}"
        )
    return _download(file, target_folder, report or (lambda message: None))


def _download(file: RemoteFile, folder: Path, report: Say) -> Path:
    from filelock import FileLock

    target = folder / file.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The second of two processes waits here, then finds the file that the first one brought.
        with FileLock(folder / f".{file.name}.lock"):
            if not target.is_file():
                report(
                    f"Downloading {file.name} ({file.size_in_bytes / 1e6:,.1f} MB) from {file.repo} to {folder}"
                )
                _fetch(file, folder).replace(target)
    except WeightsError:
        raise
    # The hub's client fails in as many ways as a network can; each of them ends in the same advice.
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(" .")
        raise WeightsError(
            f"{file.name} could not be downloaded: {reason}. {_by_hand(file, folder)}"
        ) from error
    return target


def _fetch(file: RemoteFile, folder: Path) -> Path:
    """Download through the hub's own client: it resumes a broken download and shows its progress."""
    if file.url:
        return _fetch_from_server(file, folder)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import RepositoryNotFoundError  # type: ignore[attr-defined, unused-ignore]

    for repo in file.repos:
        try:
            return Path(hf_hub_download(repo, file.path, local_dir=folder))
        except RepositoryNotFoundError:
            if repo == file.repos[-1]:
                raise
    raise AssertionError("a file without a repository")


def _fetch_from_server(file: RemoteFile, folder: Path) -> Path:
    from torch.hub import download_url_to_file

    arriving = folder / f".{file.name}.part"
    try:
        download_url_to_file(file.url, str(arriving))
    except BaseException:
        arriving.unlink(missing_ok=True)
        raise
    return arriving


def _by_hand(file: RemoteFile, folder: Path) -> str:
    rename = "" if file.path == file.name else f" as {file.name}"
    return f"Get it from {file.address} and put it into {folder}{rename}."
