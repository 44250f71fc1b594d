"""The notebooks as stored, the rules that they keep, and the tool that makes them.

Running them is `make test-notebooks`: strict nbval over both trees.
"""

import base64
import copy
import importlib
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import make_notebooks
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_making import frames, rules
from notebook_making import making as tool
from notebook_making import pictures as small_pictures
from PIL import Image
from script_runs import run_script

from facerecon_lib.course import checks
from facerecon_lib.face.camera import CROP_SIZE
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.weights import shipped_file
from facerecon_lib.photos.detection import sample_photo

ROOT = Path(__file__).parents[2]
TREES = ("solutions", "notebooks")
NAMES = sorted(path.stem for path in (ROOT / "solutions").glob("*.ipynb"))


def read(tree: str, name: str, root: Path = ROOT):
    return nbformat.read(root / tree / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NAMES)
def test_the_blank_notebook_is_the_solved_one_without_its_solutions(name):
    solved, blank = read("solutions", name), read("notebooks", name)
    assert rules.differences(blank, rules.blank_of(solved)) == []


def test_no_blank_notebook_is_without_a_source():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == NAMES != []


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_keep_the_rules_and_store_what_is_whole_and_worth_seeing(name):
    """Both trees show as many pictures."""
    solved, blank = read("solutions", name), read("notebooks", name)
    assert rules.source_faults(solved, name) == []
    assert rules.output_faults(solved) == rules.output_faults(blank) == []
    assert len(rules.pictures(solved)) == len(rules.pictures(blank))


@pytest.mark.parametrize(("tree", "says"), [("solutions", "✓ {}: right"), ("notebooks", "○ {}: ")])
@pytest.mark.parametrize("name", NAMES)
def test_every_check_says_right_when_solved_and_not_attempted_when_blank(name, tree, says):
    for cell in read(tree, name).cells:
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade"):
            [verdict] = cell.outputs
            asked = cell.metadata.nbgrader.grade_id.removeprefix("check-")
            assert verdict.data["text/plain"].startswith(says.format(asked))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_names_the_course_s_address_or_none_and_has_a_badge_to_match(name):
    repo, branch = tool.in_use(ROOT)
    for tree in TREES:
        notebook = read(tree, name)
        again = copy.deepcopy(notebook)
        rules.write_setup(again, name, repo, branch)
        assert rules.differences(notebook, again) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_links_to_the_notebook_and_counts_its_exercises(name):
    every = [check for check in checks.exercises().values() if check.notebook == name[:2]]
    count = sum(not check.challenge for check in every)
    [row] = re.findall(rf"^\| {name[:2]} \|.*$", (ROOT / "README.md").read_text(), re.M)
    assert f"(notebooks/{name}.ipynb)" in row
    assert re.search(
        rf"\| \[{count} and a challenge\]\(facerecon_lib/course/nb{name[:2]}_\w+/checks.py\) \|$",
        row,
    )


