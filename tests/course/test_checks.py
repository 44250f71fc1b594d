"""Every check rejects plausible mistakes, and accepts right answers however they are written.

An exercise's own table of mistakes names those that its check explains. mutants/ holds, for
each exercise, further MUTANTS (what is wrong, in words: function) and ALTERNATIVES (how it differs:
a function that is right); spoiled_answers makes mutants of any function. Two mistakes are made of
every exercise's own answer.
"""

import ast
import importlib.util
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import nbformat
import pytest
import torch

from facerecon_lib.course import checks
from facerecon_lib.course import exercises as course

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LEAST_MUTANTS, LEAST_ALTERNATIVES = 4, 2
NO_HELP = ("could not be compared", "Traceback", "site-packages", "facerecon_lib/")


def load(path: Path):
    name = f"mutants_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


MODULES = [load(path) for path in sorted((HERE / "mutants").glob("notebook_*.py"))]
EXERCISES = checks.exercises()
EXPLAINED = {
    name: {f"{i} {words}": f for i, (words, f) in enumerate(definition.wrong_functions())}
    for name, definition in EXERCISES.items()
}
UNNAMED = {name: them for module in MODULES for name, them in module.MUTANTS.items()}
WITHOUT_GRADIENT = {name for module in MODULES for name in module.WITHOUT_GRADIENT}
GENERAL = {
    name: {"nothing returned": lambda *_, **__: None}
    | ({} if name in WITHOUT_GRADIENT else {"no gradient": torch.no_grad()(definition.stand_in)})
    for name, definition in EXERCISES.items()
}
MUTANTS = {name: EXPLAINED[name] | UNNAMED.get(name, {}) | GENERAL[name] for name in EXERCISES}
ALTERNATIVES = {name: them for module in MODULES for name, them in module.ALTERNATIVES.items()}


@cache
def judged(function, name: str):
    """What the exercise's check says; asked for twice of most."""
    return course.judge(function, EXERCISES[name])


def cases(table: dict) -> list:
    return [
        pytest.param(name, function, id=f"{name}: {words}")
        for name, functions in table.items()
        for words, function in functions.items()
    ]


def test_every_exercise_has_mistakes_and_right_answers_to_be_judged_by(capsys):
    for name in EXERCISES:
        assert len(MUTANTS[name]) - len(GENERAL[name]) >= LEAST_MUTANTS, name
        assert len(ALTERNATIVES.get(name, {})) >= LEAST_ALTERNATIVES, name
    assert set(UNNAMED) | set(ALTERNATIVES) <= set(EXERCISES)
    states = Counter(
        (kind, judged(function, name).state)
        for kind, table in (("mistakes", MUTANTS), ("right answers", ALTERNATIVES))
        for name, functions in table.items()
        for function in functions.values()
    )
    rejected, accepted = states["mistakes", "wrong"], states["right answers", "right"]
    with capsys.disabled():
        print(
            f"\nchecks: {len(EXERCISES)} exercises, "
            f"{rejected} of {len(cases(MUTANTS))} mistakes rejected, "
            f"{accepted} of {len(cases(ALTERNATIVES))} right answers accepted"
        )


@pytest.mark.parametrize(("name", "function"), cases(MUTANTS))
def test_a_plausible_mistake_is_wrong_and_the_student_is_told_something_of_use(name, function):
    verdict = judged(function, name)
    assert verdict.state == "wrong", verdict
    assert len(verdict.message) > 20
    assert not [words for words in NO_HELP if words in verdict.message], verdict.message
    if verdict.picture is not None:
        assert verdict.picture().axes


@pytest.mark.parametrize(
    ("name", "sentence", "function"),
    [(name, *case) for name in EXERCISES for case in EXERCISES[name].wrong_functions()],
)
def test_a_mistake_of_the_table_is_explained_by_its_own_sentence(name, sentence, function):
    assert judged(function, name).message == sentence


@pytest.mark.parametrize(("name", "function"), cases(ALTERNATIVES))
def test_a_right_answer_written_another_way_is_right(name, function):
    verdict = judged(function, name)
    assert verdict.state == "right", verdict


@pytest.mark.parametrize("name", EXERCISES)
def test_the_library_s_own_answer_is_right(name):
    assert course.judge(EXERCISES[name].stand_in, EXERCISES[name]).state == "right"


@pytest.mark.parametrize("name", EXERCISES)
def test_parts_of_a_check_share_its_points(name):
    """Answers that are wrong throughout earn nothing, and reach every part."""
    definition = EXERCISES[name]

    def reached(function) -> dict:
        attempt = checks.Attempt(function, definition, grading=True)
        definition.examine(attempt)
        return attempt.parts

    def fails(*_, **__):
        raise ValueError

    parts = reached(definition.stand_in)
    assert 2 <= len(parts) <= 5
    assert all(parts.values())
    assert reached(fails) == dict.fromkeys(parts, False)
    for function in (fails, lambda *_, **__: None, lambda *arguments, **_: arguments[0]):
        assert course.earned(function, definition, course.judge(function, definition)) == 0


@pytest.mark.parametrize("name", EXERCISES)
def test_a_blank_is_blank(name):
    def blank(*args, **kwargs):
        raise NotImplementedError

    assert course.judge(blank, EXERCISES[name]).state == "blank"


@cache
def solution_cells(tree: str) -> dict[str, tuple[list[str], str]]:
    """For each exercise of a tree: the sources of the code cells before its own, and its own."""
    found = {}
    for path in sorted((ROOT / tree).glob("*.ipynb")):
        before = []
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code":
                continue
            if cell.metadata.get("nbgrader", {}).get("solution"):
                found[cell.metadata.nbgrader.grade_id] = (list(before), cell.source)
            before.append(cell.source)
    return found


def definitions(sources: list[str]) -> str:
    """The imports, functions and plain constants of some cells, without running anything else."""
    kept = []
    for node in (node for source in sources for node in ast.parse(source).body):
        constant = isinstance(node, ast.Assign) and not any(
            isinstance(part, ast.Call | ast.Name) and part not in node.targets
            for part in ast.walk(node)
        )
        imports = isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
        if constant or imports:
            kept.append(ast.unparse(node))
    return "\n".join(kept)


def in_notebook(tree: str, name: str) -> course.Exercise:
    before, source = solution_cells(tree)[name]
    space = {"exercise": course.exercise, "check": course.check}
    exec(definitions(before), space)
    exec(compile(source, f"<{tree}: {name}>", "exec"), space)
    return space[name]


def test_both_trees_ask_for_the_same_exercises_and_every_one_is_asked_for_or_shown():
    asked = set(solution_cells("solutions"))
    assert asked == set(solution_cells("notebooks"))
    assert asked <= set(EXERCISES)
    for name in set(EXERCISES) - asked:  # notebook 00 shows what a check says, and asks nothing
        [path] = (ROOT / "notebooks").glob(f"{EXERCISES[name].notebook}_*.ipynb")
        assert f"def {name}(" in path.read_text()


@pytest.mark.parametrize("name", solution_cells("solutions"))
def test_the_solution_is_right_and_the_stub_is_blank(name):
    solution, stub = in_notebook("solutions", name), in_notebook("notebooks", name)
    assert solution.judge().state == "right", solution.verdict
    assert stub.judge().state == "blank", stub.verdict
    assert stub.__doc__ == solution.__doc__
    assert stub.__doc__, "the docstring is all that a student gets"
