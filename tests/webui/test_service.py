import math

import pytest

from imagereward_ext.compute import Compute
from imagereward_ext.errors import ScoringError, UsageError, WeightsError
from imagereward_ext.residency import Residency, Wish
from imagereward_ext.webui.options import AS_IN_SETTINGS, UNLOAD_IDLE
from imagereward_ext.webui.service import Service, error_message, log
from imagereward_ext.weights.spec import ScorerSpec
from tests.hosts.fake_host import FakeHost
from tests.tiny import picture


def test_settings_come_from_the_host_and_nonsense_counts_as_default(service):
    service.host.options.update(
        imagereward_decimals=2, imagereward_batch_size="many", imagereward_always_score=True
    )
    settings = service.settings()
    assert (settings.decimals, settings.batch_size, settings.always_score) == (2, 0, True)


def test_flags_win_over_settings(tmp_path):
    host = FakeHost(
        tmp_path, imagereward_dir=str(tmp_path / "d"), imagereward_device="cpu", imagereward_no_download=True
    )
    host.options.update(
        imagereward_device="cuda", imagereward_download_folder="/nowhere", imagereward_batch_size=4
    )
    wish = Service(host).wish("CLIP")
    assert wish == Wish(ScorerSpec("CLIP", tmp_path / "d", download=False), Compute("cpu", "auto", 4))


def test_auto_takes_the_hosts_device_where_torch_knows_it(tmp_path):
    host = FakeHost(tmp_path)
    host.device = lambda: "cuda:1"
    assert Service(host).wish().compute.device == "cuda:1"
    host.device = lambda: "privateuseone:0"  # DirectML: the scorers know nothing of it
    assert Service(host).wish().compute.device == "cpu"


def test_the_scorer_is_the_settings_one_unless_named(service):
    assert service.wish().spec.name == service.wish(AS_IN_SETTINGS).spec.name == "tiny"
    assert service.wish("CLIP").spec.name == "CLIP"


def test_names_hold_the_known_and_the_users_own(service):
    assert service.names()[0] == "ImageReward-v1.0" and "tiny" in service.names()


def test_scores_carry_their_scorer(service):
    (scored,) = service.score([picture()], ["a red fox"], service.wish())
    assert scored.label == "ImageReward" and len(scored.digest) == 10
    assert service.status().name == "tiny"
    assert "MB are free again" in service.unload()
    assert service.unload() == "No scorer was loaded."


def test_a_score_that_is_no_number_is_none_and_leaves_the_others_theirs(service):
    class Broken(Residency):
        def score(self, images, prompts, wish, report=None):
            answer = super().score(images, prompts, wish, report)
            return answer._replace(values=[math.nan, *answer.values[1:]])

    images, prompts = [picture(1), picture(2)], ["a", "b"]
    first, second = Service(service.host, Broken()).score(images, prompts, service.wish())
    assert first is None and second == service.score(images, prompts, service.wish())[1]


def test_a_failure_outside_of_a_job_gives_memory_back_as_well(service):
    service.host.options["imagereward_unload"] = UNLOAD_IDLE
    service.score([picture()], ["a"], service.wish())
    with pytest.raises(ScoringError, match="1 images but 2 prompts"):
        service.score_apart([picture()], ["a", "b"])
    assert service.residency._idle_timer is not None
    service.unload()


def test_a_missing_scorer_is_a_plain_sentence(service):
    with pytest.raises(UsageError, match="nobody"):
        service.score([picture()], ["a"], service.wish("nobody"))
    assert error_message(WeightsError("the file is gone")) == "the file is gone"
    assert error_message(KeyError("x")) == "KeyError: 'x' (details in the log)"
    assert error_message(ValueError()) == "ValueError: no message (details in the log)"


def test_the_current_history_is_that_of_the_last_scorer(service):
    assert service.current_history() is None
    service.history("ImageReward", "0123456789").add(1.0)
    assert service.current_history().scores() == [1.0]
    service.score([picture()], ["a"], service.wish())
    assert service.current_history().scores() == []


def test_job_over_follows_the_settings(service):
    service.host.options.update(imagereward_unload=UNLOAD_IDLE, imagereward_idle_minutes=60)
    service.score([picture()], ["a"], service.wish())
    service.job_over()
    assert service.status().name == "tiny" and service.residency._idle_timer is not None
    service.unload()


def test_what_a_name_says_reaches_the_console_as_text(caplog):
    log.warning("%s could not be moved", "a\x1b[2J\n\u202efox.png")
    assert caplog.messages == ["a\\u001b[2J\\u000a\\u202efox.png could not be moved"]