def known_numbers() -> dict[str, set]:
    """Numbers in the notebooks' texts, as a pattern, and what the files say that they are."""
    coarse = MorphableModel.load(subdivision=0)
    vertices, fine = len(coarse.mean), len(MorphableModel.load(subdivision=1).mean)
    sizes = coarse.neutral().sizes
    log = json.loads(shipped_file("base_encoder.json").read_text())
    faces = [run["train"]["faces"] for run in log.values()]  # after the first step, ..., the last
    cards = "".join(path.read_text() for path in (ROOT / "docs/model_cards").glob("*.md"))
    return {
        r"\b(1[5-9]\d) (?:plain )?(?:numbers|directions)\b": {sizes.vector},
        r"([\d,]{5,6}) vertices\b": {vertices, fine},
        r"\b(\d,\d{3}) triangles\b": {len(coarse.faces)},
        r"\b(10,\d{3}) (?:numbers|directions)\b": {3 * vertices},
        r"\b(30\d,\d{3})\b": {2 * 3 * CROP_SIZE**2},
        r"\b(\d+) \+ \d+ \+ \d+ (?:numbers|basis)": {sizes[0]},
        r"\b\d+ \+ (\d+) \+ \d+ (?:numbers|basis)": {sizes[1]},
        r"\b\d+ \+ \d+ \+ (\d+) (?:numbers|basis)": {sizes[2]},
        r"\b([\d,]+) steps of (?:256|24)\b": {seen[-1] // seen[0] for seen in faces},
        r"\b(\d,?\d{2,3}) portraits (?:in|of|that)\b": {
            int(n.replace(",", "")) for n in re.findall(r"\b(\d,?\d{2,3})\b", cards)
        },
    }


def test_the_texts_say_the_numbers_that_the_files_know():
    texts = {
        name: "\n".join(
            c.source for c in read("solutions", name).cells if c.cell_type == "markdown"
        )
        for name in NAMES
    }
    for pattern, right in known_numbers().items():
        found = [(name, number) for name in NAMES for number in re.findall(pattern, texts[name])]
        assert found, f"no notebook says {pattern}: take it from the table"
        odd = [one for one in found if int(one[1].replace(",", "")) not in right]
        assert not odd, f"{odd}: expected {right if len(right) < 9 else 'what a card says'}"


@pytest.fixture
def two_exercises(monkeypatch):
    """As if notebook 98 had an exercise, `twice`, and a challenge, `half`."""
    twice = checks.ExerciseCheck("twice", "98", lambda x: 2 * x, lambda attempt: None, points=2)
    half = replace(twice, name="half", stand_in=lambda x: x / 2, challenge=True)
    monkeypatch.setattr(checks, "exercises", lambda: {"twice": twice, "half": half})


SOLUTION = '''\
@exercise
def twice(x):
    """Twice x."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION'''


def _marks(grade_id: str, **mark) -> dict:
    marks = dict(schema_version=3, grade_id=grade_id, grade=False, solution=False, locked=False)
    return {"nbgrader": marks | {"task": False} | mark}


def marked(source: str, grade_id: str, **mark):
    return new_code_cell(source, id=grade_id, metadata=_marks(grade_id, **mark))


def fold(summary: str, text: str = "Some words.") -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def frame(head: str, difficulty: int) -> str:
    facts = f"*5 minutes · difficulty {difficulty} of 5 · importance 2 of 5 · 2 points*"
    link = f"[The solved cell](../solutions/98_small.ipynb#{head.replace(' ', '-')})"
    return "\n\n".join([f"### {head}", "Write it.", facts, *map(fold, frames.FOLDS), link])


def small():
    """A notebook in which all is well."""
    needs = "**Time:** about 5 minutes. **Exercises:** 1 and a challenge. **Needs:** nothing."
    cells = [
        new_markdown_cell(f"# Small\n\n{needs}", id="title"),
        new_code_cell(rules.setup_of("", "98")),
    ]
    cells[1].id = "setup"
    heads = {"twice": ("Exercise 1 of 1: Doubling", 1), "half": ("Challenge: Halving", 5)}
    for name, head in heads.items():
        cells += [
            new_markdown_cell(frame(*head), id=f"task-{name}"),
            marked(SOLUTION.replace("twice", name), name, solution=True),
            marked(f"check({name})", f"check-{name}", grade=True, locked=True, points=2),
        ]
    for i in range(3):
        cells.append(
            new_markdown_cell(f"**Predict.** What?\n\n{fold('Answer')}", id=f"predict-{i}")
        )
        cells.append(new_code_cell("twice(4)", id=f"use-{i}"))
    quiz = [f"**{i}.** Why?\n\n{fold('Answer')}" for i in range(1, 6)]
    words = "## In your own words\n\nWhy?\n\n*4 points, graded by hand: a line is enough.*"
    marks = _marks("answer", grade=True, solution=True, points=4)
    tries = f"**To try**\n\n1. This.\n\n   {fold('What happens')}\n\n**Next:** nothing."
    cells += [
        new_markdown_cell("\n\n".join(["## Quiz", *quiz]), id="quiz"),
        new_markdown_cell(words, id="question"),
        new_markdown_cell("So.\n\n**Marks:** 4 for it.", id="answer", metadata=marks),
        new_markdown_cell(tries, id="more"),
    ]
    return rules.tidy(new_notebook(cells=cells))


def cell_of(notebook, cell_id: str):
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def test_a_small_notebook_keeps_the_rules(two_exercises):
    assert rules.source_faults(small(), "98_small") == []


def test_the_stub_stands_where_the_solution_was_and_ids_stay(two_exercises):
    blank = rules.blank_of(small())
    assert [cell.id for cell in blank.cells] == [cell.id for cell in small().cells]
    assert cell_of(blank, "answer").source == "YOUR ANSWER HERE"
    assert cell_of(blank, "twice").source == (
        '@exercise\ndef twice(x):\n    """Twice x."""\n'
        "    # YOUR CODE HERE\n    raise NotImplementedError"
    )


def test_no_figure_of_the_solution_reaches_the_blank_notebook(two_exercises):
    solved = small()
    cell_of(solved, "twice").outputs = [new_output("stream", text="secret")]
    solved.metadata["widgets"] = {"state": "secret"}
    assert "secret" not in nbformat.writes(rules.blank_of(solved))


def test_the_blank_notebook_is_what_nbgrader_s_command_would_release(two_exercises):
    """Points, checksums and locks are as an instructor's own release has them."""
    check = cell_of(rules.blank_of(small()), "check-twice")
    assert check.metadata.nbgrader.points == 2
    assert len(check.metadata.nbgrader.checksum) == 32
    assert check.metadata.editable is False


def source(cell_id: str, text: str):
    return lambda nb: cell_of(nb, cell_id).update(source=text)


def instead(cell_id: str, old: str, new: str):
    """Put other words into a cell, of which the old ones are there."""

    def spoil(nb):
        cell = cell_of(nb, cell_id)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return spoil


def mark(cell_id: str, **marks):
    return lambda nb: cell_of(nb, cell_id).metadata.nbgrader.update(marks)


def without(cell_id: str):
    return lambda nb: nb.cells.remove(cell_of(nb, cell_id))


def before(cell_id: str, cell):
    return lambda nb: nb.cells.insert(nb.cells.index(cell_of(nb, cell_id)), cell)


def another_name(nb):
    text = nbformat.writes(nbformat.v4.new_notebook(cells=nb.cells[3:5]))
    nb.cells[3:5] = nbformat.reads(text.replace("twice", "thrice"), as_version=4).cells


def another_order(nb):
    nb.cells[2:8] = nb.cells[5:8] + nb.cells[2:5]


def mark_left_over(nb):
    mark = cell_of(nb, "twice").metadata.nbgrader | dict(grade_id="use", solution=False)
    cell_of(nb, "use-0").metadata["nbgrader"] = mark


THRICE = "exercise thrice is missing in nb98_*/checks.py"
FORM = "cell task-twice has not the form of an exercise's frame"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (source("twice", "@exercise\ndef twice(x):\n    return 2 * x"), "expected ### BEGIN SOLU"),
        (source("twice", f"{SOLUTION}\n\n{SOLUTION}"), "expected one function under @exercise"),
        (before("check-twice", new_code_cell("1 + 1")), "next cell must be check(twice)"),
        (source("check-twice", "check(twice)\nprint('done')"), "expected check(name) and nothing"),
        (source("check-twice", "check(thrice)"), "the next cell must be check(twice)"),
        (instead("setup", "\n\nsetup", "\nimport torch\nsetup"), "set-up cell is not the standard"),
        (mark("check-twice", grade_id="twice"), "Duplicate grade id: twice"),
        (lambda nb: cell_of(nb, "use-0").update(id="setup"), "id"),
        (source("use-0", "### BEGIN SOLUTION\n1\n### END SOLUTION"), "a cell that is not marked"),
        (source("use-0", "@exercise\ndef thrice(x):\n    raise NotImplementedError"), THRICE),
        (mark_left_over, "mark on a cell that is no exercise"),
        (another_name, THRICE),
        (another_order, "stand in different orders"),
        (source("use-0", f"open('{ROOT}/photo.jpg')"), "a path of this machine"),
        (mark("check-twice", points=0), "with points above 0"),
        (mark("check-twice", schema_version=1), "metadata: "),
        (lambda nb: cell_of(nb, "twice").metadata.pop("nbgrader"), "a solution in a cell that is"),
        (instead("title", "1 and", "2 and"), "its first cell lacks the line"),
        (without("task-twice"), "exercise twice: expected a cell with the id task-twice before it"),
        (source("task-twice", "Write it."), FORM),
        (instead("task-twice", "A plan", "Hint"), FORM),
        (instead("task-twice", "*5 minutes", "*some minutes"), FORM),
        (instead("task-twice", "1 of 1: D", "1 of 2: D"), "should begin with 'Exercise 1 of 1'"),
        (
            instead("task-half", "### Challenge", "### Exercise 2 of 2"),
            "should begin with 'Challenge'",
        ),
        (instead("task-half", "difficulty 5", "difficulty 2"), "a difficulty of 4 or 5"),
        (
            instead("task-twice", "98_small.", "97_other."),
            "should be ../solutions/98_small.ipynb#Ex",
        ),
        (before("twice", new_markdown_cell("More.")), "text stands between its frame and its cell"),
        (instead("task-twice", "2 points", "3 points"), "2 points; its frame or its check cell"),
        (mark("check-twice", points=1), "2 points; its frame or its check cell others"),
        (without("predict-1"), "expected 3 to 5 predictions, got 2"),
        (before("use-1", new_markdown_cell("Words.")), "before code: ['predict-1']"),
        (instead("predict-1", "<summary>Answer", "<summary>So"), "before code: ['predict-1']"),
        (instead("quiz", "**5.**", "**4.**"), "expected '## Quiz', five questions"),
        (without("quiz"), "expected '## Quiz', five questions"),
        (without("answer"), "a cell 'answer' that is graded by hand"),
        (mark("answer", points=5), "a cell 'answer' that is graded by hand"),
        (instead("more", "What happens", "Answer"), "each thing to try has its outcome folded"),
    ],
)
def test_a_broken_rule_is_named(two_exercises, spoil, says):
    notebook = small()
    spoil(notebook)
    assert any(says in fault for fault in rules.source_faults(notebook, "98_small"))


