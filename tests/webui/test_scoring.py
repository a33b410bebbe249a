"""The hooks over a stand-in for the host's processing object; the scorer is real, and small."""

import weakref
from copy import copy
from types import SimpleNamespace

import pytest

from imagereward_ext.webui.job import plots, scoring
from imagereward_ext.webui.job.instructions import Instructions, add_axis
from imagereward_ext.webui.job.report import ANSWER
from imagereward_ext.webui.job.score_fields import ScoreField
from imagereward_ext.webui.job.scoring_job import note_grid, scoring_job
from imagereward_ext.webui.options import DISCARD, HIDE, TO_FOLDER, ScoringRequest
from tests.tiny import picture
from tests.webui.services import Processing

ON = [True]


def make_job(prompts=("a (red:1.2) fox",), **more):
    comments = []
    return Processing(
        comments=comments,
        comment=comments.append,
        prompts=list(prompts),
        prompt="the template",
        iteration=0,
        batch_index=0,
        do_not_save_grid=False,
        extra_generation_params={},
        script_args=(0,),
        **more,
    )


def make(p, service, arguments=ON, count=1):
    """Run the hooks as a host does, and return what it would have of it."""
    images = [picture(n) for n in range(count)]
    scoring.begin(p, arguments, service)
    for index, image in enumerate(images):
        p.batch_index = index
        scoring.score_image(p, image)
    result = make_result(p, images)
    scoring.conclude(p, result)
    return result


def make_result(p, images):
    count = len(images)
    return SimpleNamespace(
        images=list(images),
        infotexts=[f"text {n}" for n in range(count)],
        all_prompts=[*p.prompts],
        all_negative_prompts=[""] * count,
        all_seeds=list(range(count)),
        all_subseeds=list(range(count)),
        index_of_first_image=0,
        comments="",
        info="",
        seed=0,
        subseed=0,
        extra_generation_params=p.extra_generation_params,
    )


def field_texts(p, **context):
    """Ask every field as the host does while it writes an infotext."""
    fields = {k: v for k, v in p.extra_generation_params.items() if isinstance(v, ScoreField)}
    return {k: v(p=p, index=0, **context) for k, v in fields.items()}


def test_a_grid_has_no_score_even_where_the_host_asks_as_for_an_image(service):
    p = make_job()
    scoring.begin(p, ON, service)
    image = picture(1)
    scoring.score_image(p, image)
    note_grid([picture(2)])  # a preview
    assert None not in field_texts(p).values()
    note_grid([image])
    assert set(field_texts(p).values()) == {None}


def test_a_job_keeps_nothing_of_the_hosts_alive(service):
    """Without waiting for a collection: tensors on a card hang on the host's object."""
    p = make_job()
    scoring.begin(p, ON, service)
    image = picture()
    scoring.score_image(p, image)
    alive = [weakref.ref(thing) for thing in (p, image, scoring_job(p))]
    del p, image
    assert [reference() for reference in alive] == [None] * 3


def test_nothing_happens_unless_wished(service):
    p = make_job()
    result = make(p, service, arguments=[])
    assert p.extra_generation_params == {} and result.comments == ""
    assert ANSWER not in result.extra_generation_params
    assert scoring_job(p) is None


def test_the_field_answers_for_the_image_at_hand_only(service):
    p = make_job(["a red fox", "a blue sea"])
    scoring.begin(p, ON, service)
    scoring.score_image(p, picture(0))
    first = field_texts(p)
    assert set(first) == {"ImageReward", "ImageReward hash"}
    p.batch_index = 1
    assert set(field_texts(p).values()) == {None}, "not scored yet"
    scoring.score_image(p, picture(1))
    assert field_texts(p)["ImageReward"] not in (None, first["ImageReward"])
    assert set(field_texts(p, use_main_prompt=True).values()) == {None}, "a grid has no score"
    scoring_job(p).finished = True
    assert set(field_texts(p).values()) == {None}, "nor has anything that is written after the job"
    for field in p.extra_generation_params.values():
        assert field(p=SimpleNamespace()) is None and field() is None, (
            "params.txt is written before anything is made"
        )


def test_the_prompt_is_the_images_own_and_plain(service):
    p = make_job(["a (red:1.2) fox <lora:x:1>"])
    result = make(p, service)
    (expected,) = service.score(result.images, ["a red fox"], service.wish())
    assert result.extra_generation_params[ANSWER]["scores"] == [round(expected.value, 4)]


