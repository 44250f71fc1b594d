"""A notebook of both trees from its source: solutions taken out, both run, outputs stored.

Serves `make notebooks`.
"""

import base64
import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from facerecon_lib.course.exercises import OWN_FILES
from facerecon_lib.files.atomic import write_whole
from notebook_making import rules
from notebook_making.pictures import smaller

TREES = ("solutions", "notebooks")
CELL_TIMEOUT_S = 600
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
UNSET = ("NBGRADER_EXECUTION", "MPLBACKEND", *OWN_FILES)  # stored outputs are of what ships
SET = {"FACERECON_PROFILE": "smoke", "OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


@dataclass
class Result:
    """What became of one notebook: the faults that stopped it, or seconds, pictures and bytes."""

    name: str
    faults: list[str] = field(default_factory=list)
    seconds: tuple[float, float] = (0.0, 0.0)
    figures: int = 0
    size: int = 0

    def __str__(self) -> str:
        if self.faults:
            return f"{self.name:32} not written"
        times = "solved {:5.1f} s, blank {:5.1f} s".format(*self.seconds)
        return f"{self.name:32} {times}, {self.figures:2d} pictures, {self.size / 1e6:.2f} MB"


def make(
    root: Path, name: str, repo: str, branch: str, least_figures: int = rules.LEAST_FIGURES
) -> Result:
    """Check, blank and run one notebook, and write it to both trees if all went well."""
    solved_at, blank_at = (root / tree / f"{name}.ipynb" for tree in TREES)
    try:
        solved = rules.tidy(nbformat.read(solved_at, as_version=4))
    except Exception as error:
        return Result(name, [f"solutions/{name}.ipynb cannot be read: {error}"])
    rules.write_setup(solved, name, repo, branch)
    faults = rules.source_faults(solved, name)
    if faults:
        return Result(name, [f"solutions/{name}.ipynb: {fault}" for fault in faults])
    blank = rules.blank_of(solved)
    blank_at.parent.mkdir(exist_ok=True)
    seconds = []
    for notebook, path in ((solved, solved_at), (blank, blank_at)):
        started = time.perf_counter()
        faults = run(notebook, path.parent) or rules.output_faults(notebook, least_figures)
        seconds.append(time.perf_counter() - started)
        if faults:
            return Result(name, [f"{path.parent.name}/{name}.ipynb: {fault}" for fault in faults])
    figures, blanks = len(rules.pictures(solved)), len(rules.pictures(blank))
    if figures != blanks:
        return Result(name, [f"{name}: {figures} pictures when solved, {blanks} when blank"])
    size = write_together({solved_at: solved, blank_at: blank})
    return Result(name, [], tuple(seconds), figures, size)


def write_together(files: dict[Path, NotebookNode]) -> int:
    """Write all or none; the size of the largest in bytes."""
    with contextlib.ExitStack() as stack:
        for path, notebook in files.items():
            partial = stack.enter_context(write_whole(path))
            partial.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return max((path.stat().st_size for path in files), default=0)


def run(notebook: NotebookNode, folder: Path) -> list[str]:
    """Execute in place, as in `folder`, and tidy what came out; the faults, if it stopped."""
    environment = {k: v for k, v in os.environ.items() if k not in UNSET} | SET
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--log-level=40"],  # a warning about its transport is no news here
        resources={"metadata": {"path": str(folder)}},
    )
    client.widget_registry = {}  # what is drawn inside an Output widget stays in the cell
    try:
        client.execute(env=environment)
    except CellTimeoutError:
        return [f"a cell took more than {CELL_TIMEOUT_S} s"]
    except DeadKernelError:
        return ["the kernel died (out of memory?)"]
    except CellExecutionError as error:
        return [_where_it_failed(notebook, error)]
    rules.tidy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = cell.execution_count if cell.source.strip() else None
            cell.outputs = tidy_outputs(cell.outputs)
    return []


def _where_it_failed(notebook: NotebookNode, error: CellExecutionError) -> str:
    for i, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                lines = [f"    | {line}" for line in cell.source.strip().splitlines()[-6:]]
                message = COLOURS.sub("", f"    {output.ename}: {output.evalue}")
                place = f"cell {i + 1} of {len(notebook.cells)} (id {cell.id}) failed:"
                return "\n".join([place, *lines, message])
    return f"{error.ename}: {error.evalue}"


def tidy_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Streams joined (how they were cut depends on timing), no views of widgets, small pictures."""
    result: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and result and result[-1].get("name") == output.name:
            result[-1].text += output.text
            continue
        data = output.get("data", {})
        if "image/png" in data:
            data.pop(rules.WIDGET_VIEW, None)
            data.pop("image/jpeg", None)  # Pillow gives its pictures in both forms
            kind, small = smaller(base64.b64decode(data.pop("image/png")))
            data[kind] = base64.b64encode(small).decode()
        result.append(output)
    return result


def names(root: Path, only: list[str]) -> list[str]:
    """The notebooks of solutions/, or those that `only` names by number or name."""
    every = sorted(path.stem for path in (root / "solutions").glob("*.ipynb"))
    for start in only:
        if not any(name.startswith(start) for name in every):
            raise ValueError(f"--only {start}: solutions/ holds {', '.join(every) or 'nothing'}")
    return [name for name in every if not only or name.startswith(tuple(only))]


def check(root: Path, chosen: list[str], least_figures: int = rules.LEAST_FIGURES) -> list[str]:
    """What keeps the trees from being in step, or breaks a rule; runs nothing."""
    faults = []
    for name in chosen:
        solved = nbformat.read(root / "solutions" / f"{name}.ipynb", as_version=4)
        more = rules.source_faults(solved, name) + rules.output_faults(solved, least_figures)
        faults += [f"solutions/{name}.ipynb: {fault}" for fault in more]
        path = root / "notebooks" / f"{name}.ipynb"
        if not path.exists():
            faults.append(f"notebooks/{name}.ipynb is missing: run make notebooks")
            continue
        blank = nbformat.read(path, as_version=4)
        more = rules.differences(blank, rules.blank_of(solved))
        more += rules.output_faults(blank, least_figures)
        faults += [f"notebooks/{name}.ipynb: {fault}" for fault in more]
        if len(rules.pictures(solved)) != len(rules.pictures(blank)):
            faults.append(f"{name}: the two trees show different numbers of pictures")
    blanks = {path.stem for path in (root / "notebooks").glob("*.ipynb")}
    lost = sorted(blanks - {*names(root, [])})
    return faults + [f"notebooks/{name}.ipynb has no source in solutions/" for name in lost]


def _files(root: Path) -> list[Path]:
    return [path for tree in TREES for path in sorted((root / tree).glob("*.ipynb"))]


def in_use(root: Path) -> tuple[str, str]:
    """The repository and branch that the notebooks' badges name; ("", "main") without one."""
    notebooks = [nbformat.read(path, as_version=4) for path in _files(root)]
    return rules.repository_of(notebooks), rules.branch_of(notebooks)


def point_at_repository(root: Path, repo: str, branch: str) -> int:
    """Write badge and address into every notebook of both trees; how many. Raises ValueError."""
    repo = repo.strip().removeprefix("https://github.com/").removesuffix("/").removesuffix(".git")
    if not rules.REPO_NAME.fullmatch(repo):
        expected = "expected owner/name as on GitHub"
        raise ValueError(f"REPO: {expected}, got {repo!r}: make colab REPO=owner/name")
    files = {path: nbformat.read(path, as_version=4) for path in _files(root)}
    for path, notebook in files.items():
        rules.write_setup(notebook, path.stem, repo, branch)
    write_together(files)
    return len(files)
