"""What a notebook of the course must be, and how the blank one follows from the solved one.

    faults = source_faults(solved, "03_lighting")      # sentences; empty when all is well
    blank = blank_of(solved)                            # as nbgrader would release it
    faults = output_faults(blank)                       # after it has run

`make notebooks` refuses to write what breaks a rule; tests/course/test_notebooks.py asks again.
"""

import ast
import base64
import contextlib
import copy
import io
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader import preprocessors
from nbgrader.nbgraderformat import MetadataValidator, SchemaTooOldError, ValidationError
from PIL import Image
from traitlets.config import Config

from facerecon_lib.course import checks

from . import frames

STUB = "# YOUR CODE HERE\nraise NotImplementedError"
SETUP_ID, BADGE_ID = "setup", "colab-badge"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LEAST_FIGURES, MOST_BYTES = 8, 1_600_000
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
NBGRADER_STEPS = "LockCells ClearSolutions ClearOutput CheckCellMetadata ComputeChecksums"
NBGRADER_STEPS += " ClearHiddenTests ClearMarkScheme ComputeChecksums CheckCellMetadata"
CELL_METADATA = {"nbgrader", "tags", "editable", "deletable"}

# The first code cell of every notebook; with an address, what comes before it on Colab.
SETUP = """\
try:
    from facerecon_lib.course import check, exercise, setup
except ModuleNotFoundError as missing:
    todo = "run `make lab` in the course's folder (in VS Code: choose the kernel .venv)"
    raise ModuleNotFoundError(f"{missing}: {todo}") from None

setup("NN")"""
COLAB_SETUP = """\
import importlib.util
import pathlib
import runpy
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("facerecon_lib") is None:
    url, course = "https://github.com/OWNER/NAME", pathlib.Path("/content/course")
    if not course.exists():
        subprocess.run(["git", "clone", "-q", "--depth=1", url, str(course)], check=True)
    runpy.run_path(str(course / "data_scripts/colab_setup.py"), run_name="__main__")

"""
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repo}/blob/{branch}/notebooks/{name}.ipynb)"
)
REPO_NAME = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")


def blank_of(solved: NotebookNode) -> NotebookNode:
    """The notebook that students get: nbgrader's own preprocessors, in nbgrader's order.

    Outputs and widget state are gone: left in, the solution's figures would show.
    """
    notebook = copy.deepcopy(solved)
    notebook.metadata.pop("widgets", None)
    config = Config()
    config.ClearSolutions.code_stub = {"python": STUB}
    exporter = NotebookExporter(config=config)
    for step in NBGRADER_STEPS.split():
        exporter.register_preprocessor(getattr(preprocessors, step)(config=config), enabled=True)
    text, _ = exporter.from_notebook_node(notebook)
    return tidy(nbformat.reads(text, as_version=4))


def tidy(notebook: NotebookNode) -> NotebookNode:
    """The same metadata everywhere, so that files are equal byte for byte when made again."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        for key in cell.metadata.keys() - CELL_METADATA:
            del cell.metadata[key]
    return notebook


def differences(one: NotebookNode, other: NotebookNode) -> list[str]:
    """Where the cells' ids, kinds, sources or metadata part; outputs do not count."""
    ids, others = ([cell.id for cell in nb.cells] for nb in (one, other))
    odd = ", ".join(sorted({*ids} ^ {*others})) or "another order"
    faults = [f"the cells differ: {odd}"] * (ids != others)
    by_id = {cell.id: cell for cell in other.cells}
    faults += [
        f"cell {cell.id}: its {field.replace('_', ' ')} differs"
        for cell in one.cells
        for field in ("cell_type", "source", "metadata")
        if cell[field] != by_id.get(cell.id, cell)[field]
    ]
    return faults + ["the notebook's metadata differs"] * (one.metadata != other.metadata)


def _found(notebooks: Iterable[NotebookNode], cell_id: str, pattern: str) -> list[str]:
    """What a pattern's group matches in the cells of that id, each once."""
    cells = [cell for notebook in notebooks for cell in notebook.cells if cell.id == cell_id]
    return sorted({match for cell in cells for match in re.findall(pattern, cell.source)})


def repository_of(notebooks: Iterable[NotebookNode]) -> str:
    """The owner/name that set-up cells carry, or "". Raises ValueError when two are in use."""
    names = _found(notebooks, SETUP_ID, r'url, course = "https://github\.com/([^"]+)"')
    if len(names) > 1:
        several = f"notebooks name several repositories ({', '.join(names)})"
        raise ValueError(f"{several}: run make colab REPO=owner/name")
    return "".join(names)