def test_inner_jobs_of_adetailer_are_left_alone(service):
    p = make_job(_ad_inner=True)
    result = make(p, service)
    assert p.extra_generation_params == {} and ANSWER not in result.extra_generation_params


def test_a_job_without_images_is_fine(service):
    p = make_job()
    result = make(p, service, arguments=[{"score": True, "filter_low": True, "limit": 0}], count=0)
    assert result.images == [] and result.extra_generation_params[ANSWER]["scores"] == []


def test_images_cut_short_are_neither_scored_nor_filtered(service):
    service.host.jobs.cut_short = True
    result = make(make_job(), service, arguments=[{"score": True, "filter_low": True, "limit": 1e9}])
    assert len(result.images) == 1 and result.extra_generation_params[ANSWER]["scores"] == [None]
    assert "cut short" in result.comments


def test_a_scorer_that_fails_is_asked_once_per_job_and_costs_no_image(service):
    service.host.options["imagereward_scorer"] = "nobody"
    asked = []
    original = service.score
    service.score = lambda *arguments: asked.append(1) or original(*arguments)
    result = make(make_job(["a"] * 3), service, [{"score": True, "filter_low": True, "limit": 1e9}], count=3)
    assert len(result.images) == 3 and len(asked) == 1
    assert "not scored: " in result.comments and "nobody" in result.comments


def test_an_unexpected_error_costs_no_image(service):
    def explode(*arguments):
        raise KeyError("surprise")

    service.score = explode
    result = make(make_job(), service)
    assert len(result.images) == 1 and "KeyError" in result.comments and "Traceback" not in result.comments


def test_the_hosts_grid_is_held_back_only_while_a_job_is_rearranged(service):
    p = make_job()
    scoring.begin(p, [{"score": True, "sort": True}], service)
    assert p.do_not_save_grid is True
    p = make_job()
    make(p, service, [{"score": True, "sort": True}])
    assert p.do_not_save_grid is False
    scoring.begin(p, ON, service)
    assert p.do_not_save_grid is False


def test_the_scripts_plan_wins_over_the_panel(service):
    p = make_job()
    Instructions(ScoringRequest(filter_low=True, limit=1e9), ("something odd",)).give_to(p)
    result = make(p, service, arguments=[False])
    assert result.images == [] and "something odd" in result.comments


def test_an_axis_of_a_plot_overrides_the_request(service):
    p = make_job()
    add_axis(p, limit=1e9, filter_low=True)
    assert make(p, service).images == []


def axis_option(label, type_, apply, **more):
    return SimpleNamespace(label=label, apply=apply)


@pytest.mark.parametrize(("limit", "left"), [(1e9, 0), (-1e9, 1), (float("nan"), 1)])
def test_an_axis_of_ours_wants_scores_whatever_the_panel_says(service, limit, left):
    host = SimpleNamespace(axis_options=[], AxisOption=axis_option)
    plots.add_axes(host, list)
    p = make_job()
    host.axis_options[0].apply(p, limit, [limit])
    result = make(p, service, arguments=[])
    assert len(result.images) == left and len(service.current_history().scores()) == 1
    assert ("nothing was filtered" in result.comments) == (limit != limit)


def test_a_sentence_reaches_a_script_that_makes_one_result_of_many(service):
    p = with_script("Prompts from file or textbox", make_job())
    result = make(p, service, [{"score": True, "filter_low": True, "limit": 1e9}])
    assert [f"{comment}\n" for comment in p.comments] == [result.comments] != [""]


def test_an_image_that_another_script_replaced_has_its_score_in_the_answer(service):
    p = make_job()
    scoring.begin(p, ON, service)
    scoring.score_image(p, picture())
    result = make_result(p, [picture(1)])
    scoring.conclude(p, result)
    assert result.extra_generation_params[ANSWER]["scores"][0] is not None


