"""What every notebook runs on: set-up, exercises that never block, checks, and sizes.

    setup("03")                               # the first code cell
    @exercise
    def sh_basis(normals): ...                # the student's; the library's stands in while blank
    check(sh_basis)                           # not attempted, wrong (and where), or right

An exercise's function is called as any other. Once it passes its check the student's is used; until
then the library's version answers, so a notebook always runs from top to bottom. It gets copies of
its arguments, so that a function that changes them spoils nothing.
"""

import contextlib
import functools
import html
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .. import __version__
from . import checks
from .checks import Attempt, Blank, Raised
from .compare import Wrong
from .record import remember, summary

# Sizes ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Profile:
    """How large everything in the notebooks is, in one place.

    device: where tensors live. faces: random faces in an experiment. repeats: of a timing.
    fit_steps: of the landmark, coarse and fine stage of a fit.
    """

    name: str
    about: str
    device: str
    faces: int
    repeats: int
    fit_steps: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.name} ({self.about}), on {self.device}"


def profile(name: str | None = None) -> Profile:
    """The sizes of `name`, else of the environment's FACERECON_PROFILE, else of this machine.

    "smoke": seconds on a CPU. "colab": one free GPU, under an hour for the whole course. "full":
    the report's. Without a choice: "smoke", or "colab" where there is a CUDA device.
    Raises ValueError for another name.
    """
    gpu = "cuda" if torch.cuda.is_available() else "cpu"
    default = "colab" if gpu == "cuda" else "smoke"
    name = name or os.environ.get("FACERECON_PROFILE") or default
    sizes = {
        "smoke": ("seconds on a CPU", "cpu", 12, 3, (150, 90, 60)),
        "colab": ("one GPU, under an hour", gpu, 100, 10, (200, 120, 90)),
        "full": ("the report's sizes", gpu, 1000, 20, (200, 120, 90)),
    }
    if name not in sizes:
        raise ValueError(f"FACERECON_PROFILE: expected one of {', '.join(sizes)}, got {name!r}")
    return Profile(name, *sizes[name])


OWN_FILES = (
    *("FACERECON_MODEL", "FACERECON_ENCODER", "FACERECON_UNET"),
    *("FACERECON_LEARNED_MODEL", "FACERECON_NONLINEAR", "FACERECON_DEPTH"),
)
"""Variables that put a file of one's own in the place of one that ships."""


def setup(notebook: str = "") -> None:
    """Make a notebook ready: pictures inline, one look for figures, one torch thread; say so.

    notebook: its number ("03"), of whose exercises it says how many are right. Files that take the
    place of shipped ones are named, since the text is about the shipped ones.
    """
    torch.set_num_threads(1)  # tensors are small: threads stall each other on a busy machine
    torch.manual_seed(0)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")  # the font cache of a first run announces itself
        import matplotlib.pyplot as plt
    if _shell() is not None:
        _shell().run_line_magic("matplotlib", "inline")
    plt.rcParams.update(
        {
            "figure.dpi": 90,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.titlesize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "image.interpolation": "antialiased",
        }
    )
    lines = [f"facerecon_lib {__version__} · profile {profile()}"]
    paths = {name: os.environ.get(name) for name in OWN_FILES}
    own = ", ".join(f"${name}: {os.path.basename(path)}" for name, path in paths.items() if path)
    if own:
        lines.append(f"{own}; numbers in the text, and stored results, are of the files that ship")
    if notebook:
        lines.append(summary(notebook))
    print("\n".join(lines))


SLOW_SECONDS = 6.0  # with an answer as quick as the library's a check takes well under 2

# Exercises ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """state: "right", "wrong" or "blank"; message: for the student, plain text."""

    state: str
    message: str
    printed: str = ""
    picture: Callable | None = None
    slow: str = ""


class Exercise:
    """A student's function that the library stands in for until it passes its check.

    `.student` is the function as written, `.verdict` the last judgement.
    """

    def __init__(self, student: Callable):
        functools.update_wrapper(self, student)
        self.student = student
        self.definition = checks.find(student.__name__)
        self.verdict: Verdict | None = None
        self._judging = False
        self._told_in: object = None

    def __call__(self, *args, **kwargs):
        if self.verdict is None and not self._judging:
            self.judge()
        # while it is judged it may call itself, or be passed on
        if self._judging or self.verdict.state == "right":
            args, kwargs = checks.copied((args, kwargs))
            return self.student(*args, **kwargs)
        if self.verdict.state == "wrong":
            self._tell()
        return self.definition.stand_in(*args, **kwargs)

    def __repr__(self) -> str:
        state = "unchecked" if self.verdict is None else self.verdict.state
        return f"<exercise {self.__name__}: {state}>"

    def judge(self) -> Verdict:
        """Run the check on the student's function, quietly, and remember its verdict."""
        self._judging = True
        try:
            self.verdict = judge(self.student, self.definition)
        finally:
            self._judging = False
        return self.verdict

    def _tell(self) -> None:
        """Say, once per cell, that the library answers for a wrong function."""
        cell = getattr(_shell(), "execution_count", None)
        if cell is None or cell != self._told_in:
            self._told_in = cell
            print(
                f"{self.__name__}: yours does not pass its check yet, so the library's answers "
                f"here. Yours alone: {self.__name__}.student(...)"
            )


def exercise(student: Callable) -> Exercise:
    """Mark a function as the answer to the exercise of its name.

    Raises LookupError when no exercise is called so.
    """
    return student if isinstance(student, Exercise) else Exercise(student)


