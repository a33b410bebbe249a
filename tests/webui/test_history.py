import subprocess
import sys
import threading

import pytest

from imagereward_ext.webui import history as history_module
from imagereward_ext.webui.history import ENOUGH, History, describe_share, opened


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "imagereward", "ImageReward", "0123456789")


def test_nothing_is_said_before_enough_scores_are_known(history):
    for n in range(ENOUGH - 1):
        history.add(n / 100)
    assert history.share_below(0.5) is None and history.percentile(0.5) is None
    assert "After 1 more" in describe_share(None, ENOUGH - 1, 0.5)
    history.add(0.99)
    assert history.share_below(0.5) == 0.5
    assert history.percentile(0.5) == pytest.approx(0.505)
    assert describe_share(0.5, 100, 0.5) == "50% of your 100 scored images are below 0.5."


def test_scores_survive_a_restart_and_are_kept_apart_by_weights(history, tmp_path):
    history.add(0.25)
    assert History(tmp_path / "imagereward", "ImageReward", "0123456789").scores() == [0.25]
    assert History(tmp_path / "imagereward", "ImageReward", "9876543210").scores() == []
    assert opened(history.path).path == history.path


def test_a_broken_line_costs_one_score(history):
    history.add(1.0)
    with history.path.open("ab") as file:
        file.write(b"\x00\xffgarbage\n+0.12\nnan\n\n")
    history.add(-1.0)
    assert history.scores() == [-1.0, 0.12, 1.0]


def test_what_is_no_number_is_not_remembered(history):
    history.add(float("nan"))
    history.add(float("inf"))
    assert history.scores() == []


def test_the_file_is_bounded_and_keeps_the_newest(history, monkeypatch):
    monkeypatch.setattr(history_module, "_MOST", 100)
    for n in range(250):
        history.add(n / 1000)
    assert len(history.scores()) <= 101
    assert history.scores()[-1] == 0.249


def test_a_score_is_put_among_the_known_ones_without_reading_them_again(history, monkeypatch):
    for score in (0.5, -1.0, 2.0):
        history.add(score)
    assert history.scores() == [-1.0, 0.5, 2.0]
    monkeypatch.setattr(History, "_lines", lambda self: pytest.fail("read again"))
    history.add(1.0)
    history.add(-3.0)
    assert history.scores() == [-3.0, -1.0, 0.5, 1.0, 2.0]


def test_what_another_process_added_is_read(history):
    history.add(0.5)
    assert history.scores() == [0.5]
    other = History(history.path.parent, "ImageReward", history.path.stem.rsplit("-", 1)[1])
    other.path = history.path
    other.add(-1.0)
    history.add(1.0)
    assert history.scores() == [-1.0, 0.5, 1.0]


def test_threads_lose_nothing(history):
    def work(start):
        for n in range(50):
            history.add((start * 50 + n) / 1000)

    threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert history.scores() == [n / 1000 for n in range(200)]


def test_processes_lose_nothing(history):
    code = (
        "import sys; from pathlib import Path; from imagereward_ext.webui.history import History\n"
        "h = History(Path(sys.argv[1]), 'ImageReward', '0123456789')\n"
        "for n in range(100): h.add(int(sys.argv[2]) + n / 1000)"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(history.path.parent), str(start)])
        for start in range(3)
    ]
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert len(history.scores()) == 300


def test_a_disk_that_refuses_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    history = History(tmp_path / "file" / "imagereward", "ImageReward", "0")
    history.add(1.0)
    assert history.scores() == []
