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
        points=2,
    )
    def shade(attempt):
        with attempt.part("by hand"):
            attempt.case("shade under ambient light", (albedo, normals, ambient), expected=albedo)
        with attempt.part("batches"):
            for batch, vertices in ((1, 40), (9, 9)):
                attempt.case(f"shade of {batch} faces", _scene(batch, vertices))
        with attempt.part("gradients"):
            attempt.gradients("shade", {"albedo": albedo, "normals": normals}, light)
        return "one light, and a batch of lights"

To add an exercise:

1. Write its stub and its solution in the notebook, with `@exercise` and `check(name)`.
2. Write the check. `attempt.case` compares the student's answer to copies of the arguments with
   the library's or with `expected`; `attempt.trial(what)(...)` is that answer. A check raises
   `Wrong` or returns; a string that it returns is told to the student. Judge small cases with known
   numbers first, then the notebook's own magnitudes, the edge of every argument, inputs that are
   not contiguous, float64 where the docstring promises the dtype, and gradients, also where the
   answer is empty, full or exact. Two to five parts, each of which judges values, share the points.
3. Write the mistakes that students make as functions, each under the sentence that explains it.
   When the check raises, the student's answers so far are compared with what these return for
   the same arguments, and the student reads the sentence of the first that agrees, there and on a
   second input (`second_input`). Functions that deserve one sentence stand in a tuple. Where two
   mistakes give the same answers until the check raises, choose cases that tell them apart. A
   function that changes its arguments is called by `attempt.through`, which makes them anew for
   each mistake.
4. Write in tests/course/mutants/notebook_NN.py what else may go wrong (MUTANTS, which the check
   need not name) and right answers written another way (ALTERNATIVES). The tests judge both, and
   see to it that every mistake of the table gets its own sentence.
"""

import contextlib
import copy
import importlib
import inspect
import io
import linecache
import pkgutil
import re
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facerecon_lib import course

from ..face.morphable_model import MorphableModel
from .compare import Wrong, close, normal, reproduces, same, same_gradient, uniform

Mistakes = dict[str, Callable | tuple[Callable, ...]]


@dataclass(frozen=True)
class ExerciseCheck:
    """One exercise: its name, the notebook it belongs to, who stands in, and what judges it.

    mistakes: wrong functions by the sentence that explains them. compared: of an answer, what of it
    is compared with theirs. options: of `close`, for every case of the check. points: under
    nbgrader, for all parts. challenge: the one hard exercise of a notebook, outside of its count.
    """

    name: str
    notebook: str
    stand_in: Callable
    examine: Callable[["Attempt"], str | None]
    mistakes: Mistakes = field(default_factory=dict)
    compared: Callable = lambda answer: answer
    options: dict = field(default_factory=dict)
    points: int = 1
    challenge: bool = False

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
            remark = self.examine(attempt)
            attempt.repeat()
            return remark or ""
        except (Blank, Raised):
            raise
        except Exception as error:
            sentence = self._explain(attempt.calls)
            if sentence is None:
                raise
            raise Wrong(sentence, getattr(error, "picture", None)) from None

    def _explain(self, calls: list["Call"]) -> str | None:
        """The sentence of the first mistake that gives the student's answers, if one does.

        calls: of which the last answer is wrong. It has to be the mistake's on a second input too.
        """
        try:
            *earlier, (ask, got) = [(call.ask, self.compared(call.answer)) for call in calls]
            right = self.compared(ask(self.stand_in))
        except Exception:  # no call, or an answer that has not the parts that are compared
            return None
        for sentence, function in self.wrong_functions():
            try:
                if (
                    reproduces(got, self.compared(ask(function)), right)
                    and all(same(one, self.compared(before(function))) for before, one in earlier)
                    and _confirms(*map(self.compared, calls[-1].second(function, self.stand_in)))
                ):
                    return sentence
            except Exception:  # a mistake that breaks on these arguments is not this one
                continue
        return None


def _confirms(got: object, wrong: object, right: object) -> bool:
    """Whether got is the mistaken answer wrong, which may happen to be right."""
    return reproduces(got, wrong, right) or (same(got, wrong) and same(wrong, right))


@dataclass(frozen=True)
class Call:
    """A call of the student's function, in words: ask(function) calls any in the same way.

    again: the same on a second input, of which nothing that is printed is shown. copy: of the
    answer, made at once.
    """

    what: str
    ask: Callable[[Callable], object]
    again: Callable[[Callable], object]
    student: Callable
    answer: object
    copy: object

    def second(self, *functions: Callable) -> list[object]:
        """The second answers of the student's function and of others."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return [self.again(function) for function in (self.student, *functions)]