def png(array: np.ndarray, **settings) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, format="PNG", **settings)
    return out.getvalue()


def noise(side: int = 160) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)


def shown(data: bytes, **more):
    return new_output("display_data", data={"image/png": base64.b64encode(data).decode(), **more})


def as_if_run(notebook, folder=None):
    for i, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        cell.execution_count = i + 1
    return []


def was_run(*outputs):
    notebook = small()
    as_if_run(notebook)
    cell_of(notebook, "use-2").outputs = list(outputs)
    return notebook


def test_an_ordinary_picture_is_well():
    assert rules.output_faults(was_run(shown(png(noise()))), least_figures=1) == []


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (new_output("error", ename="ValueError", evalue="no", traceback=[]), "an exception: Val"),
        (new_output("stream", name="stderr", text="careful"), "stderr: careful"),
        (new_output("stream", name="stdout", text=f"{ROOT}/x.png"), "a path of this machine"),
        (new_output("stream", name="stdout", text="/home/someone/x"), "a path of this machine"),
        (new_output("display_data", data={rules.WIDGET_VIEW: {}}), "a view of a widget"),
        (shown(b"no picture"), "cannot be read"),
        (shown(png(noise(60))), "too small"),
        (shown(png(np.full((200, 200, 3), 9, np.uint8))), "of one colour"),
    ],
)
def test_what_a_notebook_must_not_store_is_named(output, says):
    faults = rules.output_faults(was_run(output), least_figures=0)
    assert any(says in fault for fault in faults), faults


