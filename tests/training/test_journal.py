"""Lines that survive a crash, a full disk and whatever else writes into the file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from imagereward_ext.training import journal as journal_module
from imagereward_ext.training.journal import Journal


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal.jsonl")


def test_lines_come_back_in_order(journal):
    assert journal.read() == []
    journal.append({"a": 1}, {"b": "ö\n"}, durable=True)
    journal.append({"c": None})
    assert journal.read() == [{"a": 1}, {"b": "ö\n"}, {"c": None}]


def test_a_path_that_is_no_utf_8_comes_back_as_it_was(journal):
    path = os.fsdecode(b"/models/caf\xe9.safetensors")
    journal.append({"reason": f"{path} does not exist"})
    assert journal.read() == [{"reason": f"{path} does not exist"}]


def test_a_line_cut_off_by_a_crash_costs_no_other(journal):
    journal.append({"a": 1})
    with journal.path.open("ab") as file:
        file.write(b'{"b": 2, "c')
    assert journal.read() == [{"a": 1}]
    journal.append({"d": 4})
    assert journal.read() == [{"a": 1}, {"d": 4}]


@pytest.mark.parametrize(
    "line", [b"[1]", b"3", b"null", b"[" * 100_000, b"\xff\xfe", b"", b'{"a": ' + b"9" * 5000]
)
def test_what_is_no_object_is_passed_over(journal, line):
    journal.append({"a": 1})
    with journal.path.open("ab") as file:
        file.write(line + b"\n")
    journal.append({"b": 2})
    assert journal.read() == [{"a": 1}, {"b": 2}]
    assert journal.read_from(0).objects == ({"a": 1}, {"b": 2})


def test_no_constant_comes_out_that_a_browser_cannot_read(journal):
    journal.path.write_text('{"loss": NaN, "norm": -Infinity}\n')
    assert journal.read() == [{"loss": None, "norm": None}]


def test_a_full_disk_is_told_and_leaves_what_was_there(journal, monkeypatch):
    """The system takes the part that fits and refuses the rest."""
    journal.append({"a": 1})
    open_file = journal.path.open

    class FullDisk:
        def __init__(self, file):
            self.file = file
            self.room = 4

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, content):
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken, self.room = self.file.write(content[: self.room]), 0
            return taken

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(
        type(journal.path), "open", lambda path, mode, **more: FullDisk(open_file(mode, **more))
    )
    with pytest.raises(OSError, match="No space left"):
        journal.append({"b": 2})
    monkeypatch.undo()
    assert journal.read() == [{"a": 1}]
    journal.append({"c": 3})
    assert journal.read() == [{"a": 1}, {"c": 3}]


def test_processes_that_write_at_once_mix_no_lines(journal, tmp_path):
    code = (
        "import sys; from pathlib import Path; from imagereward_ext.training.journal import Journal\n"
        "for n in range(200): Journal(Path(sys.argv[1])).append({'who': sys.argv[2], 'n': n, 'text': 'x' * 300})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(journal.path), name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    lines = journal.read()
    for name in "ab":
        assert [line["n"] for line in lines if line["who"] == name] == list(range(200))


def test_a_reader_gets_each_complete_line_once(journal, monkeypatch):
    assert journal.read_from(7).position == 0
    journal.append({"n": 1}, {"n": 2})
    first = journal.read_from(0)
    assert first.objects == ({"n": 1}, {"n": 2})
    with journal.path.open("ab") as file:
        file.write(b'{"n": 3}\n{"n"')
    assert journal.read_from(first.position).objects == ({"n": 3},)
    journal.path.write_text('{"n": 1}\n')
    assert journal.read_from(first.position).objects == ({"n": 1},), "it has become shorter: from the start"
    assert journal.read_from(-5).objects == ({"n": 1},)
    monkeypatch.setattr(journal_module, "LONGEST_READ", 12)
    journal.append({"n": 2})
    assert journal.read_from(0).objects == ({"n": 1},)
