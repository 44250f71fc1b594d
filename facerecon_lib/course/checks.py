"""What judges an exercise: the library's answer, a check that catches wrong ones, and mistakes.

A check module (`nb03_lighting/checks.py`) registers its exercises by the name of the function:

    def _light_alone(albedo, normals, light):
        return lighting.sh_basis(normals) @ light

    @exercise_check(
        stand_in=lighting.shade,
        mistakes={"This is the light alone. Eq. 3 multiplies it by the albedo.": _light_alone},
    )
    def shade(attempt):
        for batch, vertices in ((1, 40), (9, 9)):
            agree(f"shade of {batch} faces", attempt, *_scene(batch, vertices))
        return "one light, and a batch of lights"

To add an exercise:

1. Write its stub and its solution in the notebook, with `@exercise` and `check(name)`.
2. Write the check. `attempt` calls the student's own function on copies of the arguments;
   `attempt.stand_in` is the library's. A check raises `Wrong` (most often through `agree` or
   `close`) or returns; a string that it returns is told to the student. Judge small cases with
   known numbers first, then batches of several sizes, float64, and gradients (`same_gradients`).
3. Write the mistakes that students make as functions, each under the sentence that explains it.
   When the check raises, the student's answers so far are compared with what these return for
   the same arguments, and the student reads the sentence of the first that agrees. Functions that
   deserve one sentence stand in a tuple. Where two mistakes give the same answers until the check
   raises, choose cases that tell them apart.
4. Write in tests/course/mutants/notebook_NN.py what else may go wrong (MUTANTS, which the check
   need not name) and right answers written another way (ALTERNATIVES). The tests judge both, and
   see to it that every mistake of the table gets its own sentence.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from facerecon_lib import course

from .compare import reproduces, same

Mistakes = dict[str, Callable | tuple[Callable, ...]]


@dataclass(frozen=True)
class ExerciseCheck:
    """One exercise: its name, the notebook it belongs to, who stands in, and what judges it.

    mistakes: wrong functions by the sentence that explains them. compared: of an answer, what of it
    is compared with theirs; the answer itself unless it says otherwise.
    """

    name: str
    notebook: str
    stand_in: Callable
    examine: Callable[[Callable], str | None]
    mistakes: Mistakes = field(default_factory=dict)
    compared: Callable = lambda answer: answer

    def wrong_functions(self) -> list[tuple[str, Callable]]:
        """The table, one (sentence, function) per function."""
        return [
            (sentence, function)
            for sentence, functions in self.mistakes.items()
            for function in (functions if isinstance(functions, tuple) else (functions,))
        ]

    def explain(self, calls: list[tuple[object, object]], run: Callable) -> str | None:
        """The sentence of the first mistake that gives the student's answers, if one does.

        calls: (arguments, answer) of all calls, of which the last answer is wrong. run: calls a
        function on copies of arguments.
        """
        if not self.mistakes or not calls:
            return None

        def answer(function: Callable, arguments: object) -> object:
            return self.compared(run(function, arguments))

        *earlier, (arguments, got) = calls
        try:
            got, right = self.compared(got), answer(self.stand_in, arguments)
        except Exception:  # an answer that has not the parts that are compared
            return None
        for sentence, function in self.wrong_functions():
            try:
                if reproduces(got, answer(function, arguments), right) and all(
                    same(self.compared(said), answer(function, before)) for before, said in earlier
                ):
                    return sentence
            except Exception:  # a mistake that breaks on these arguments is not this one
                continue
        return None


_REGISTERED: dict[str, ExerciseCheck] = {}


def exercise_check(
    stand_in: Callable, mistakes: Mistakes | None = None, compared: Callable = lambda answer: answer
) -> Callable:
    """Register the function below as the check of the exercise that carries its name.

    stand_in: the library's answer, used in the notebook until the student's passes. mistakes and
    compared: see `ExerciseCheck`. Raises ValueError when two exercises share a name, since
    notebooks name their functions alone.
    """

    def register(examine: Callable) -> Callable:
        name = examine.__name__
        notebook = examine.__module__.rpartition(".nb")[2][:2]
        known = _REGISTERED.get(name)
        if known is not None and known.notebook != notebook:
            raise ValueError(f"exercise {name!r} is in notebook {known.notebook} already")
        _REGISTERED[name] = ExerciseCheck(
            name, notebook, stand_in, examine, mistakes or {}, compared
        )
        return examine

    return register


@cache
def _load_all() -> None:
    for module in pkgutil.iter_modules(course.__path__):
        if module.name.startswith("nb"):
            importlib.import_module(f"{course.__name__}.{module.name}.checks")


def exercises() -> dict[str, ExerciseCheck]:
    """All exercises by name, in the order of the course."""
    _load_all()
    return dict(sorted(_REGISTERED.items(), key=lambda item: item[1].notebook))


def find(name: str) -> ExerciseCheck:
    """The exercise of that name; raises LookupError, naming those that there are."""
    known = exercises()
    if name not in known:
        raise LookupError(
            f"no exercise is called {name!r}: keep the name that the notebook gave the function. "
            f"There are: {', '.join(known)}"
        )
    return known[name]