def test_a_notebook_that_was_never_run_or_out_of_order_is_caught():
    """nbval passes the first: a cell without an execution count is not compared."""
    out_of_order = was_run()
    cell_of(out_of_order, "use-2").execution_count = 99
    for notebook in (small(), out_of_order):
        assert "did not run" in rules.output_faults(notebook, least_figures=0)[0]


def test_few_pictures_and_many_bytes_are_caught():
    faults = rules.output_faults(was_run(*[shown(png(noise(700)))] * 2), least_figures=8)
    assert any("2 pictures; expected 8" in fault for fault in faults)
    assert any("MB; expected 1.6" in fault for fault in faults)


def test_streams_are_joined_and_views_of_widgets_left_out():
    outputs = [new_output("stream", text="a"), new_output("stream", text="b")]
    outputs.append(shown(png(noise()), **{rules.WIDGET_VIEW: {"model_id": "f00"}}))
    joined, picture = tool.tidy_outputs(outputs)
    assert joined.text == "ab"
    assert set(picture.data) == {"image/png"}


def smooth(side: int = 400) -> np.ndarray:
    """A large picture of all hues, with fine grain."""
    y, x = np.mgrid[:side, :side] / side
    rgb = 255 * np.stack([x, y, (np.sin(9 * x) * np.cos(7 * y) + 1) / 2], -1)
    grain = np.random.default_rng(0).normal(0, 2, rgb.shape)
    return np.clip(rgb + grain, 0, 255).astype(np.uint8)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_a_photo_shrinks_and_looks_the_same():
    before = png(sample_photo().pixels)
    kind, after = small_pictures.smaller(before)
    assert kind == "image/jpeg"
    assert len(after) < 0.5 * len(before)
    assert small_pictures.looks_alike(opened(before), opened(after), mean=3, most=16)
    assert not small_pictures.looks_alike(opened(before), opened(before).rotate(1), mean=3, most=16)


