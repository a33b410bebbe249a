"""Several jobs put together, over a host whose jobs are pictures and nothing else."""

from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest

from imagereward_ext.settings import Reading
from imagereward_ext.webui.job import scoring, several_jobs
from imagereward_ext.webui.job.report import ANSWER
from imagereward_ext.webui.options import ScoringRequest, read_request
from tests.tiny import picture
from tests.webui.services import Processing


class Runner:
    """The script runner of a host with one more script, which paints over finished images."""

    def __init__(self, service):
        self.service = service
        self.painted = []

    def postprocess_image(self, p, pp):
        self.painted.append(pp.image)

    def postprocess_image_after_composite(self, p, pp):
        scoring.score_image(p, pp.image)


@pytest.fixture
def service(service):
    """A service over a host that draws one picture per seed, twice as large with hires fix."""
    service.host.options["imagereward_decimals"] = 6
    service.made, service.restored, service.saved = [], [], []
    service.host.images.save = lambda p, sample: p.do_not_save_samples or service.saved.append(sample.seed)
    service.fails_at = None

    def generate(p):
        if service.fails_at == len(service.made):
            raise RuntimeError("the host is out of memory")
        service.restored.append(p.restore_faces)
        service.made.append((p.seed, p.subseed, p.enable_hr, getattr(p, "firstpass_image", None) is not None))
        count = p.batch_size * p.n_iter
        p.all_prompts = [p.prompt] * count
        p.all_seeds = [p.seed + n for n in range(count)]
        p.all_subseeds = [p.subseed + n for n in range(count)]
        p.prompts, p.iteration = p.all_prompts, 0
        scoring.begin(p, [], service)
        runner = copy(p.scripts)  # as scripts do that leave others out of jobs of their own
        images = []
        for index, seed in enumerate(p.all_seeds):
            p.batch_index = index
            image = picture(seed, size=(96, 80) if p.enable_hr else (48, 40))
            if service.host.jobs.stop_after == len(service.made):
                service.host.jobs.stop = True
            args = SimpleNamespace(image=image)
            runner.postprocess_image(p, args)
            runner.postprocess_image_after_composite(p, args)
            images.append(image)
        result = SimpleNamespace(
            images=images,
            infotexts=[f"seed {seed}" for seed in p.all_seeds],
            all_prompts=p.all_prompts,
            all_negative_prompts=[""] * count,
            all_seeds=p.all_seeds,
            all_subseeds=p.all_subseeds,
            index_of_first_image=0,
            comments="",
            info="",
            seed=p.seed,
            subseed=p.subseed,
        )
        scoring.conclude(p, result)
        return result

    service.host.jobs.generate = generate
    service.host.jobs.stop_after = None
    return service


def make_job(service, **more):
    values = {
        "prompt": "a red fox",
        "negative_prompt": "",
        "styles": [],
        "seed": 10,
        "subseed": 500,
        "subseed_strength": 0,
        "batch_size": 2,
        "n_iter": 1,
        "steps": 2,
        "restore_faces": True,
        "comment": lambda sentence: None,
        "enable_hr": False,
        "hr_second_pass_steps": 0,
        "do_not_save_grid": False,
        "do_not_save_samples": False,
        "extra_generation_params": {},
        "script_args": (0,),
        "scripts": Runner(service),
    }
    return Processing(**{**values, **more})


def run(service, p=None, **request):
    return several_jobs.run(p or make_job(service), Reading(ScoringRequest(**request)), service)


def scores(result):
    return result.extra_generation_params[ANSWER]["scores"]


def note(result):
    return result.extra_generation_params[ANSWER].get("note", "")


def test_one_job_is_one_job(service):
    result = run(service, sort=True)
    assert len(service.made) == 1 and len(result.images) == 2
    values = scores(result)
    assert values == sorted(values, reverse=True)


def test_tries_continue_the_seeds(service):
    result = run(service, limit=-1e9, until=5, tries=9)
    assert [seed for seed, *_ in service.made] == [10, 12, 14]
    assert result.all_seeds == [10, 11, 12, 13, 14, 15] and len(result.images) == 6


def test_with_variation_only_the_variation_seeds_continue(service):
    run(service, make_job(service, subseed_strength=0.3), limit=-1e9, until=3, tries=9)
    assert [(seed, subseed) for seed, subseed, *_ in service.made] == [(10, 500), (10, 502)]


@pytest.mark.parametrize("enable_hr", [False, True])
def test_a_limit_without_sense_rejects_nothing(service, enable_hr):
    reading = read_request({"limit": "low", "until": 6, "tries": 9, "hires_for_passing": True})
    reading = replace(reading, values=replace(reading.values, limit=1e9))  # whatever the default is
    result = several_jobs.run(make_job(service, enable_hr=enable_hr), reading, service)
    assert result.all_seeds == [10, 11, 12, 13, 14, 15] and "nothing was filtered" in note(result)
    assert {image.size for image in result.images} == {(96, 80) if enable_hr else (48, 40)}


