"""Our exercises under nbgrader, as docs/INSTRUCTORS.md has an instructor use it."""

import os
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from notebook_making import rules
from test_notebooks import marked
from traitlets.config.loader import PyFileConfigLoader

from facerecon_lib.course import checks

ROOT = Path(__file__).parents[2]
RIGHT = """\
    from facerecon_lib.course import checks

    return checks.find("{name}").stand_in(*given, **named)"""
NOISY = f"    import sys\n    print('a word', file=sys.stderr)\n{RIGHT}"
WRONG = "    return 0"
WITHOUT_GRADIENT = RIGHT.replace("*given", "*(x.detach() for x in given)")
POINTS = {name: checks.find(name).points for name in ("sh_basis", "shade")}
BY_HAND = dict(schema_version=3, grade_id="in-your-own-words", points=4, grade=True, solution=True)


def notebook(first: str, second: str):
    """Two exercises of notebook 03, an instructor's hidden test, and a question graded by hand."""
    cells = [new_code_cell(rules.setup_of("", "03"), id="setup")]
    for name, body in (("sh_basis", first), ("shade", second)):
        lines = ["@exercise", f"def {name}(*given, **named):"]
        lines += ["    ### BEGIN SOLUTION", body.format(name=name), "    ### END SOLUTION"]
        cells.append(marked("\n".join(lines), name, solution=True))
        graded = dict(grade=True, locked=True, points=POINTS[name])
        cells.append(marked(f"check({name})", f"check-{name}", **graded))
    hidden = "import torch\n\nassert sh_basis.student(torch.eye(3)).shape == (3, 9)"
    hidden = f"### BEGIN HIDDEN TESTS\n{hidden}\n### END HIDDEN TESTS"
    cells.append(marked(hidden, "hidden", grade=True, locked=True, points=1))
    mark = {"nbgrader": BY_HAND | dict(locked=False, task=False)}
    cells.append(new_markdown_cell("Because of this.", id="answer", metadata=mark))
    return rules.tidy(new_notebook(cells=cells))


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course folder with one assignment, and nbgrader as `docs/nbgrader_config.py` sets it up."""
    source = tmp_path / "source" / "03_lighting"
    source.mkdir(parents=True)
    nbformat.write(notebook(RIGHT, RIGHT), source / "03_lighting.ipynb")
    # nbgrader calls alembic, which stands beside python
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FACERECON_PROFILE", "smoke")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = PyFileConfigLoader("nbgrader_config.py", str(ROOT / "docs")).load_config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.db_url = f"sqlite:///{tmp_path}/gradebook.db"
    return tmp_path, NbGraderAPI(config=config)


def hand_in(
    folder: Path, student: str, first: str, second: str, edit_check: bool = False, edit=None
) -> None:
    """The released notebook with a student's code in place of the stubs, edited by `edit(book)`."""
    released = folder / "release/03_lighting/03_lighting.ipynb"
    book = nbformat.read(released, as_version=4)
    for each in book.cells:
        body = {"sh_basis": first, "shade": second}.get(each.id)
        if body is not None and body != "blank":
            head = each.source.partition("    # YOUR CODE HERE")[0]
            each.source = head + body.format(name=each.metadata.nbgrader.grade_id)
        if edit_check and each.id == "check-shade":
            each.source, each.metadata.nbgrader.points = "print('passed')", 100
    if edit is not None:
        edit(book)
    place = folder / "submitted" / student / "03_lighting"
    place.mkdir(parents=True)
    nbformat.write(book, place / "03_lighting.ipynb")


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
def test_submissions_get_full_part_and_no_marks_and_are_told_why(course):
    folder, api = course
    made = api.generate_assignment("03_lighting")
    assert made["success"], made["log"]
    released = nbformat.read(folder / "release/03_lighting/03_lighting.ipynb", as_version=4)
    sources = {each.id: each.source for each in released.cells}
    assert "stand_in" not in sources["sh_basis"]
    assert sources["sh_basis"].endswith("    # YOUR CODE HERE\n    raise NotImplementedError")
    assert sources["hidden"] == ""
    assert sources["answer"] == "YOUR ANSWER HERE"
    ours = rules.blank_of(notebook(RIGHT, RIGHT))  # as `make notebooks` makes them
    assert rules.differences(ours, rules.tidy(released)) == []

    def explained(book):
        book.cells[-1].source = "Because of that."

    hand_in(folder, "perfect", RIGHT, NOISY, edit=explained)
    hand_in(folder, "partly", RIGHT, WITHOUT_GRADIENT)
    hand_in(folder, "wrong", RIGHT, WRONG, edit_check=True)
    hand_in(folder, "blank", "blank", "blank")
    for student in ("perfect", "partly", "wrong", "blank"):
        graded = api.autograde("03_lighting", student)
        assert graded["success"], graded["log"]

    marks, full = marks_of(folder), tuple(POINTS.values())
    assert [*marks["perfect"].values()] == [*full, 1, None]  # an answer waits for its reader
    assert [*marks["wrong"].values()] == [full[0], 0, 1, 0]
    assert [*marks["blank"].values()] == [0, 0, 0, 0]
    assert 0 < marks["partly"]["check-shade"] < full[1]

    sent = api.generate_feedback("03_lighting", "partly")
    assert sent["success"], sent["log"]
    feedback = (folder / "feedback/partly/03_lighting/03_lighting.html").read_text()
    assert f"shade: wrong, {marks['partly']['check-shade']:g} of {full[1]} points." in feedback
    assert "no gradient" in feedback


NAMES = ("check-sh_basis", "check-shade", "hidden", "in-your-own-words")


def marks_of(folder: Path) -> dict:
    """Points of each student by NAMES; None where a person has to grade."""
    with Gradebook(f"sqlite:///{folder}/gradebook.db", "facerecon") as gradebook:
        most = sum(POINTS.values()) + 1 + BY_HAND["points"]
        assert gradebook.find_assignment("03_lighting").max_score == most
        found = {}
        for handed_in in gradebook.assignment_submissions("03_lighting"):
            grades = {grade.name: grade for book in handed_in.notebooks for grade in book.grades}
            found[handed_in.student.id] = {
                name: None if grades[name].needs_manual_grade else grades[name].score
                for name in NAMES
            }
        return found


def repeat(book, cell_id: str, source: str | None = None, grade_id: str | None = None) -> None:
    """Put a cell with the same marks before a cell, as JupyterLab's copy and split do."""
    place = [each.id for each in book.cells].index(cell_id)
    twin = deepcopy(book.cells[place])
    twin.id, twin.source = f"{cell_id}-twin", source or twin.source
    twin.metadata.nbgrader.grade_id = grade_id or twin.metadata.nbgrader.grade_id
    book.cells.insert(place, twin)


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
def test_cells_that_were_copied_or_split_are_graded_all_the_same(course):
    folder, api = course
    assert api.generate_assignment("03_lighting")["success"]

    def edit(book):
        repeat(book, "check-shade")
        repeat(book, "shade")
        repeat(book, "sh_basis", "helper = 1")  # the upper part of a split cell
        repeat(book, "check-sh_basis", "check(sh_basis)", "check-of-another-notebook")

    hand_in(folder, "student", RIGHT, RIGHT, edit=edit)
    graded = api.autograde("03_lighting", "student")
    assert graded["success"], graded["log"]
    assert [*marks_of(folder)["student"].values()] == [*POINTS.values(), 1, 0]