def test_a_drawing_of_few_colours_is_kept_exactly():
    shades = np.repeat(np.random.default_rng(0).integers(0, 255, (120, 2, 3)), 100, axis=1)
    drawing = shades.astype(np.uint8)
    before = png(np.repeat(drawing, 3, axis=0), compress_level=0)
    kind, after = small_pictures.smaller(before)
    assert kind == "image/png"
    assert len(after) < 0.1 * len(before)
    assert (np.asarray(opened(after)) == np.asarray(opened(before))).all()


def test_a_picture_with_more_colours_than_a_palette_can_hold_keeps_them():
    _, after = small_pictures.smaller(png(smooth()))
    away = np.abs(np.asarray(opened(after)).astype(int) - smooth())
    assert away.mean() < 3  # grain; no bands
    assert len(np.unique(np.asarray(opened(after)).reshape(-1, 3), axis=0)) > 256


def test_small_pictures_and_animations_are_left_alone():
    still = png(noise(60))
    frames = [Image.fromarray(np.roll(smooth(), 9 * i, axis=1)) for i in range(3)]
    out = io.BytesIO()
    frames[0].save(out, format="PNG", save_all=True, append_images=frames[1:])
    animation = out.getvalue()
    assert len(animation) > small_pictures.SHRINK_ABOVE
    assert small_pictures.smaller(still)[1] is still
    assert small_pictures.smaller(animation) == ("image/png", animation)


@pytest.fixture
def course(tmp_path, two_exercises):
    for tree in TREES:
        (tmp_path / tree).mkdir()
    nbformat.write(small(), tmp_path / "solutions" / "98_small.ipynb")
    return tmp_path


@pytest.fixture
def make(course, monkeypatch):
    """Makes the small notebook, as if it ran; what stopped it."""
    monkeypatch.setattr(tool, "run", as_if_run)
    return lambda repo="", branch="main": tool.make(course, "98_small", repo, branch, 0).faults


def test_both_trees_are_written_when_both_ran(course, make):
    assert make() == []
    assert tool.check(course, ["98_small"], least_figures=0) == []
    assert sorted(p.name for p in course.rglob("*.ipynb*")) == ["98_small.ipynb"] * 2


@pytest.mark.parametrize("tree", TREES)
def test_neither_tree_is_written_when_one_did_not_run(course, make, monkeypatch, tree):
    before = (course / "solutions/98_small.ipynb").read_bytes()

    def fails(notebook, folder):
        return ["it broke"] if folder.name == tree else as_if_run(notebook, folder)

    monkeypatch.setattr(tool, "run", fails)
    assert make() == [f"{tree}/98_small.ipynb: it broke"]
    assert (course / "solutions/98_small.ipynb").read_bytes() == before
    assert sorted(p.name for p in course.rglob("*.ipynb*")) == ["98_small.ipynb"]


def test_made_again_the_files_are_equal_byte_for_byte(course, make):
    files = [course / tree / "98_small.ipynb" for tree in TREES]
    make()
    before = [path.read_bytes() for path in files]
    make()
    assert [path.read_bytes() for path in files] == before


def test_an_edit_of_a_blank_notebook_is_noticed(course, make):
    make()
    path = course / "notebooks/98_small.ipynb"
    path.write_text(path.read_text().replace("twice(4)", "twice(5)", 1))
    [fault] = tool.check(course, ["98_small"], least_figures=0)
    assert fault == "notebooks/98_small.ipynb: cell use-0: its source differs"


def test_a_changed_set_up_cell_is_put_right(course, make):
    notebook = small()
    cell_of(notebook, "setup").source = "print('something else')"
    nbformat.write(notebook, course / "solutions/98_small.ipynb")
    assert make() == []
    assert cell_of(read("solutions", "98_small", course), "setup").source == rules.setup_of(
        "", "98"
    )


def test_a_cell_that_fails_is_named_with_its_last_lines(tmp_path):
    cells = [new_code_cell("print('fine')"), new_code_cell("x = 1\nx / 0", id="broken")]
    [fault] = tool.run(new_notebook(cells=cells), tmp_path)
    assert "cell 2 of 2 (id broken) failed" in fault
    assert fault.splitlines()[-2:] == ["    | x / 0", "    ZeroDivisionError: division by zero"]


