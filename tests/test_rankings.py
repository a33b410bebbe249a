"""Rankings in their three layouts, pairs, broken images, and the held-out share."""

import json
import os
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from imagereward_ext.rankings import (
    RankedPrompt,
    RankingsError,
    count_pairs,
    ordered_pairs,
    read_rankings,
    split,
    verified,
    without,
)
from tests.tiny import picture

PUBLISHED = Path(os.environ.get("IMAGEREWARD_TEST_RANKINGS", "imagereward-test-rankings.json"))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def ranking_file(tmp_path):
    """Two prompts in the shape of the published test set; the second has a tie and a single pair beside it."""
    return write(
        tmp_path / "test.json",
        [
            {
                "id": "005658-0040",
                "prompt": "a portal",
                "generations": ["p/a.png", "p/b.png", "p/c.png"],
                "ranking": [1, 3, 2],
            },
            {
                "id": "005664-0153",
                "prompt": "a cola",
                "generations": ["q/d.png", "q/e.png", "q/f.png"],
                "ranking": [1, 1, 2],
            },
        ],
    )


@pytest.mark.skipif(
    not PUBLISHED.is_file(), reason="set IMAGEREWARD_TEST_RANKINGS to ImageReward's data/test.json"
)
def test_the_published_test_set_has_466_prompts_and_6399_pairs():
    prompts = read_rankings(PUBLISHED)
    assert len(prompts) == 466
    assert count_pairs(prompts) == 6399


def test_the_ranking_json(ranking_file, tmp_path):
    first, second = read_rankings(ranking_file)
    assert (first.id, first.prompt, first.ranks) == ("005658-0040", "a portal", (1, 3, 2))
    assert first.images == tuple(tmp_path / f"p/{name}.png" for name in "abc")
    assert first.pairs() == [(0, 1), (0, 2), (2, 1)]
    assert second.pairs() == [(0, 2), (1, 2)]
    assert read_rankings(ranking_file, images="/elsewhere")[0].images[0] == Path("/elsewhere/p/a.png")


def test_imagerewarddb_s_folders(tmp_path):
    """Records as published: one for each image, paths from the data set's root, files beside the JSON."""

    def record(name, prompt_id, rank):
        return {
            "image_path": f"images/train/train_1/{name}.webp",
            "prompt_id": prompt_id,
            "prompt": f"text of {prompt_id}",
            "classification": "People",
            "image_amount_in_total": 3,
            "rank": rank,
            "overall_rating": 4,
            "image_text_alignment_rating": 3,
            "fidelity_rating": 4,
        }

    records = [
        record("a", "1", 2),
        record("b", "1", 1),
        record("x", "2", 1),
        record("c", "1", 2),
        record("y", "2", 2),
    ]
    part = tmp_path / "images" / "train" / "train_1"
    write(part / "train_1.json", records)
    write(
        tmp_path / "images" / "train" / "train_2" / "train_2.json", [record("z", "3", 1), record("w", "3", 2)]
    )
    write(tmp_path / "images" / "train" / "notes.json", "[]")
    one, two, three = read_rankings(tmp_path)
    assert (one.id, one.prompt, one.ranks) == ("1", "text of 1", (2, 1, 2))
    assert one.images == (part / "a.webp", part / "b.webp", part / "c.webp")
    assert one.pairs() == [(1, 0), (1, 2)]
    assert (two.ranks, three.id) == ((1, 2), "3")
    assert (
        read_rankings(part / "train_1.json", images=tmp_path)[0].images[0]
        == tmp_path / "images/train/train_1/a.webp"
    )


def test_a_folder_with_a_csv(tmp_path):
    write(
        tmp_path / "ranks.csv",
        "\ufeffimage,prompt,rank\na.png,a cat,2\nb.png,a cat,1\nc.png,a dog,1\nd.png,a dog,1\n",
    )
    cat, dog = read_rankings(tmp_path)
    assert (cat.prompt, cat.images, cat.ranks) == ("a cat", (tmp_path / "a.png", tmp_path / "b.png"), (2, 1))
    assert dog.pairs() == []