def test_what_another_extension_made_unreadable_is_kept_for_a_script_of_several_jobs(service):
    p = make_job(["a"] * 3)
    instructions = Instructions(ScoringRequest(filter_low=True, limit=1e9), collects=True)
    instructions.give_to(p)
    scoring.begin(p, [], service)
    for _ in range(3):
        scoring.score_image(p, picture())
    image = picture(1)
    scoring.conclude(p, make_result(p, [image]))
    assert [(record.image, record.score, record.infotext) for record in instructions.collected] == [
        (image, None, "text 0")
    ]
    assert "another extension changed the list" in instructions.notes[0]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_grid_holds_its_parameters_only_where_the_user_wants_that(service, wanted):
    grid = picture()
    service.host.images.grid = lambda images, p: grid
    service.host.images.grid_infotext = lambda p: "the grid's"
    service.host.options["enable_pnginfo"] = wanted
    make(make_job(), service, [{"score": True, "sort": True}])
    assert grid.info.get("parameters") == ("the grid's" if wanted else None)


def with_script(title, p):
    p.scripts = SimpleNamespace(selectable_scripts=[SimpleNamespace(title=lambda: title)])
    p.script_args = (1,)
    return p


def test_a_script_that_draws_its_own_grid_gets_every_image_in_its_order(service):
    p = with_script("Prompt matrix", make_job(["a", "b", "c"]))
    request = {"score": True, "filter_low": True, "limit": 1e9, "sort": True}
    result = make(p, service, [request], count=3)
    assert result.infotexts == ["text 0", "text 1", "text 2"] and result.all_prompts == ["a", "b", "c"]
    assert "0 of 3 passed" in result.comments and "needs every image" in result.comments


def test_what_a_script_that_draws_its_own_grid_rejects_still_moves(service, tmp_path):
    p = with_script("Prompt matrix", make_job())
    scoring.begin(p, [{"score": True, "filter_low": True, "limit": 1e9}], service)
    assert p.do_not_save_grid is False, "the script's own grid is right"
    image = picture()
    image.already_saved_as = str(tmp_path / "one.png")
    image.save(image.already_saved_as)
    scoring.score_image(p, image)
    lists = {key: ["a"] for key in ("infotexts", "all_prompts", "all_negative_prompts")}
    seeds = {key: [1] for key in ("all_seeds", "all_subseeds")}
    result = SimpleNamespace(images=[image], **lists, **seeds, index_of_first_image=0, comments="")
    scoring.conclude(p, result)
    assert result.images == [image]
    assert image.already_saved_as == str(tmp_path / "rejected" / "one.png")


@pytest.mark.parametrize(
    ("rejected", "saved", "setting", "told"),
    [
        (TO_FOLDER, True, "rejected", "; the files are in the folder rejected\n"),
        (TO_FOLDER, True, "", "; the files are in the folder rejected\n"),
        (TO_FOLDER, True, "low", "; the files are in the folder low\n"),
        (TO_FOLDER, False, "rejected", None),
        (HIDE, True, "rejected", None),
        (DISCARD, True, "rejected", None),
    ],
)
def test_an_empty_gallery_comes_with_the_place_of_the_files(
    service, tmp_path, rejected, saved, setting, told
):
    service.host.options["imagereward_rejected_folder"] = setting
    p, image = make_job(), picture()
    scoring.begin(p, [{"score": True, "filter_low": True, "limit": 1e9, "rejected": rejected}], service)
    if saved:
        image.already_saved_as = str(tmp_path / "one.png")
        image.save(image.already_saved_as)
    scoring.score_image(p, image)
    result = make_result(p, [image])
    scoring.conclude(p, result)
    assert result.images == [] and "0 of 1 passed" in result.comments
    if told is None:
        assert "the files are in" not in result.comments
    else:
        assert result.comments.endswith(told)


def test_the_saved_masks_of_a_rejected_image_go_with_it(service, tmp_path):
    service.host.images.masks_per_image = lambda p: 1
    p = make_job()
    scoring.begin(p, [{"score": True, "filter_low": True, "limit": 1e9}], service)
    pictures = [picture(1), picture(2)]
    for image, name in zip(pictures, ("one.png", "one-mask.png"), strict=True):
        image.already_saved_as = str(tmp_path / name)
        image.save(image.already_saved_as)
    scoring.score_image(p, pictures[0])
    scoring.conclude(p, make_result(p, pictures))
    assert sorted(path.name for path in (tmp_path / "rejected").iterdir()) == ["one-mask.png", "one.png"]
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("fails", ["a mask that cannot be moved", "a setting that is no folder's name"])
def test_an_image_that_cannot_be_put_aside_stays_with_its_masks_and_that_is_told(service, tmp_path, fails):
    setting = "rejected" if "mask" in fails else "re\0jected"
    service.host.options["imagereward_rejected_folder"] = setting
    service.host.images.masks_per_image = lambda p: 1
    p = make_job()
    scoring.begin(p, [{"score": True, "filter_low": True, "limit": 1e9}], service)
    pictures = [picture(1), picture(2)]
    names = ("one.png", "nothing here.png" if "mask" in fails else "one-mask.png")
    for image, name in zip(pictures, names, strict=True):
        image.already_saved_as = str(tmp_path / name)
        if not name.startswith("nothing"):
            image.save(image.already_saved_as)
    scoring.score_image(p, pictures[0])
    result = make_result(p, pictures)
    scoring.conclude(p, result)
    assert [image.already_saved_as for image in pictures] == [str(tmp_path / name) for name in names]
    assert (tmp_path / "one.png").is_file()
    assert not list(tmp_path.glob("rejected/*"))
    assert f"one.png: could not be moved to {tmp_path}" in result.comments
    assert "it is where it was" in result.comments and "\0" not in result.comments


