"""What judges an exercise: the library's answer, a check that catches wrong ones, and mistakes.

A check module (`nb03_lighting/checks.py`) registers its exercises by the name of the function:

    @exercise_check(
        stand_in=lighting.shade,
        mistakes={
            "This is the light alone. Eq. 3 multiplies it by the albedo.": (
                lambda albedo, normals, light: lighting.sh_basis(normals) @ light
            ),
        },
        axes=("face", "vertex", "colour"),
    )
    def shade(attempt):
        attempt.case("shade under ambient light", (albedo, normals, ambient), expected=albedo)
        for batch, vertices in ((1, 40), (9, 9)):
            attempt.case(f"shade of {batch} faces", _scene(batch, vertices))
        attempt.gradients("shade", {"albedo": albedo, "normals": normals}, light)
        return "one light, and a batch of lights"

To add an exercise:

1. Write its stub and its solution in the notebook, with `@exercise` and `check(name)`.
2. Write the check. `attempt(...)` is the student's answer to copies of the arguments,
   `attempt.case` compares it with the library's or with `expected`. A check raises `Wrong` or
   returns; a string that it returns is told to the student. Judge small cases with known numbers
   first, then batches of several sizes, float64, and gradients.
3. Write the mistakes that students make as functions, each under the sentence that explains it.
   When the check raises, the student's answers so far are compared with what these return for
   the same arguments, and the student reads the sentence of the first that agrees. Functions that
   deserve one sentence stand in a tuple. Where two mistakes give the same answers until the check
   raises, choose cases that tell them apart. A function that changes its arguments is called by
   `attempt.through`, which makes them anew for each mistake.
4. Write in tests/course/mutants/notebook_NN.py what else may go wrong (MUTANTS, which the check
   need not name) and right answers written another way (ALTERNATIVES). The tests judge both, and
   see to it that every mistake of the table gets its own sentence.
"""

import copy
import importlib
import inspect
import linecache
import pkgutil
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from facerecon_lib import course

from .compare import Wrong, close, normal, reproduces, same, same_gradient

Mistakes = dict[str, Callable | tuple[Callable, ...]]


@dataclass(frozen=True)
class ExerciseCheck:
    """One exercise: its name, the notebook it belongs to, who stands in, and what judges it.

    mistakes: wrong functions by the sentence that explains them. compared: of an answer, what of it
    is compared with theirs. options: of `close`, for every case of the check.
    """

    name: str
    notebook: str
    stand_in: Callable
    examine: Callable[["Attempt"], str | None]
    mistakes: Mistakes = field(default_factory=dict)
    compared: Callable = lambda answer: answer
    options: dict = field(default_factory=dict)

    def wrong_functions(self) -> list[tuple[str, Callable]]:
        """The table, one (sentence, function) per function."""
        return [
            (sentence, function)
            for sentence, functions in self.mistakes.items()
            for function in (functions if isinstance(functions, tuple) else (functions,))
        ]

    def remark(self, attempt: "Attempt") -> str:
        """Run the check; raises `Wrong` with the table's sentence for a mistake that it knows."""
        try:
            return self.examine(attempt) or ""
        except (Blank, Raised):
            raise
        except Exception as error:
            sentence = self._explain(attempt.calls)
            if sentence is None:
                raise
            raise Wrong(sentence, getattr(error, "picture", None)) from None

    def _explain(self, calls: list[tuple[Callable, object]]) -> str | None:
        """The sentence of the first mistake that gives the student's answers, if one does.

        calls: (ask, answer) of all calls as in `Attempt`, of which the last answer is wrong.
        """
        try:
            *earlier, (ask, got) = [(ask, self.compared(answer)) for ask, answer in calls]
            right = self.compared(ask(self.stand_in))
        except Exception:  # no call, or an answer that has not the parts that are compared
            return None
        for sentence, function in self.wrong_functions():
            try:
                if reproduces(got, self.compared(ask(function)), right) and all(
                    same(one, self.compared(before(function))) for before, one in earlier
                ):
                    return sentence
            except Exception:  # a mistake that breaks on these arguments is not this one
                continue
        return None