def test_a_notebook_runs_as_in_its_folder_and_stores_no_times(tmp_path):
    (tmp_path / "here.txt").touch()
    cell = new_code_cell("import os; print(os.listdir(), os.environ['FACERECON_PROFILE'])")
    notebook = new_notebook(cells=[cell])
    assert tool.run(notebook, tmp_path) == []
    assert notebook.cells[0].outputs[0].text == "['here.txt'] smoke\n"
    assert notebook.cells[0].metadata == {}
    assert notebook.metadata == rules.METADATA


@pytest.fixture
def command(course):
    return lambda *words: run_script(make_notebooks.main, "--root", course, *words)


def test_check_names_each_fault_and_exits_with_1(command):
    done = command("--check")
    assert done.exit_code == 1
    assert "notebooks/98_small.ipynb is missing: run make notebooks" in done.output
    assert "solutions/98_small.ipynb: its cells did not run once each" in done.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--only", "42"), "--only 42: solutions/ holds 98_small"),
        (("--colab", "nothing"), "REPO: expected owner/name as on GitHub, got 'nothing'"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(command, words, says):
    done = command(*words)
    assert done.exit_code == 1
    assert says in done.output
    assert len(done.output.splitlines()) == 1


def test_a_notebook_in_progress_is_reported_and_the_command_exits_with_1(command, course):
    notebook = small()
    cell_of(notebook, "check-twice").source = "check(twice); print('done')"
    nbformat.write(notebook, course / "solutions/98_small.ipynb")
    done = command("--jobs", "1")
    assert done.exit_code == 1
    assert "98_small                         not written" in done.output
    assert "the next cell must be check(twice)" in done.output
    assert "0 of 1 notebooks made" in done.output
    assert not list((course / "notebooks").iterdir())


def test_the_badge_comes_first_links_to_the_blank_notebook_and_can_be_replaced(course, make):
    make()
    for repo in ("someone/course", "another-one/face.course"):
        assert tool.point_at_repository(course, repo, "main") == 2
        for tree in TREES:
            badge, _, setup = read(tree, "98_small", course).cells[:3]
            assert badge.id == "colab-badge"
            assert f"/github/{repo}/blob/main/notebooks/98_small.ipynb)" in badge.source
            assert f'"https://github.com/{repo}"' in setup.source
            assert setup.execution_count == 1
        assert tool.check(course, ["98_small"], least_figures=0) == []
    assert tool.in_use(course) == ("another-one/face.course", "main")
    assert make(*tool.in_use(course)) == []
    assert tool.in_use(course) == ("another-one/face.course", "main")


@pytest.mark.parametrize("repo", ["", "name", "a/b/c", "-a/b", "a/..", "a b/c", 'a/b"'])
def test_what_is_no_owner_and_name_is_refused(course, repo):
    before = (course / "solutions/98_small.ipynb").read_bytes()
    with pytest.raises(ValueError, match="expected owner/name"):
        tool.point_at_repository(course, repo, "main")
    assert (course / "solutions/98_small.ipynb").read_bytes() == before


def test_an_address_in_full_is_understood(course):
    tool.point_at_repository(course, "https://github.com/someone/course.git", "main")
    assert tool.in_use(course)[0] == "someone/course"


def test_without_the_library_the_set_up_cell_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "facerecon_lib.course", None)
    for repo in ("", "someone/course"):
        with pytest.raises(ModuleNotFoundError, match="make lab"):
            exec(rules.setup_of(repo, "03"), {})


def compare(*drawn: np.ndarray) -> None:
    runs = importlib.import_module("notebook_runs")
    runs.compare_pictures([shown(png(smooth()))], [shown(png(array)) for array in drawn])


def test_the_same_picture_passes_and_a_slightly_other_one_too():
    compare(np.clip(smooth().astype(int) + 3, 0, 255).astype(np.uint8))


HOLE = np.zeros((400, 400, 1), bool)
HOLE[100:200, 100:200] = True


@pytest.mark.parametrize(
    ("drawn", "says"),
    [
        ([], None),
        ([smooth(), smooth()], None),
        ([smooth()[:, ::-1]], None),
        ([smooth(300)], None),
        ([np.full_like(smooth(), 128)], None),
        ([np.where(HOLE, 0, smooth()).astype(np.uint8)], "does not look like"),
    ],
    ids=["none", "one too many", "mirrored", "another size", "blank", "a part is missing"],
)
def test_another_picture_does_not_pass(drawn, says):
    with pytest.raises(AssertionError, match=says):
        compare(*drawn)
