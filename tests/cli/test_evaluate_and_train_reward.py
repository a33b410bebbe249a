"""The two commands from rankings to a model and its report, as a person types them."""

import json
import tempfile

import pytest

from imagereward_ext.cli import main
from imagereward_ext.jobs.claim import run_and_device
from tests.preferences import make_preferences
from tests.tiny import TINY, make_tiny_scorer_folder, picture, write_vocabulary
from tests.tiny_clip import make_aesthetic_folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the locks of devices lie there
    make_tiny_scorer_folder(tmp_path / "home" / "tiny-reward", name="tiny-reward")
    return tmp_path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def small(home):
    rankings = make_preferences(home / "data", prompts=6, images=(3, 3))
    return rankings, ["--no-download", "--cpu", "--epochs", 1, "--pairs-per-step", 8]


def test_train_from_nothing_then_score_by_name(home, capsys):
    rankings, options = small(home)
    write_vocabulary(home / "vocab.txt")
    (home / "sizes.json").write_text(json.dumps({"image_size": 32, "patch_size": 8, "vision_width": 16, "vision_layers": 1,
        "vision_heads": 2, "text_width": 16, "text_layers": 1, "text_heads": 2, "vocabulary_size": TINY.vocabulary_size,
        "head_widths": [8, 8, 8, 8]}))  # fmt: skip
    start = ["--init", "random", "--architecture", home / "sizes.json", "--vocabulary", home / "vocab.txt"]
    output = home / "home" / "my-taste"
    assert run("train-reward", rankings, "--output", output, *start, "--freeze", 0, *options) == 0
    told = capsys.readouterr().err
    assert "pairs to learn from" in told
    assert "held out: loss" in told
    assert "Wrote" in told
    image = home / "data" / "images" / "0-0-0.png"
    assert run("score", image, "--scorer", "my-taste", "--prompt", "a red circle", "--device", "cpu") == 0
    assert float(capsys.readouterr().out.split()[0]) == pytest.approx(0, abs=10)


def test_adapting_a_scorer_by_its_name(home, capsys):
    rankings, options = small(home)
    assert (
        run(
            "train-reward",
            rankings,
            "--output",
            "adapted",
            "--init",
            "tiny-reward",
            "--label",
            "Mine",
            *options,
        )
        == 0
    )
    config = json.loads((home / "adapted" / "config.json").read_text())
    assert (config["name"], config["label"], config["notes"]["settings"]["frozen_share"]) == (
        "adapted",
        "Mine",
        0.7,
    )


@pytest.mark.parametrize(
    ("claims", "message"), [("run", "m-training is at work already"), ("cpu", "uses this device")]
)
def test_two_trainings_never_share_a_run_or_unasked_a_device(home, capsys, claims, message):
    rankings, quick = small(home)
    arguments = ["train-reward", rankings, "--output", home / "m", "--init", "tiny-reward", *quick]
    folder, device = (home / "m-training", None) if claims == "run" else (None, "cpu")
    with run_and_device(folder, device):
        assert run(*arguments) != 0
        assert message in capsys.readouterr().err
        assert not (home / "m").exists()
        shared = run(*arguments, "--share-device")
    assert (shared == 0) is (claims == "cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init", "nobody"], "no scorer is called 'nobody'"),
        (["--init", "random", "--architecture", "none.json"], "cannot be read"),
        (["--recipe", "clip-mlp", "--freeze", "0.5"], "no setting 'frozen_share'"),
        (["--validation-share", "1.5"], "between 0 and 1"),
        (["--label", "a: b", "--init", "tiny-reward"], "label 'a: b'"),
    ],
)
def test_what_cannot_be_trained_is_one_line(home, capsys, options, message):
    rankings, quick = small(home)
    assert run("train-reward", rankings, "--output", "m", *options, *quick) in (1, 2)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


def test_a_flag_that_makes_no_sense_is_refused_with_its_choices(home, capsys):
    rankings, quick = small(home)
    with pytest.raises(SystemExit) as end:
        run("train-reward", rankings, "--output", "m", "--schedule", "linear", *quick)
    assert end.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: argument --schedule: it is 'linear'; choose one of cosine, constant")


def test_evaluate_preferences(home, capsys):
    rankings, _ = small(home)
    make_aesthetic_folder(home / "home" / "tiny-aesthetic")
    (home / "data" / "images" / "0-0-0.png").unlink()
    scorers = ["--scorer", "tiny-reward", "--scorer", "tiny-aesthetic"]
    assert run("evaluate", "preferences", rankings, *scorers, "--output", "report", "--device", "cpu") == 0
    shown = capsys.readouterr()
    assert "Preference accuracy" in shown.out
    assert "Agreement between raters" in shown.out
    assert "skipped" in shown.err
    assert {path.suffix for path in (home / "report").iterdir()} == {".md", ".json", ".csv", ".png"}
    data = json.loads((home / "report" / "preferences.json").read_text())
    assert data["skipped_images"] == 1
    assert (home / "home" / "cache" / "scores").is_dir()


def test_evaluate_generators_and_top1(home, capsys):
    for model in ("a", "b", "c"):
        for key in ("p1", "p2"):
            for n in range(2):
                path = home / "models" / model / f"{key}_{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(ord(model) + n, (32, 32)).save(path)
    (home / "prompts.json").write_text('[{"id": "p1", "prompt": "a cat"}, {"id": "p2", "prompt": "a dog"}]')
    common = ["--prompts", "prompts.json", "--scorer", "tiny-reward", "--device", "cpu", "--output", "report"]
    assert run("evaluate", "generators", "models", *common, "--human-ranking", "a,b,c") == 0
    assert "Spearman's rho" in capsys.readouterr().out
    assert run("evaluate", "top1", "models/a", *common) == 0
    assert (home / "report" / "top1-sheet-1.png").is_file()
    assert run("evaluate", "top1", "models", *common) == 2
    assert "holds 3 models" in capsys.readouterr().err


def test_evaluate_calibrate_makes_a_mix_that_scores(home, capsys):
    images = home / "images"
    images.mkdir()
    for n in range(20):
        picture(n, (32, 32)).save(images / f"{n}.png")
    make_aesthetic_folder(home / "home" / "tiny-aesthetic")
    scorers = [
        "--scorer",
        "tiny-reward=0.8",
        "--scorer",
        "tiny-aesthetic=0.2",
        "--prompt",
        "a cat",
        "--device",
        "cpu",
    ]
    assert run("evaluate", "calibrate", images, *scorers) == 2
    assert "--output" in capsys.readouterr().err
    assert run("evaluate", "calibrate", images, *scorers, "--output", home / "home" / "my-mix") == 0
    assert "tiny-aesthetic" in capsys.readouterr().out
    assert run("score", images / "0.png", "--scorer", "my-mix", "--prompt", "a cat", "--device", "cpu") == 0
    assert run("evaluate", "calibrate", images, "--scorer", "tiny-reward=much") == 2
    assert "'much' is no number" in capsys.readouterr().err
