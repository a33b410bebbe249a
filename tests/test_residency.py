import threading
import time

import pytest
import torch

from imagereward_ext.compute import Compute
from imagereward_ext.errors import ScoringError
from imagereward_ext.residency import After, Policy, Residency, Wish, load_from_disk
from imagereward_ext.weights.spec import ScorerSpec
from tests.tiny import make_tiny_scorer_folder, picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_scorer_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def wish(folder):
    return Wish(ScorerSpec(str(folder)))


class Loads:
    """Counts loads, and fails with the errors it was given before it loads for real."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.wishes = []

    def __call__(self, wish, report):
        self.wishes.append(wish)
        if self.errors:
            raise self.errors.pop(0)
        return load_from_disk(wish, report)


def oom():
    return RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_nothing_is_loaded_before_the_first_use(wish):
    loads = Loads()
    residency = Residency(loads)
    assert str(residency.status()) == "No scorer is loaded."
    assert residency.unload() == 0
    assert not loads.wishes
    residency.score([picture()], ["a red fox"], wish)
    assert len(loads.wishes) == 1


def test_the_same_wish_loads_once_and_another_wish_replaces_it(wish):
    loads = Loads()
    residency = Residency(loads)
    first = residency.score([picture()], ["a red fox"], wish)
    assert residency.score([picture()], ["a red fox"], wish) == first
    assert len(loads.wishes) == 1
    residency.score([picture()], ["a red fox"], Wish(wish.spec, Compute(batch_size=2)))
    assert len(loads.wishes) == 2


def test_status_and_unload_tell_how_much(wish):
    residency = Residency()
    residency.score([picture()], ["a red fox"], wish)
    status = residency.status()
    assert (status.name, status.label, status.device, status.precision) == ("tiny", "Tiny", "cpu", "fp32")
    assert status.size_in_bytes > 10_000
    assert residency.unload() == status.size_in_bytes
    assert residency.unload() == 0
    assert residency.status().name == ""


def test_unload_really_drops_the_networks(wish):
    import weakref

    residency = Residency()
    with residency.borrow(wish) as scorer:
        network = weakref.ref(next(scorer.modules()))
    del scorer
    residency.unload()
    assert network() is None


def test_unload_waits_for_a_running_score(wish):
    residency = Residency()
    order = []
    with residency.borrow(wish):
        thread = threading.Thread(target=lambda: (residency.unload(), order.append("unloaded")))
        thread.start()
        time.sleep(0.05)
        order.append("scored")
    thread.join()
    assert order == ["scored", "unloaded"]


def test_idle_scorer_is_unloaded_and_use_postpones_it(wish):
    residency = Residency()
    residency.score([picture()], ["a"], wish)
    residency.job_over(Policy(After.IDLE, idle_minutes=0.2 / 60))
    residency.score([picture()], ["a"], wish)  # used again: the clock starts only after the next job
    time.sleep(0.4)
    assert residency.status().name == "tiny"
    residency.job_over(Policy(After.IDLE, idle_minutes=0.05 / 60))
    deadline = time.monotonic() + 60
    while residency.status().name and time.monotonic() < deadline:
        time.sleep(0.02)
    assert residency.status().name == ""


def test_a_timer_that_rings_during_a_job_unloads_nothing(wish):
    residency = Residency()
    residency.score([picture()], ["a"], wish)
    residency.job_over(Policy(After.IDLE, idle_minutes=60))
    timer = residency._idle_timer
    with residency.borrow(wish):
        late = threading.Thread(target=timer.function)
        late.start()  # it has rung already, and waits for the lock
    late.join()
    assert residency.status().name == "tiny"


def test_keep_keeps(wish):
    residency = Residency()
    residency.score([picture()], ["a"], wish)
    residency.job_over(Policy(After.KEEP))
    assert residency.status().name == "tiny"


class Travelling:
    """Stands in for a scorer on a graphics card: it records where it is moved to."""

    name = label = "far"
    digest = "0" * 10
    dtype = torch.float16

    def __init__(self, device, error=None):
        self.device = torch.device(device)
        self.moves = []
        self.error = error

    def to(self, device):
        self.device = torch.device(device)
        self.moves.append(str(device))

    def size_in_bytes(self):
        return 100

    def score(self, images, prompts):
        if self.error:
            raise self.error
        return [1.0] * len(images)


def test_moves_to_the_cpu_between_jobs_and_back_for_the_next():
    scorer = Travelling("meta")  # any device that is not the CPU
    residency = Residency(lambda wish, report: scorer)
    with residency.borrow(Wish(ScorerSpec("far"))):
        pass
    residency.job_over(Policy(After.TO_CPU))
    assert str(residency.status().device) == "cpu"
    with residency.borrow(Wish(ScorerSpec("far"))) as back:
        assert str(back.device) == "meta"
    assert scorer.moves == ["cpu", "meta"]


def test_out_of_memory_while_scoring_is_retried_once_on_the_cpu(folder):
    asked = []

    def load(wish, report):
        asked.append(wish.compute.device)
        if wish.compute.device == "cuda":
            return Travelling("cuda", error=oom())
        return load_from_disk(wish, report)

    messages = []
    residency = Residency(load)
    wish = Wish(ScorerSpec(str(folder)), Compute("cuda", "fp16"))
    scores = residency.score([picture()], ["a red fox"], wish, messages.append)
    assert len(scores.values) == 1 and scores.label == "Tiny"
    assert scores == Residency().score([picture()], ["a red fox"], Wish(ScorerSpec(str(folder))))
    assert asked == ["cuda", "cpu"]
    assert messages == ["Out of memory: scoring once more on the CPU."]
    assert residency.status().fell_back
    assert "out of memory" in str(residency.status())
    residency.score([picture()], ["a red fox"], wish)
    assert asked == ["cuda", "cpu"], "the rest of the job stays on the CPU"
    residency.job_over(Policy())
    assert residency.status().name == "", "the next job tries the graphics card again"


class Stranded(Travelling):
    """Finds no room on the graphics card again; as CLIP's scorers, it says where it is only once it is there."""

    def to(self, device):
        if str(device) != "cpu":
            raise oom()
        super().to(device)


