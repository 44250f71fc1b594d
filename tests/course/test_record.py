"""Progress: which exercises are right, kept beside the notebooks."""

import json
import os

import pytest

from facerecon_lib.course import checks, record

FILE = record.FILE


@pytest.fixture(autouse=True)
def exercises(monkeypatch):
    """Notebook 97 with one exercise, and 98 with two; each with a challenge."""
    names = {"half": "97", "root": "97", "twice": "98", "thrice": "98", "power": "98"}
    hard = {"challenge": True}
    every = {
        name: checks.ExerciseCheck(
            name, number, abs, lambda attempt: None, **hard if name in ("root", "power") else {}
        )
        for name, number in names.items()
    }
    monkeypatch.setattr(checks, "exercises", lambda: every)


def test_what_is_right_is_counted_and_what_is_next_is_named(tmp_path, capsys):
    assert record.summary("98", tmp_path) == "98: 0 of 2 exercises right; next: twice"
    record.remember("thrice", True, tmp_path)
    assert record.summary("98", tmp_path) == "98: 1 of 2 exercises right; next: twice"
    record.remember("twice", True, tmp_path)
    assert record.summary("98", tmp_path) == (
        "98: 2 of 2 exercises right; next: the challenge, power"
    )
    record.remember("power", True, tmp_path)
    assert record.summary("98", tmp_path) == "98: 2 of 2 exercises right; all done"
    assert record.summary("97", tmp_path) == "97: 0 of 1 exercise right; next: half"
    assert json.loads((tmp_path / FILE).read_text()) == {"right": ["twice", "thrice", "power"]}
    record.progress(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["97", "○◇", "0", "of", "1"],
        ["98", "●●◆", "2", "of", "2"],
    ]
    assert lines[2:] == ["next: half, in notebook 97"]
    for name in ("half", "root"):
        record.remember(name, True, tmp_path)
    record.progress(tmp_path)
    assert capsys.readouterr().out.endswith("all done\n")


def test_from_the_course_s_folder_the_notebooks_file_is_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "notebooks").mkdir()
    record.remember("half", True, tmp_path / "notebooks")
    monkeypatch.chdir(tmp_path)
    record.progress()
    assert "97  ●◇" in capsys.readouterr().out


def test_an_answer_that_is_wrong_again_counts_no_longer(tmp_path):
    record.remember("twice", False, tmp_path)
    assert not list(tmp_path.iterdir())
    record.remember("twice", True, tmp_path)
    record.remember("twice", False, tmp_path)
    assert record.summary("98", tmp_path).startswith("98: 0 of 2")


def test_beside_solved_notebooks_nothing_is_kept(tmp_path):
    folder = tmp_path / "solutions"
    folder.mkdir()
    record.remember("twice", True, folder)
    assert not list(folder.iterdir())
    assert record.summary("98", folder) == "98: 2 exercises and a challenge, solved here"


@pytest.mark.parametrize("text", ["", "[]", '{"right": 3}', "\xff"])
def test_a_file_that_is_none_of_ours_is_left_as_it_is(tmp_path, text, capsys):
    (tmp_path / FILE).write_text(text)
    record.remember("twice", True, tmp_path)
    assert (tmp_path / FILE).read_text() == text
    assert "cannot be read" in record.summary("98", tmp_path)
    record.progress(tmp_path)
    assert "cannot be read" in capsys.readouterr().out


def test_names_of_exercises_that_are_no_more_are_ignored(tmp_path):
    (tmp_path / FILE).write_text('{"right": ["gone", "twice"]}')
    assert record.summary("98", tmp_path) == "98: 1 of 2 exercises right; next: thrice"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_cannot_be_written_is_told_in_a_line(tmp_path, capsys):
    tmp_path.chmod(0o500)
    record.remember("twice", True, tmp_path)
    tmp_path.chmod(0o700)
    assert "progress is not kept" in capsys.readouterr().out


def test_a_disk_without_room_is_told_in_a_line(tmp_path, capsys, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write_whole", full)
    record.remember("twice", True, tmp_path)
    [line] = capsys.readouterr().out.splitlines()
    assert line.endswith("(No space left on device): progress is not kept")


def test_an_unknown_notebook_is_refused(tmp_path):
    with pytest.raises(LookupError, match="no notebook has the number '42'"):
        record.summary("42", tmp_path)