def test_another_value_without_sense_leaves_the_limit_alone(service):
    reading = read_request({"limit": 1e9, "until": 1, "tries": 2, "sort": "perhaps"})
    result = several_jobs.run(make_job(service), reading, service)
    assert len(service.made) == 2 and result.images == [] and "Sort by score" in note(result)


def test_the_cap_ends_it(service):
    result = run(service, limit=1e9, until=1, tries=4)
    assert len(service.made) == 4 and result.images == []
    assert "0 of 8 passed" in note(result) and "stopped after 4 tries (the cap): 0 of the 1 wanted" in note(
        result
    )


def test_stop_ends_it_and_keeps_what_is_made(service):
    service.host.jobs.stop_after = 2
    result = run(service, limit=-1e9, until=100, tries=50)
    assert len(service.made) == 2 and len(result.images) == 4
    assert "you stopped it" in note(result)


def test_a_later_try_that_fails_costs_no_image(service):
    service.fails_at = 2
    result = run(service, limit=-1e9, until=100, tries=50)
    assert len(result.images) == 4
    assert "a later try failed: RuntimeError: the host is out of memory" in note(result)


def test_a_first_try_that_fails_is_the_hosts_to_report(service):
    service.fails_at = 0
    with pytest.raises(RuntimeError, match="out of memory"):
        run(service, until=3)


def test_without_a_score_nothing_is_tried_again(service):
    service.host.options["imagereward_scorer"] = "nobody"
    result = run(service, limit=0, until=5, tries=9)
    assert len(service.made) == 1 and len(result.images) == 2
    assert "without a score nothing can pass" in note(result)


def test_a_skipped_try_is_followed_by_the_next(service):
    original = service.host.jobs.generate

    def generate(p):
        service.host.jobs.cut_short = not service.made  # Skip is pressed during the first try
        return original(p)

    service.host.jobs.generate = generate
    result = run(service, limit=-1e9, until=2, tries=9)
    assert [seed for seed, *_ in service.made] == [10, 12]
    assert len(result.images) == 4 and "without a score nothing can pass" not in note(result)
    assert "cut short" in note(result), "what an earlier try had to say is said"


@pytest.mark.parametrize("enable_hr", [False, True])
def test_the_answer_names_the_scorer_even_if_the_last_job_scored_nothing(service, enable_hr):
    original = service.host.jobs.generate

    def generate(p):
        service.host.jobs.cut_short = bool(service.made)
        return original(p)

    service.host.jobs.generate = generate
    p = make_job(service, enable_hr=enable_hr, batch_size=1)
    result = run(service, p, limit=-1e9, until=2, tries=2, hires_for_passing=True)
    assert result.extra_generation_params[ANSWER]["scorer"] == "ImageReward"


def test_a_skipped_small_image_gets_no_second_pass(service):
    service.host.jobs.cut_short = True
    result = run(service, make_job(service, enable_hr=True), limit=-1e9, hires_for_passing=True)
    assert [hires for _, _, hires, _ in service.made] == [False] and len(result.images) == 2
    assert service.saved == [], "the host saves no half-finished image either"
    service.host.options["save_incomplete_images"] = True
    run(service, make_job(service, enable_hr=True), limit=-1e9, hires_for_passing=True)
    assert service.saved == [10, 11]


def test_the_gallerys_hires_button_makes_one_image(service):
    p = make_job(service, batch_size=1, enable_hr=True, txt2img_upscale=True)
    result = run(service, p, limit=1e9, until=5, tries=9, hires_for_passing=True)
    assert len(service.made) == 1 and [image.size for image in result.images] == [(96, 80)]


def test_the_best_of_all_tries(service):
    everything = run(service, limit=-1e9, until=6, tries=3)
    best = max(scores(everything))
    service.made.clear()
    result = run(service, limit=-1e9, until=6, tries=3, keep_best=1)
    assert scores(result) == [best]


def test_hires_only_for_what_passes(service):
    p = make_job(service, batch_size=4, enable_hr=True)
    drafts = run(service, make_job(service, batch_size=4), limit=-1e9, until=1)
    values = sorted(scores(drafts))
    limit = (values[1] + values[2]) / 2
    service.made.clear()
    result = run(service, p, limit=limit, hires_for_passing=True)
    first, *others = service.made
    assert first == (10, 500, False, False), "one small job"
    assert [(hires, started) for _, _, hires, started in others] == [(True, True)] * 2
    assert len(p.scripts.painted) == 2, "other scripts see the finished images only"
    assert service.restored[-3:] == [False, True, True], "and so does the face restoration"
    assert len(service.saved) == 2, "the small ones that failed; the host saves the others itself"
    assert {image.size for image in result.images} <= {(96, 80)}
    assert "of 4 passed" in note(result)