def test_a_card_that_has_filled_up_between_two_jobs_is_left_for_the_cpu(folder):
    def load(wish, report):
        return Stranded("cuda") if wish.compute.device == "cuda" else load_from_disk(wish, report)

    residency = Residency(load)
    wish = Wish(ScorerSpec(str(folder)), Compute("cuda"))
    residency.score([picture()], ["a red fox"], wish)
    residency.job_over(Policy(After.TO_CPU))
    scores = residency.score([picture()], ["a red fox"], wish)
    assert scores.label == "Tiny"
    assert residency.status().fell_back


def test_no_room_to_load_on_the_cpu_either_is_a_clear_error():
    def load(wish, report):
        if wish.compute.device == "cuda":
            return Travelling("cuda", error=oom())
        raise MemoryError

    residency = Residency(load)
    with pytest.raises(ScoringError, match="neither the graphics card nor the CPU"):
        residency.score([picture()], ["a"], Wish(ScorerSpec("far"), Compute("cuda")))
    assert residency.status().name == ""


def test_out_of_memory_on_the_cpu_is_a_clear_error_and_leaves_nothing_loaded():
    residency = Residency(lambda wish, report: Travelling("cpu", error=MemoryError()))
    with pytest.raises(ScoringError, match="memory"):
        residency.score([picture()], ["a"], Wish(ScorerSpec("far")))
    assert residency.status().name == ""


def test_out_of_memory_while_loading_counts_too(folder):
    loads = Loads(oom())
    residency = Residency(loads)
    with pytest.raises(ScoringError, match="memory"):  # already on the CPU: there is nowhere to go
        residency.score([picture()], ["a"], Wish(ScorerSpec(str(folder)), Compute("cpu")))
    assert len(loads.wishes) == 1


def test_other_errors_pass_through_untouched(folder):
    residency = Residency(Loads(ValueError("broken")))
    with pytest.raises(ValueError, match="broken"):
        residency.score([picture()], ["a"], Wish(ScorerSpec(str(folder))))


def test_a_scorer_loaded_inside_inference_mode_still_gives_gradients(wish):
    residency = Residency()
    with torch.inference_mode():
        residency.score([picture()], ["a"], wish)
    with residency.borrow(wish) as scorer:
        pixels = torch.rand(1, 3, 40, 40, requires_grad=True)
        scorer.score_pixels(pixels, "a red fox").sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0


def test_autocast_of_the_host_does_not_reach_the_scorer(wish):
    exact = Residency().score([picture()], ["a red fox"], wish)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Residency().score([picture()], ["a red fox"], wish) == exact


def test_many_threads_share_one_scorer(wish):
    loads = Loads()
    residency = Residency(loads)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(residency.score([picture()], ["a fox"], wish).values))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads.wishes) == 1
    assert len({tuple(r) for r in results}) == 1 and len(results) == 6
