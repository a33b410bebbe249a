"""What the documents and the runner's help say is what the code has."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from imagereward_ext.cli import COMMANDS
from imagereward_ext.evaluation.comparison import ComparisonRequest
from imagereward_ext.refl.config import TrainingConfig
from imagereward_ext.reward_training.recipes import ClipMlpRecipe, ImageRewardRecipe
from imagereward_ext.scorers.base import Scorer
from imagereward_ext.settings import schema
from imagereward_ext.settings.tables import markdown_table
from imagereward_ext.webui.options import ScoringRequest, Settings, read_request
from imagereward_ext.webui.refl_tab.form import STRENGTHS, TabSettings, strength_values

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run", ROOT / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SETTINGS_PAGE = ROOT / "docs" / "settings.md"


def tables() -> dict[str, str]:
    """Return the table of each heading of docs/settings.md."""
    return {
        "The options of a generation": markdown_table(schema(ScoringRequest).values(), "only in"),
        "The Settings page": markdown_table(schema(Settings).values()),
        "train": markdown_table(schema(TrainingConfig).values(), "group"),
        "compare": markdown_table(schema(ComparisonRequest).values()),
        "The ReFL tab's own fields": markdown_table(schema(TabSettings).values()),
        "train-reward --recipe imagereward": markdown_table(schema(ImageRewardRecipe).values()),
        "train-reward --recipe clip-mlp": markdown_table(schema(ClipMlpRecipe).values()),
    }


def with_tables(page: str) -> str:
    """Put the table of today under each heading."""
    heading = ""
    lines: list[str] = []
    for line in page.splitlines(keepends=True):
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip()
        if not line.startswith("|"):
            lines.append(line)
        elif not lines[-1].startswith("|"):
            lines.append(tables()[heading])
    return "".join(lines)


def test_every_setting_stands_in_the_docs_as_the_code_has_it() -> None:
    page = SETTINGS_PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == list(tables())
    assert with_tables(page) == page, "run python -m tests.test_docs"


def test_the_strengths_stand_in_the_docs_as_the_tab_has_them() -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for strength in STRENGTHS:
        values = strength_values(strength)
        assert f"| {strength} | {values['updates']} | {values['learning_rate']:g} |" in page


def test_the_runner_lists_every_command(runner: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--help"]) == 0
    words = re.findall(r"[a-z-]+", capsys.readouterr().out)
    assert {*COMMANDS, "demo", "test", "check", "fuzz", "bench"} <= set(words)


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 13, 0)])
def test_a_python_without_the_pinned_packages_is_told(
    runner: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: tuple[int, ...],
) -> None:
    monkeypatch.setattr(runner, "environment", lambda name: pytest.fail("an environment was made"))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version_info", version)
        assert runner.main(["score", "a.png"]) == 2
    told = f"Python 3.10 to 3.12 is needed; this is 3.{version[1]}. Try python3.12"
    assert told in capsys.readouterr().err


def test_the_readme_names_the_pythons_the_runner_takes(runner: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    versions = range(runner.OLDEST_PYTHON[1], runner.NEWEST_PYTHON[1] + 1)
    *others, last = (f"3.{minor}" for minor in versions)
    assert f"Python ({', '.join(others)} or {last})" in readme


def test_every_mark_of_a_test_is_explained_to_who_works_here() -> None:
    (marks,) = re.findall(
        r"^markers = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S
    )
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = re.findall(r'^ *"(\w+):', marks, re.M)
    assert "slow" in names
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_readme_calls_what_a_scorer_has() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    called = re.findall(r"^scorer\.(\w+)\(", readme, re.MULTILINE)
    assert called == ["score", "rank", "score_pixels"]
    assert [name for name in called if not callable(getattr(Scorer, name, None))] == []


def links(page: Path) -> list[str]:
    """Return what a page links to inside the repository: a path, an anchor, or both."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_of_the_docs_can_be_reached_from_the_readme() -> None:
    reached = [ROOT / "README.md"]
    for page in reached:  # grows while it is walked over
        linked = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        reached += [path for path in sorted(linked) if path.suffix == ".md" and path not in reached]
    assert set(PAGES) - set(reached) == set()


@pytest.mark.skipif(shutil.which("bash") is None, reason="the examples are written for bash")
def test_the_api_examples_are_whole_and_made_for_the_demo() -> None:
    page = (ROOT / "docs" / "hosts.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    shown = r"""curl() { printf '%s\037' "$@"; printf '\036'; }"""
    done = subprocess.run(
        ["bash", "-euc", f"{shown}\n{block}"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    calls = [call.split("\x1f") for call in done.stdout.split("\x1e")[:-1]]
    assert len(calls) == 5
    assert all(any(word.startswith("http://127.0.0.1:7860/") for word in call) for call in calls)
    whole, script = (json.loads(call[call.index("-d") + 1]) for call in calls if "-d" in call)
    for body in (whole, script):
        assert (body["width"], body["height"], body["cfg_scale"]) == (64, 64, 3)
    for options in (whole["alwayson_scripts"]["ImageReward scoring"]["args"], script["script_args"]):
        assert read_request(options[0]).problems == ()


if __name__ == "__main__":
    SETTINGS_PAGE.write_text(with_tables(SETTINGS_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