def test_a_csv_may_rank_one_text_twice(tmp_path):
    write(
        tmp_path / "r.csv",
        "image,prompt,rank,prompt_id\na.png,a cat,1,x\nb.png,a cat,2,x\nc.png,a cat,1,y\nd.png,a cat,2,y\n",
    )
    assert [prompt.id for prompt in read_rankings(tmp_path / "r.csv")] == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.json", "[", "cannot be read"),
        ("r.json", "{}", "no list"),
        ("r.json", [{"prompt": "x", "generations": ["a"], "ranking": [1, 2]}], "1 images but 2 ranks"),
        ("r.json", [{"prompt": "x", "generations": ["a"]}], "lacks 'ranking'"),
        ("r.json", [{"text": "x"}], "expected generations"),
        ("r.csv", "image,prompt,rank\na.png,x,best\n", "rank of a.png is 'best'"),
        ("r.csv", "image,prompt\na.png,x\n", "lacks 'rank'"),
        ("r.csv", "image,prompt,rank,prompt_id\na.png,x,1,1\nb.png,y,2,1\n", "2 different prompts"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    with pytest.raises(RankingsError, match=message):
        read_rankings(write(tmp_path / name, content))


def test_a_folder_without_rankings(tmp_path):
    with pytest.raises(RankingsError, match="does not exist"):
        read_rankings(tmp_path / "nothing.json")
    with pytest.raises(RankingsError, match="holds no rankings: expected a CSV"):
        read_rankings(tmp_path)
    write(tmp_path / "train_1.zip", "")
    with pytest.raises(RankingsError, match="unpack the ZIP"):
        read_rankings(tmp_path)


def test_ordered_pairs_agree_with_counting():
    for ranks in ([1], [1, 1], [3, 1, 2, 1], [2.5, 1, 1, 7, 2.5]):
        pairs = ordered_pairs(ranks)
        assert all(ranks[better] < ranks[worse] for better, worse in pairs)
        assert len(pairs) == sum(a != b for a, b in combinations(ranks, 2))


def test_missing_and_broken_images_are_listed_and_left_out(ranking_file, tmp_path):
    for name in ("p/a", "p/b", "q/e", "q/f"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        picture(1).save(path)
    write(tmp_path / "p/c.png", "no image")
    whole = (tmp_path / "q/f.png").read_bytes()
    (tmp_path / "q/f.png").write_bytes(whole[: len(whole) // 2])
    seen = []
    prompts, problems = verified(read_rankings(ranking_file), seen.append)
    assert sum(seen) == 6
    assert {problem.image.name for problem in problems} == {"c.png", "d.png", "f.png"}
    assert all(problem.reason for problem in problems)
    assert [prompt.prompt for prompt in prompts] == ["a portal"], "one image is no pair"
    assert prompts[0].ranks == (1, 3)
    assert prompts[0].images == (tmp_path / "p/a.png", tmp_path / "p/b.png")


def test_a_prompt_of_ties_goes_when_its_only_pair_goes():
    prompt = RankedPrompt("1", "x", (Path("a"), Path("b"), Path("c")), (1, 1, 2))
    assert without([prompt], [Path("c")]) == []
    assert without([prompt], [Path("a")])[0].ranks == (1, 2)


def test_the_held_out_share_keeps_texts_apart_and_stays_when_rankings_are_added():
    prompts = [RankedPrompt(str(n), f"text {n % 50}", (Path("a"), Path("b")), (1, 2)) for n in range(100)]
    training, held = split(prompts, 0.2, seed=3)
    texts = Counter(p.prompt for p in held)
    assert len(texts) == 10
    assert not texts.keys() & {p.prompt for p in training}
    assert len(training) + len(held) == 100
    assert split(prompts[::-1], 0.2, seed=3)[1] == held[::-1]
    assert split(prompts, 0.2, seed=4)[1] != held
    assert len(split(prompts[:2], 0.01)[1]) == 1, "a share above nothing holds at least one prompt back"
    assert split(prompts[:1], 0.5)[0] == prompts[:1], "the only prompt is for training"