class Attempt:
    """A student's function under judgement: called on copies of its arguments, and compared.

    calls: all calls so far, for a mistake to be named. last: the trial of the last, in words.
    parts: whether each part so far was right. grading: a wrong part ends itself, not the check.
    """

    def __init__(self, student: Callable, definition: ExerciseCheck, grading: bool = False):
        self.student, self.stand_in = student, definition.stand_in
        self.options, self.compared = definition.options, definition.compared
        self.calls: list[Call] = []
        self.last = ""
        self.parts: dict[str, bool] = {}
        self.grading = grading

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """`with attempt.part("by hand"):` trials that earn a share of the points together.

        Nothing that is made in one part may be used in another.
        """
        self.parts[name] = False
        try:
            yield
        except Blank:
            raise
        except Exception:
            if not self.grading:
                raise
        else:
            self.parts[name] = True

    def __call__(self, *args, **kwargs):
        return self.trial("")(*args, **kwargs)

    def trial(self, what: str) -> Callable:
        """The student's function; should it raise, the student reads what, the call in words."""

        def call(*args, **kwargs):
            return self.through(
                lambda function: _answer(function, (args, kwargs)),
                what or f"{self.student.__name__}({_in_words(args, kwargs)})",
                lambda function: _answer(function, second_input((args, kwargs))),
            )

        return call

    def through(
        self,
        ask: Callable[[Callable], object],
        what: str = "",
        again: Callable[[Callable], object] | None = None,
    ) -> object:
        """ask(student); the mistakes are asked in the same way. ask makes the arguments itself.

        what: the call in words. again: asks on a second input, on which a mistake has to hold too.
        """
        self.last, settings = what, _settings()
        try:
            answer = ask(self.student)
            if _settings() != settings:
                raise Wrong(
                    "It leaves torch changed for every cell below: gradients are switched off or "
                    "on, or the default dtype is another. Write `with torch.no_grad():` around the "
                    "lines that need it, and give new tensors their dtype."
                )
        except Wrong:
            raise
        except (Exception, SystemExit) as error:
            own = _lines(error)[-1][0] in _own_codes(self.student)
            if own and isinstance(error, NotImplementedError):
                raise Blank from None
            trial = f"\nThe trial: {what.rstrip(',')}" if what else ""
            raise Raised(_own_line(error, self.student) + trial) from None
        finally:
            torch.set_grad_enabled(settings[0])
            torch.set_default_dtype(settings[1])
        self.calls.append(Call(what, ask, again or ask, self.student, answer, copied(answer)))
        return answer

    def repeat(self) -> None:
        """Raise `Wrong` if an answer changed since it was given, or is another when asked again."""
        for call in self.calls:
            if not same(self.compared(call.answer), self.compared(call.copy)):
                raise Wrong(
                    f"{call.what}: the answer was right, and changed when the function was called "
                    "again. Make a new tensor in each call."
                )
        for call in self.calls[:1]:
            self.last = f"{call.what}, asked again"
            if not same(self.compared(call.ask(self.student)), self.compared(call.copy)):
                raise Wrong(
                    f"{call.what}: asked again, the function gives another answer. Does it keep "
                    "something from call to call, in a global or a default argument?"
                )

    def case(self, what: str, inputs: tuple, hint=None, *, expected=None, **options) -> None:
        """Raise `Wrong` unless the answer to inputs is the library's, or `expected`.

        what: the call in words. hint: a sentence to add when values differ. options: of `close`,
        in place of the exercise's.
        """
        got = self.trial(what)(*inputs)
        right = self.stand_in(*inputs) if expected is None else expected
        options["again"] = partial(self.calls[-1].second, self.stand_in)
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
        got, expected = call(self.trial(what), *mine, *more), call(self.stand_in, *ours, *more)
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