def branch_of(notebooks: Iterable[NotebookNode]) -> str:
    return next(iter(_found(notebooks, BADGE_ID, r"/blob/([^/]+)/")), "main")


def setup_of(repo: str, number: str) -> str:
    """The set-up cell of notebook `number`; repo: owner/name on GitHub, or empty."""
    colab = COLAB_SETUP.replace("OWNER/NAME", repo) if repo else ""
    return colab + SETUP.replace("NN", number)


def write_setup(notebook: NotebookNode, name: str, repo: str, branch: str = "main") -> None:
    """Put the set-up cell's standard text and, where there is an address, the badge."""
    for cell in notebook.cells:
        if cell.id == SETUP_ID:
            cell.source = setup_of(repo, name[:2])
    text = BADGE.format(repo=repo, branch=branch, name=name)
    badge = [nbformat.v4.new_markdown_cell(text, id=BADGE_ID)] if repo else []
    notebook.cells = badge + [cell for cell in notebook.cells if cell.id != BADGE_ID]


def source_faults(notebook: NotebookNode, name: str) -> list[str]:
    """What is wrong with a solved notebook called `name` ("03_lighting"), in sentences."""
    faults, number = [], name[:2]
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", name):
        faults.append(f"its name: expected two digits and words, as in 03_lighting, got {name}")
    ids = [cell.get("id") for cell in notebook.cells]
    if len(set(ids)) < len(ids) or None in ids:
        odd = sorted({i for i in ids if i and ids.count(i) > 1})
        return [*faults, f"cell ids: expected one per cell; twice: {odd}"]
    try:
        nbformat.validate(notebook)
        MetadataValidator().validate_nb(notebook)
    except (ValidationError, SchemaTooOldError, nbformat.ValidationError, KeyError) as error:
        return [*faults, f"metadata: {str(error).splitlines()[0]}"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code or code[0].id != SETUP_ID:
        faults.append(f"its first code cell is not the one with id {SETUP_ID!r}")
    elif code[0].source != setup_of(repository_of([notebook]), number):
        faults.append("its set-up cell is not the standard one: run make notebooks")
    names = {}  # of exercises: in marked cells, and in others, which show how a check works
    cells = [None, *notebook.cells, None]
    for before, cell, following in zip(cells, cells[1:-1], cells[2:], strict=False):
        if cell.cell_type == "code" and _marked(cell, "solution"):
            exercise = exercise_in(cell.source)
            names |= {exercise: cell.id} if exercise else {}
            faults += _solution_faults(cell, following, exercise)
        elif cell.cell_type == "code" and _marked(cell, "grade"):
            faults += _check_faults(cell, before)
        elif cell.id != frames.ANSWER_ID and "nbgrader" in cell.metadata:
            faults.append(f"cell {cell.id}: nbgrader's mark on a cell that is no exercise")
        elif re.search(r"(BEGIN|END) (SOLUTION|HIDDEN|MARK)", cell.source):
            faults.append(f"cell {cell.id}: a solution in a cell that is not marked as one")
        elif cell.cell_type == "code":
            names |= dict.fromkeys(re.findall(r"^@exercise\ndef (\w+)", cell.source, re.M), "")
        faults += [f"cell {cell.id}: {what}" for what in machine_traces(cell.source)]
    registered = {e.name: e for e in checks.exercises().values() if e.notebook == number}
    for exercise in sorted(registered.keys() ^ names.keys()):
        where = "the notebook" if exercise in registered else f"nb{number}_*/checks.py"
        faults.append(f"exercise {exercise} is missing in {where}")
    if [name for name in names if name in registered] != [*registered]:
        faults.append("its exercises and their checks stand in different orders")
    framed = [(registered[name], cell) for name, cell in names.items() if name in registered]
    return faults + frames.frame_faults(notebook, name, framed) + frames.teaching_faults(notebook)


def exercise_in(source: str) -> str | None:
    """The name of the one function under @exercise, if there is just one."""
    with contextlib.suppress(SyntaxError):
        functions = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
        names = [f.name for f in functions if [*map(ast.unparse, f.decorator_list)] == ["exercise"]]
        return names[0] if len(names) == 1 else None
    return None


def _marked(cell: NotebookNode, mark: str) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get(mark))


def _present(where: str, faults: dict[str, object]) -> list[str]:
    """The faults of a table whose condition holds."""
    return [f"{where}: {fault}" for fault, holds in faults.items() if holds]


