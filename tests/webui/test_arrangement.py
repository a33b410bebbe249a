from imagereward_ext.metadata.score_mark import ScoreMark
from imagereward_ext.webui.job.arrangement import ResultLists, put_together, take_apart
from imagereward_ext.webui.job.scored_image import ScoredImage


class Picture:
    size = (8, 8)

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name


def lists_of(images, infotexts, count, first=0):
    return ResultLists(
        images=list(images),
        infotexts=list(infotexts),
        prompts=[f"prompt {i}" for i in range(count)],
        negative_prompts=[f"negative {i}" for i in range(count)],
        seeds=[100 + i for i in range(count)],
        subseeds=[200 + i for i in range(count)],
        first=first,
    )


def job(count, masks=0, grid=True, loose=0):
    """Make what a host returns: grid, image, its masks, next image; texts only for grid and images."""
    pictures = [Picture(f"i{n}") for n in range(count)]
    images = [Picture("grid")] if grid else []
    for n, picture in enumerate(pictures):
        images += [picture, *(Picture(f"i{n} mask {m}") for m in range(masks))]
    images += [Picture(f"loose {n}") for n in range(loose)]
    infotexts = (["grid text"] if grid else []) + [f"text {n}" for n in range(count)]
    scored = [ScoredImage(picture, ScoreMark("ImageReward", float(n))) for n, picture in enumerate(pictures)]
    return lists_of(images, infotexts, count, first=int(grid)), scored


def names(images):
    return [image.name for image in images]


def test_each_image_finds_its_texts_behind_a_grid():
    lists, scored = job(3)
    taken = take_apart(lists, scored, 0)
    assert [(e.image.name, e.infotext, e.prompt, e.seed, e.subseed, e.score) for e in taken.images] == [
        ("i0", "text 0", "prompt 0", 100, 200, 0.0),
        ("i1", "text 1", "prompt 1", 101, 201, 1.0),
        ("i2", "text 2", "prompt 2", 102, 202, 2.0),
    ]


def test_masks_go_with_their_image_and_everything_stays_aligned():
    lists, scored = job(3, masks=2)
    taken = take_apart(lists, scored, 2)
    taken.images = [taken.images[2], taken.images[0]]
    out = put_together(taken, lists, Picture("new grid"), "new grid text")
    assert names(out.images) == ["new grid", "i2", "i2 mask 0", "i2 mask 1", "i0", "i0 mask 0", "i0 mask 1"]
    assert out.infotexts == ["new grid text", *["text 2"] * 3, *["text 0"] * 3]
    assert out.seeds == [102] * 3 + [100] * 3 and out.subseeds == [202] * 3 + [200] * 3
    assert out.prompts == ["prompt 2"] * 3 + ["prompt 0"] * 3
    assert out.negative_prompts == ["negative 2"] * 3 + ["negative 0"] * 3
    assert out.first == 1


def test_the_text_of_a_mask_holds_no_score():
    lists, scored = job(1, masks=1)
    line = "Steps: 2, Seed: 7, Size: 64x64"
    lists.infotexts[1] = f"a fox\n{line}, ImageReward: 0.5000, ImageReward hash: 0123456789, Version: v1"
    out = put_together(take_apart(lists, scored, 1), lists)
    assert out.infotexts == [lists.infotexts[1], f"a fox\n{line}, Version: v1"]


def test_images_of_other_extensions_stay_at_the_end():
    lists, scored = job(2, masks=1, loose=2)
    taken = take_apart(lists, scored, 1)
    taken.images = taken.images[:1]
    assert names(put_together(taken, lists).images) == ["i0", "i0 mask 0", "loose 0", "loose 1"]


def test_nothing_left_keeps_one_text_for_the_host_to_read():
    lists, scored = job(2)
    taken = take_apart(lists, scored, 0)
    taken.images = []
    out = put_together(taken, lists)
    assert (out.images, out.infotexts, out.first) == ([], [], 0)
    assert (out.prompts, out.seeds, out.subseeds) == (["prompt 0"], [100], [200])


def test_images_that_another_script_replaced_are_found_by_their_place():
    lists, scored = job(3, masks=1)
    lists.images[3] = Picture("i1 sharpened")
    assert names(e.image for e in take_apart(lists, scored, 1).images) == ["i0", "i1 sharpened", "i2"]


def test_texts_follow_the_order_into_which_another_script_put_the_list():
    lists, scored = job(3, grid=False)
    for items in (lists.images, lists.infotexts, lists.prompts, lists.seeds):
        items.reverse()
    entries = take_apart(lists, scored, 0).images
    assert [(e.image.name, e.infotext, e.seed, e.score) for e in entries] == [
        ("i2", "text 2", 102, 2.0),
        ("i1", "text 1", 101, 1.0),
        ("i0", "text 0", 100, 0.0),
    ]


def test_lists_that_make_no_sense_are_left_alone():
    lists, scored = job(3)
    assert take_apart(lists_of(lists.images[:2], lists.infotexts, 3, first=1), scored, 0) is None


def test_an_interrupted_job_has_fewer_images_than_prompts():
    lists, scored = job(2)
    lists.prompts += ["never made"] * 4
    assert len(take_apart(lists, scored, 0).images) == 2