def _settings() -> tuple[bool, torch.dtype]:
    return torch.is_grad_enabled(), torch.get_default_dtype()


def _answer(function: Callable, arguments: tuple) -> object:
    """The function's answer to copies of (positional, named) arguments."""
    args, kwargs = copied(arguments)
    answer = function(*args, **kwargs)
    return list(answer) if isinstance(answer, types.GeneratorType) else answer


def _cloned(value: object) -> object:
    if isinstance(value, Tensor):
        return value.clone()
    return value.copy() if isinstance(value, np.ndarray) else value


def copied(value, leaf: Callable[[object], object] = _cloned):
    """The value with the tensors and arrays in it copied; gradients flow through to the originals.

    It reaches into lists, tuples, dicts and dataclasses; networks and face models stay themselves.
    leaf: what is done instead with everything else.
    """
    if isinstance(value, nn.Module | MorphableModel):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(copied(v, leaf) for v in value))
    if type(value) in (list, tuple):
        return type(value)(copied(v, leaf) for v in value)
    if type(value) is dict:
        return {k: copied(v, leaf) for k, v in value.items()}
    if hasattr(value, "__dataclass_fields__") or isinstance(value, types.SimpleNamespace):
        fresh = copy.copy(value)
        vars(fresh).update({k: copied(v, leaf) for k, v in vars(value).items()})
        return fresh
    return leaf(value)


def second_input(arguments: tuple) -> tuple:
    """Arguments of the same kind: each number is another, whole ones stay, and so do unit vectors.

    Numbers become 0.8 to 1 times what they are, so that shares and colours stay what they may be.
    """

    def changed(value: object) -> object:
        if isinstance(value, float):
            return 0.9 * value
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            return changed(torch.from_numpy(value)).numpy()
        if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
            return _cloned(value)
        value = value.detach()
        other = value * (0.8 + 0.2 * uniform(*value.shape, seed=value.numel())).to(value)
        unit = value.ndim > 1 and torch.allclose(value.norm(dim=-1), value.new_ones(()))
        return F.normalize(other, dim=-1) if unit else other

    return copied(arguments, changed)


def _in_words(args: tuple, kwargs: dict) -> str:
    """The arguments of a call: "a tensor (3, 4), 0.5, modes=2"."""

    def words(value: object) -> str:
        if isinstance(value, Tensor):
            return f"a tensor {tuple(value.shape)}" if value.ndim else f"{float(value):.4g}"
        return repr(value) if isinstance(value, bool | int | float | str) else type(value).__name__

    return ", ".join([*map(words, args), *(f"{k}={words(v)}" for k, v in kwargs.items())])


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
    if "could not infer output dtype" in message:
        message += "\nA mean needs numbers: .float() makes 1 and 0 of True and False."
    elif re.search("dtype|scalar type|Double", message):
        message += "\nMake new tensors in the dtype of the arguments, as x.new_zeros(...) does."
    return f"Your code stopped at line {own[-1][1]} of its cell:\n    {text}\n{message}"


_REGISTERED: dict[str, ExerciseCheck] = {}


def exercise_check(
    stand_in: Callable,
    mistakes: Mistakes | None = None,
    compared: Callable = lambda answer: answer,
    points: int = 1,
    challenge: bool = False,
    **options,
) -> Callable:
    """Register the function below as the check of the exercise that carries its name.

    stand_in: the library's answer, used in the notebook until the student's passes. The others: see
    `ExerciseCheck`. Raises ValueError when two exercises share a name,
    since notebooks name their functions alone.
    """

    def register(examine: Callable) -> Callable:
        name = examine.__name__
        notebook = examine.__module__.rpartition(".nb")[2][:2]
        other = _REGISTERED.get(name)
        if other is not None and other.notebook != notebook:
            raise ValueError(f"exercise {name!r} is in notebook {other.notebook} already")
        _REGISTERED[name] = ExerciseCheck(
            *(name, notebook, stand_in, examine, mistakes or {}),
            *(compared, options, points, challenge),
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
