"""What stands around the exercises of a notebook: their frames, predictions, a quiz, a question.

faults = frame_faults(solved, "03_lighting", [(check, "shade")])     # sentences
faults = teaching_faults(solved)
"""

import itertools
import re

from nbformat import NotebookNode

from facerecon_lib.course.checks import ExerciseCheck

FOLDS = ("Where to start", "A plan", "Code")
FRAME = re.compile(
    r"### (?P<head>(?P<count>Exercise \d+ of \d+|Challenge): [^\n]+)\n\n"
    r"[^\n]+\n\n"  # the task
    r"\*\d+ minutes · difficulty (?P<difficulty>[1-5]) of 5 · importance [1-5] of 5 · "
    r"(?P<points>\d+) points?\*\n\n"
    + "".join(rf"<details><summary>{fold}</summary>\n\n.+?\n\n</details>\n\n" for fold in FOLDS)
    + r"\[The solved cell\]\((?P<link>[^)\s]+)\)",
    re.DOTALL,
)
HEADER = "**Time:** about MINUTES minutes. **Exercises:** {} and a challenge. **Needs:** "
FOLDED = "<details><summary>{}</summary>"
PREDICTION = re.compile(
    rf"\*\*Predict\.\*\* [^\n]+\n\n{FOLDED.format('Answer')}\n\n.+\n\n</details>\Z", re.DOTALL
)
ANSWER_ID = "answer"


def frame_faults(
    notebook: NotebookNode, name: str, cells: list[tuple[ExerciseCheck, str]]
) -> list[str]:
    """Whether each exercise has its frame before it: a cell task-NAME in FRAME's form.

    cells: the exercises in order, and the ids of their solution cells.
    """
    counted = [check.name for check, _ in cells if not check.challenge]
    opening = next((c.source for c in notebook.cells if c.source.startswith("# ")), "")
    line = HEADER.format(len(counted))
    stands = re.search(re.escape(line).replace("MINUTES", r"\d+"), opening)
    faults = [] if stands else [f"its first cell lacks the line {line}..."]
    faults += ["expected one challenge"] * (len(cells) - len(counted) != 1)
    for check, solution in cells:
        head = "Challenge"
        if not check.challenge:
            head = f"Exercise {counted.index(check.name) + 1} of {len(counted)}"
        found = _frame_faults(notebook, name, check, solution, head)
        faults += [f"exercise {check.name}: {fault}" for fault in found]
    return faults


def _frame_faults(
    notebook: NotebookNode, name: str, check: ExerciseCheck, solution: str, head: str
) -> list[str]:
    by_id, frame_id = {cell.id: cell for cell in notebook.cells}, f"task-{check.name}"
    ids = [*by_id]
    if frame_id not in by_id or ids.index(frame_id) > ids.index(solution):
        return [f"expected a cell with the id {frame_id} before it"]
    match = FRAME.fullmatch(by_id[frame_id].source)
    if match is None:
        return [f"cell {frame_id} has not the form of an exercise's frame"]
    between = ids[ids.index(frame_id) + 1 : ids.index(solution)]
    link = f"../solutions/{name}.ipynb#{match['head'].replace(' ', '-')}"
    marks = by_id[ids[ids.index(solution) + 1]].metadata.get("nbgrader", {})
    return _holding(
        {
            f"its heading should begin with {head!r}": match["count"] != head,
            "a challenge has a difficulty of 4 or 5": check.challenge and match["difficulty"] < "4",
            f"its link should be {link}": match["link"] != link,
            "text stands between its frame and its cell": any(
                by_id[i].cell_type != "code" for i in between
            ),
            f"its check has {check.points} points; its frame or its check cell others": {
                int(match["points"]),
                marks.get("points"),
            }
            != {check.points},
        }
    )


def teaching_faults(notebook: NotebookNode) -> list[str]:
    """Whether it has predictions, a quiz, a question graded by hand, and outcomes of tries."""
    cells = [*notebook.cells, None]
    asking = [(c, n) for c, n in itertools.pairwise(cells) if "**Predict.**" in c.source]
    loose = [
        cell.id
        for cell, following in asking
        if not PREDICTION.search(cell.source) or following is None or following.cell_type != "code"
    ]
    text = "\n\n".join(cell.source for cell in cells[:-1] if cell.cell_type == "markdown")
    quiz = text.partition("\n\n## Quiz\n\n")[2].partition("\n## ")[0]
    tried = text.partition("**To try**")[2].partition("**Next:**")[0]
    items = re.findall(r"^\d+\. ", tried, re.M)
    answer = next((cell for cell in cells[:-1] if cell.id == ANSWER_ID), notebook.cells[0])
    mark = answer.metadata.get("nbgrader", {})
    by_hand = mark.get("grade") and mark.get("solution") and answer.cell_type == "markdown"
    asked = f"*{mark.get('points')} points, graded by hand"
    question = text.partition("\n\n## In your own words\n\n")[2]
    return _holding(
        {
            f"expected 3 to 5 predictions, got {len(asking)}": not 3 <= len(asking) <= 5,
            f"a prediction ends its cell, its answer folded, before code: {loose}": bool(loose),
            "expected '## Quiz', five questions with folded answers": (
                re.findall(r"^\*\*(\d+)\.\*\* ", quiz, re.M) != [*"12345"]
                or quiz.count(FOLDED.format("Answer")) != 5
            ),
            "expected '## In your own words' and a cell 'answer' that is graded by hand": not (
                by_hand and asked in question
            ),
            "each thing to try has its outcome folded, as 'What happens'": not items
            or tried.count(FOLDED.format("What happens")) != len(items),
        }
    )


def _holding(faults: dict[str, bool]) -> list[str]:
    return [fault for fault, holds in faults.items() if holds]