def _solution_faults(cell: NotebookNode, following: NotebookNode | None, name) -> list[str]:
    mark, where = cell.metadata.nbgrader, f"solution cell {cell.id}"
    if name is None:
        return [f"{where}: expected one function under @exercise, and code that parses"]
    lines = [line.strip() for line in cell.source.splitlines()]
    begins, ends = lines.count("### BEGIN SOLUTION"), lines.count("### END SOLUTION")
    checked = following is not None and following.source.strip() == f"check({name})"
    graded = mark.get("grade") or mark.get("locked") or mark.grade_id != name
    faults = {
        "expected ### BEGIN SOLUTION and ### END SOLUTION, each on a line": not begins == ends > 0,
        f"expected grade_id {name!r}, not graded, not locked": graded,
        f"the next cell must be check({name}) and nothing else": not checked,
        "its check cell is not marked as graded": checked and not _marked(following, "grade"),
    }
    return _present(where, faults)


def _check_faults(cell: NotebookNode, before: NotebookNode | None) -> list[str]:
    mark = cell.metadata.nbgrader
    name = re.fullmatch(r"check\((\w+)\)", cell.source)
    grade_id = f"check-{name[1]}" if name else mark.grade_id
    follows = before is not None and _marked(before, "solution")
    faults = {
        "it does not follow its solution cell directly": not follows,
        f"expected check(name) and nothing else: {cell.source!r}": name is None,
        f"expected grade_id {grade_id}, got {mark.grade_id}": mark.grade_id != grade_id,
        "expected locked, with points above 0": not (mark.get("locked") and mark.get("points")),
    }
    return _present(f"check cell {cell.id}", faults)


def machine_traces(text: str) -> list[str]:
    """Paths that tell whose machine this was made on."""
    root = Path(__file__).parents[2]
    places = {str(root), str(Path.home()), sys.prefix, tempfile.gettempdir()}
    pattern = "|".join([*(re.escape(p + "/") for p in places if len(p) > 1), r"/(home|Users)/\w"])
    return [f"a path of this machine: {place[0]}..." for place in re.finditer(pattern, text)]


def pictures(notebook: NotebookNode) -> list[tuple[str, bytes]]:
    """(cell id, PNG or JPEG) of each stored picture."""
    return [
        (cell.id, base64.b64decode(output["data"][kind]))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for kind in ("image/png", "image/jpeg")
        if kind in output.get("data", {})
    ]


def output_faults(notebook: NotebookNode, least_figures: int = LEAST_FIGURES) -> list[str]:
    """What is wrong with what a notebook stores, in sentences."""
    faults = []
    run = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    counts = [cell.execution_count for cell in run]
    if counts != list(range(1, len(run) + 1)):
        faults.append(f"its cells did not run once each, in order: execution counts {counts}")
    if "widgets" in notebook.metadata:
        faults.append("its metadata holds the state of widgets")
    outputs = [(cell.id, output) for cell in run for output in cell.outputs]
    faults += [f"cell {cell}: {what}" for cell, out in outputs for what in _output_faults(out)]
    drawn = pictures(notebook)
    faults += [f"cell {cell}: {what}" for cell, data in drawn if (what := picture_fault(data))]
    if len(drawn) < least_figures:
        faults.append(f"it shows {len(drawn)} pictures; expected {least_figures} or more")
    size = len(nbformat.writes(notebook).encode())
    if size > MOST_BYTES:
        faults.append(f"it is {size / 1e6:.2f} MB; expected {MOST_BYTES / 1e6} at most")
    return faults


def _output_faults(output: NotebookNode) -> list[str]:
    if output.output_type == "error":
        return [f"it stores an exception: {output.ename}: {output.evalue}"]
    if output.output_type == "stream" and output.name == "stderr":
        return [f"it wrote to stderr: {output.text.strip()[:200]}"]
    data = output.get("data", {})
    faults = ["it stores a view of a widget, dead without a kernel"] * (WIDGET_VIEW in data)
    for kind, value in {"stream": output.get("text", ""), **data}.items():
        if not kind.startswith("image/"):
            faults += machine_traces(value if isinstance(value, str) else repr(value))
    return faults


def picture_fault(data: bytes) -> str | None:
    """Why a stored picture is not worth looking at, if so."""
    try:
        image = Image.open(io.BytesIO(data)).convert("RGB")
    except OSError as error:
        return f"its picture cannot be read: {error}"
    if min(image.size) <= 100:
        return f"its picture is {image.width} x {image.height}, too small to see"
    flat = all(low == high for low, high in image.getextrema())
    return "its picture is of one colour" if flat else None