def judge(student: Callable, definition: checks.ExerciseCheck) -> Verdict:
    """What the exercise's check says of a function. Never raises, prints or warns.

    The function gets copies of its arguments, and random numbers that start alike; those of the
    notebook are left as they are.
    """
    printed, picture, attempt = io.StringIO(), None, Attempt(student, definition)
    try:
        with _apart(printed):
            start = time.perf_counter()
            remark = definition.remark(attempt)
            slow = _slow(time.perf_counter() - start, definition)
        return Verdict("right", remark, printed.getvalue(), slow=slow)
    except Blank:
        return Verdict(
            "blank",
            "not attempted yet (it still raises NotImplementedError). The library's version "
            "stands in, so everything below works. Write yours, run its cell, then this one again.",
        )
    except (Wrong, Raised) as wrong:
        message, picture = str(wrong), getattr(wrong, "picture", None)
    except Exception as error:  # an answer so odd that the check itself tripped over it
        message = f"What it returned could not be compared: {type(error).__name__}: {error}"
        message += f"\nThe trial: {attempt.last}" if attempt.last else ""
    return Verdict("wrong", message, printed.getvalue(), picture)


@contextlib.contextmanager
def _apart(printed: io.StringIO) -> Iterator[None]:
    """Nothing of what is done inside is shown, or changes what random numbers come after it."""
    figures, numpy_state = _open_figures(), np.random.get_state()  # noqa: NPY002, students may
    try:
        with (
            torch.random.fork_rng(),
            torch.inference_mode(False),
            torch.enable_grad(),  # the first call may stand under no_grad
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            np.random.seed(0)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        for number in _open_figures() - figures:
            sys.modules["matplotlib.pyplot"].close(number)


def earned(student: Callable, definition: checks.ExerciseCheck, verdict: Verdict) -> float:
    """Points for an answer: all, none, or the share of the check's parts that are right.

    An answer that the check calls wrong misses one part at least.
    """
    if verdict.state != "wrong":
        return definition.points * float(verdict.state == "right")
    passed = []
    for function in (student, definition.stand_in):
        attempt = Attempt(function, definition, grading=True)
        with _apart(io.StringIO()), contextlib.suppress(Exception):
            definition.examine(attempt)
        passed.append(sum(attempt.parts.values()))
    mine, parts = passed
    return round(definition.points * min(mine, parts - 1) / parts, 2) if parts else 0.0


def _slow(seconds: float, definition: checks.ExerciseCheck) -> str:
    """A word for a right answer that will hold up the rest of the notebook."""
    if seconds < SLOW_SECONDS:
        return ""
    start = time.perf_counter()
    definition.examine(Attempt(definition.stand_in, definition))
    ours = time.perf_counter() - start
    if seconds < 10 * ours:
        return ""
    return (
        f"It is {seconds / ours:.0f} times slower than the library's, so cells below will take "
        "longer: most often a Python loop over vertices or pixels is why."
    )


def _open_figures() -> set[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set(pyplot.get_fignums()) if pyplot else set()


# Showing --------------------------------------------------------------------------------------

MARKS = {"right": ("✓", "#1a7f37"), "wrong": ("✗", "#cf222e"), "blank": ("○", "#9a6700")}


def check(function: Exercise | Callable) -> float | None:
    """Judge an exercise, show the verdict, and remember it for `progress`.

    While nbgrader grades (NBGRADER_EXECUTION is autograde) it prints what is wrong and returns the
    points earned, which nbgrader takes for the mark; while it validates, a wrong answer raises
    AssertionError. Raises TypeError unless it is a function.
    """
    if not callable(function) or not hasattr(function, "__name__"):
        raise TypeError(f"check: expected the function itself, as in check(f), got {function!r}")
    wrapped = exercise(function)
    verdict, name = wrapped.judge(), wrapped.__name__
    match os.environ.get("NBGRADER_EXECUTION"):
        case "autograde":
            points = earned(wrapped.student, wrapped.definition, verdict)
            mark = f"{points:g} of {wrapped.definition.points} points"
            print(f"{name}: {verdict.state}, {mark}. {verdict.message}")
            return points
        case "validate" if verdict.state != "right":
            raise AssertionError(f"{name}: {verdict.message}")
        case None:
            show_verdict(name, verdict)
            if _shell() is not None:
                remember(name, verdict.state == "right")
    return None


def show_verdict(name: str, verdict: Verdict) -> None:
    """Print the verdict, in colour in a notebook; then what the function printed, and a picture."""
    mark, colour = MARKS[verdict.state]
    text = verdict.message
    if verdict.state == "right":
        text = f"right{f': {text}' if text else ''}. Yours is used below."
        text += f"\n{verdict.slow}" if verdict.slow else ""
    elif verdict.state == "wrong":
        text = f"not right yet. {text}\nUntil it passes, the library's version is used below."
        if verdict.printed.strip():
            text += f"\nYour function printed:\n{verdict.printed.rstrip()[:2000]}"
    text = f"{mark} {name}: {text}"
    if _shell() is None:
        print(text)
        return
    from IPython.display import display

    display({"text/plain": text, "text/html": _boxed(text, colour)}, raw=True)
    if verdict.picture is not None and verdict.state == "wrong":
        display(verdict.picture())


def _boxed(text: str, colour: str) -> str:
    style = f"border-left: 4px solid {colour}; padding: 4px 12px; white-space: pre-wrap"
    return f'<div style="{style}">{html.escape(text)}</div>'


def _shell():
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None