def test_what_passes_only_as_long_as_it_is_small_is_told(service):
    def made(enable_hr):
        result = run(service, make_job(service, batch_size=8, enable_hr=enable_hr), limit=-1e9, until=1)
        return scores(result)

    pairs = list(zip(made(False), made(True), strict=True))
    worst = max(pairs, key=lambda pair: pair[0] - pair[1])
    limit = sum(worst) / 2
    finished = [large for small, large in pairs if small >= limit]
    held = sum(large >= limit for large in finished)
    p = make_job(service, batch_size=8, enable_hr=True)
    told = note(run(service, p, limit=limit, hires_for_passing=True))
    passed = f"{len(finished)} of 8 passed when small; {held} of {len(finished)} after the hires fix"
    assert told.startswith(f"{passed}; {held} of 8 passed ")


def test_hires_only_for_what_passes_says_that_it_does_nothing_without_hires(service):
    told = note(run(service, limit=-1e9, hires_for_passing=True))
    assert "Hires fix only for images that pass does nothing where Hires. fix is off" in told
    for p in (make_job(service, enable_hr=True), make_job(service, batch_size=1, txt2img_upscale=True)):
        assert "does nothing" not in note(run(service, p, limit=-1e9, hires_for_passing=True))


def test_an_end_before_the_cap_is_not_told_as_the_cap(service):
    service.fails_at = 1
    told = note(run(service, limit=-1e9, until=100, tries=50))
    assert "; stopped after one try: 2 of the 100 wanted" in told


def test_hires_that_fails_keeps_the_small_images(service):
    service.fails_at = 2
    result = run(service, make_job(service, batch_size=3, enable_hr=True), limit=-1e9, hires_for_passing=True)
    assert [image.size for image in result.images] == [(96, 80), (48, 40), (48, 40)]
    assert result.all_seeds == [10, 11, 12]
    assert "hires fix failed, so the rest stays small" in note(result)
    assert service.saved == [11, 12]


def test_stopping_between_hires_jobs_keeps_the_small_images(service):
    service.host.jobs.stop_after = 2
    result = run(service, make_job(service, batch_size=3, enable_hr=True), limit=-1e9, hires_for_passing=True)
    assert [image.size for image in result.images] == [(96, 80), (48, 40), (48, 40)]
    assert service.saved == [11, 12]


def test_stopping_as_a_hires_job_begins_keeps_the_small_image(service):
    original = service.host.jobs.generate

    def generate(p):
        if p.enable_hr:
            p.n_iter, service.host.jobs.stop = 0, True
        return original(p)

    service.host.jobs.generate = generate
    result = run(service, make_job(service, enable_hr=True), limit=-1e9, hires_for_passing=True)
    assert [image.size for image in result.images] == [(48, 40)] * 2 and result.all_seeds == [10, 11]


def test_a_hires_job_that_is_cut_short_costs_no_finished_small_image(service):
    original = service.host.jobs.generate

    def generate(p):
        service.host.jobs.cut_short = service.host.jobs.stop = p.enable_hr
        return original(p)

    service.host.jobs.generate = generate
    result = run(service, make_job(service, enable_hr=True), limit=-1e9, hires_for_passing=True)
    assert [image.size for image in result.images] == [(96, 80), (48, 40), (48, 40)]
    assert service.saved == [10, 11], "the host saves no half-finished image"


def test_a_full_disk_costs_no_small_image(service):
    def refuse(p, sample):
        raise OSError("no space left on device")

    service.host.images.save = refuse
    result = run(service, make_job(service, enable_hr=True), limit=1e9, keep_one=True, hires_for_passing=True)
    assert [image.size for image in result.images] == [(48, 40)]
    assert note(result).count("a small image was not saved: OSError: no space left on device") == 1


def test_a_grid_is_drawn_although_nothing_passed_in_the_first_try(service):
    grids = []
    service.host.images.grid = lambda images, p: grids.append(p.do_not_save_grid)
    run(service, make_job(service, enable_hr=True), limit=1e9, hires_for_passing=True)
    assert grids == [False]


def test_without_the_always_on_script_there_is_one_job(service):
    service.host.jobs.generate = lambda p: service.made.append(p.seed) or SimpleNamespace(images=[picture()])
    p = make_job(service, all_prompts=["a"])
    assert len(run(service, p, until=3, tries=9).images) == 1 and service.made == [10]