class Attempt:
    """A student's function under judgement: called on copies of its arguments, and compared.

    calls: (ask, answer) of every call, for the mistake to be named: ask(function) calls any
    function in the same way.
    """

    def __init__(self, student: Callable, definition: ExerciseCheck):
        self.student, self.stand_in = student, definition.stand_in
        self.options = definition.options
        self.calls: list[tuple[Callable, object]] = []

    def __call__(self, *args, **kwargs):
        return self.through(lambda function: _answer(function, (args, kwargs)))

    def through(self, ask: Callable[[Callable], object]) -> object:
        """ask(student); the mistakes are asked in the same way. ask makes the arguments itself."""
        try:
            answer = ask(self.student)
        except Wrong:
            raise
        except (Exception, SystemExit) as error:
            own = _lines(error)[-1][0] in _own_codes(self.student)
            if own and isinstance(error, NotImplementedError):
                raise Blank from None
            raise Raised(_own_line(error, self.student)) from None
        self.calls.append((ask, answer))
        return answer

    def case(self, what: str, inputs: tuple, hint=None, *, expected=None, **options) -> None:
        """Raise `Wrong` unless the answer to inputs is the library's, or `expected`.

        what: the call in words. hint: a sentence to add when values differ. options: of `close`,
        in place of the exercise's.
        """
        got = self(*inputs)
        right = self.stand_in(*inputs) if expected is None else expected
        self.close(what, got, right, hint=hint, **options)

    def close(self, what: str, got: object, expected: object, **options) -> None:
        """`compare.close` with the exercise's options."""
        close(what, got, expected, **self.options | options)

    def gradients(
        self,
        what: str,
        inputs: dict[str, Tensor],
        *more: object,
        call: Callable = lambda function, *arguments: function(*arguments),
        **tolerance: float,
    ) -> None:
        """Raise `Wrong` unless a randomly weighted sum of the answer has the library's gradients.

        inputs: the arguments, by name, that need a gradient; then those that do not. call: how a
        function is called with them, and which tensor of its answer is looked at.
        """
        tensors = inputs.values()
        mine, ours = ([x.detach().clone().requires_grad_() for x in tensors] for _ in range(2))
        got, expected = call(self, *mine, *more), call(self.stand_in, *ours, *more)
        close(what, got, expected, atol=1e-3, rtol=1e-3)
        weights = normal(*expected.shape, seed=0).to(expected)
        what = f"a weighted sum of {what}" if weights.ndim else what
        leaves = dict(zip(inputs, zip(mine, ours, strict=True), strict=True))
        same_gradient(what, (got * weights).sum(), (expected * weights).sum(), leaves, **tolerance)

    def instead_of_raising(self, error: type[Exception], *inputs: object) -> str:
        """What the function did where it should have raised error; "" where it raised it."""
        try:
            return f"returned {self(*inputs)}"
        except Raised as raised:
            return "" if error.__name__ in str(raised) else "raised another error"


class Blank(Exception):
    """The student's function still raises its own NotImplementedError."""


class Raised(Exception):
    """What the student's function raised, in words for the student."""


def _answer(function: Callable, arguments: tuple) -> object:
    """The function's answer to copies of (positional, named) arguments."""
    args, kwargs = _copied(arguments)
    answer = function(*args, **kwargs)
    return list(answer) if isinstance(answer, types.GeneratorType) else answer


def _copied(value):
    """The value with its tensors, arrays, lists and dicts copied; gradients flow through."""
    if isinstance(value, Tensor):
        return value.clone() if value.requires_grad else value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) in (list, tuple):
        return type(value)(_copied(v) for v in value)
    if type(value) is dict:
        return {k: _copied(v) for k, v in value.items()}
    return copy.copy(value) if hasattr(value, "__dataclass_fields__") else value


def _own_codes(student: Callable) -> set[types.CodeType]:
    """The student's function and those inside it, as code."""
    codes = [getattr(inspect.unwrap(student), "__code__", None)]
    for code in codes:
        codes += [part for part in getattr(code, "co_consts", ()) if inspect.iscode(part)]
    return set(codes)


def _lines(error: BaseException) -> list[tuple[types.CodeType, int]]:
    """The code and the line of each frame that the error passed, innermost last."""
    return [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]


def _own_line(error: BaseException, student: Callable) -> str:
    """The student's own line that failed, and the error, in one sentence each."""
    files = {code.co_filename for code in _own_codes(student) if code}
    message = traceback.format_exception_only(error)[-1].strip()
    own = [(code.co_filename, n) for code, n in _lines(error) if code.co_filename in files]
    if not own:
        return f"{student.__name__} could not be called: {message}"
    text = linecache.getline(*own[-1]).strip()
    return f"Your code stopped at line {own[-1][1]} of its cell:\n    {text}\n{message}"


_REGISTERED: dict[str, ExerciseCheck] = {}


def exercise_check(
    stand_in: Callable,
    mistakes: Mistakes | None = None,
    compared: Callable = lambda answer: answer,
    **options,
) -> Callable:
    """Register the function below as the check of the exercise that carries its name.

    stand_in: the library's answer, used in the notebook until the student's passes. mistakes,
    compared and options: see `ExerciseCheck`. Raises ValueError when two exercises share a name,
    since notebooks name their functions alone.
    """

    def register(examine: Callable) -> Callable:
        name = examine.__name__
        notebook = examine.__module__.rpartition(".nb")[2][:2]
        other = _REGISTERED.get(name)
        if other is not None and other.notebook != notebook:
            raise ValueError(f"exercise {name!r} is in notebook {other.notebook} already")
        _REGISTERED[name] = ExerciseCheck(
            name, notebook, stand_in, examine, mistakes or {}, compared, options
        )
        return examine

    return register


def exercises() -> dict[str, ExerciseCheck]:
    """All exercises by name, in the order of the course."""
    for module in pkgutil.iter_modules(course.__path__):
        if module.name.startswith("nb"):
            importlib.import_module(f"{course.__name__}.{module.name}.checks")
    return dict(sorted(_REGISTERED.items(), key=lambda item: item[1].notebook))


def find(name: str) -> ExerciseCheck:
    """The exercise of that name; raises LookupError, naming those that there are."""
    names = exercises()
    if name not in names:
        raise LookupError(
            f"no exercise is called {name!r}: keep the name that the notebook gave the function. "
            f"There are: {', '.join(names)}"
        )
    return names[name]