def test_prompts_from_a_file_are_filtered_like_jobs_of_their_own(service):
    p = with_script("Prompts from file or textbox", make_job(["a"] * 3))
    assert make(p, service, [{"score": True, "filter_low": True, "limit": 1e9}], count=3).images == []


@pytest.mark.parametrize("title", ["SD upscale", "Outpainting mk2", "Poor man's outpainting"])
def test_a_tile_of_an_image_is_not_scored(service, title):
    result = make(with_script(title, make_job()), service)
    assert ANSWER not in result.extra_generation_params


def test_hooks_called_with_a_copy_of_the_job_do_not_end_it(service):
    p = make_job(["a"] * 2)
    scoring.begin(p, ON, service)
    nothing = SimpleNamespace(images=[], comments="")
    scoring.conclude(copy(p), nothing)  # ADetailer does this before it paints the first face
    scoring.score_image(p, picture())
    scoring.begin(copy(p), ON, service)  # and this after the last one of a batch
    p.batch_index = 1
    scoring.score_image(p, picture(1))
    job = scoring_job(p)
    assert [image.score is not None for image in job.images] == [True, True]
    assert not job.finished and nothing.comments == ""


def test_the_gallerys_hires_button_rejects_nothing(service):
    p = make_job(txt2img_upscale=True)
    Instructions(ScoringRequest(filter_low=True, limit=1e9, keep_best=1)).give_to(p)
    result = make(p, service)
    assert len(result.images) == 1 and result.extra_generation_params[ANSWER]["scores"][0] is not None


def test_a_text_of_ones_own_is_scored_and_told(service):
    service.host.options["imagereward_text"] = "a blue sea"
    p = make_job()
    scoring.begin(p, ON, service)
    scoring.score_image(p, picture())
    assert field_texts(p)["ImageReward prompt"] == "a blue sea"


def test_the_score_may_stay_out_of_the_file(service):
    service.host.options["imagereward_score_in_file"] = False
    p = make_job()
    result = make(p, service)
    assert p.extra_generation_params == {}
    assert result.extra_generation_params[ANSWER]["scores"][0] is not None


def test_aesthetic_score_is_the_place_among_ones_own(service):
    service.host.options["imagereward_aesthetic_score"] = True
    p = make_job()
    scoring.begin(p, ON, service)
    scoring.score_image(p, picture())
    assert "aesthetic_score" not in p.extra_generation_params, "not before enough scores are known"
    label, digest = service.status().label, service.status().digest
    for n in range(100):
        service.history(label, digest).add(-5.0 if n < 70 else 5.0)
    scoring.begin(p, ON, service)
    scoring.score_image(p, picture(1))
    place = float(field_texts(p)["aesthetic_score"])
    assert 6.5 < place < 7.5


def test_every_score_is_remembered_but_those_of_drafts(service):
    make(make_job(["a"] * 2), service, count=2)
    history = service.history(service.status().label, service.status().digest)
    assert len(history.scores()) == 2
    p = make_job()
    Instructions(ScoringRequest(), collects=True, draft=True).give_to(p)
    make(p, service)
    assert len(history.scores()) == 2


def test_percentiles_are_told_once_enough_scores_are_known(service):
    make(make_job(), service)
    history = service.history(service.status().label, service.status().digest)
    for n in range(200):
        history.add(n / 100 - 3)
    answer = make(make_job(), service).extra_generation_params[ANSWER]
    assert 0 <= answer["percentiles"][0] <= 1
