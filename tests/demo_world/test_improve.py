"""`python -m demo.improve`: training towards the reward makes the images better, and three judges say so."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("peft")

from demo import improve


def test_a_short_run_of_two_methods_reports_gains_and_who_beats_whom(tmp_path, capsys):
    small = [f"{name}=2" for name in ("updates", "batch", "micro_batch", "check_images", "prior_images")]
    settings = [word for each in [*small, "rounds=1"] for word in ("--set", each)]
    command = [
        "--output",
        str(tmp_path),
        "--prompts",
        "4",
        "--held-out",
        "3",
        "--guidance",
        "3",
        "1",
        "--methods",
    ]
    command += ["refl", "raft"]
    code = improve.main([*command, *settings])
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert code == (0 if all(figures["guidance 3"]["methods"]["refl"]["targets met"].values()) else 1)
    assert figures["guidance 1"]["base"] != figures["guidance 3"]["base"]
    figures = figures["guidance 3"]
    for method in ("refl", "raft"):
        assert list((tmp_path / "runs" / method).glob(f"{method}-*.safetensors"))
        assert set(figures["methods"][method]["mean difference"]) == set(figures["base"])
    matrix = figures["win rates, row against column"]
    assert [label.partition("-")[0] for label in matrix["of"]] == ["base", "refl", "raft"]
    assert matrix["pixel judge"][1][0] + matrix["pixel judge"][0][1] == pytest.approx(1)
    assert (tmp_path / "guidance-3" / "comparison.md").is_file()
    assert '"refl"' in capsys.readouterr().out


def test_what_is_tuned_by_is_not_reported_on():
    assert not set(improve.development_prompts(100)) & set(improve.held_out(improve.REPORTED))


@pytest.mark.slow
def test_training_raises_reward_and_pixel_judge_on_held_out_prompts(tmp_path):
    """Without guidance, where ReFL does; about twenty minutes on two cores."""
    assert improve.main(["--output", str(tmp_path), "--set", "guidance=1", "--guidance", "1"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["minutes of training"]["refl"] <= 20
