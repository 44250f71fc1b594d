"""What judges an exercise: for each, the library's own answer and a check that catches wrong ones.

A check module (`checks/notebook_03.py`) registers its exercises by the name of the function:

    @exercise_check(stand_in=lighting.sh_basis)
    def sh_basis(attempt):
        n = unit_vectors(200)
        close("sh_basis(n)", attempt(n), lighting.sh_basis(n), axes=("normal", "k"))
        return "all nine functions agree at 200 normals"

`attempt` calls the student's own function on copies of the arguments. A check raises `Wrong` (most
often through `compare.close`) or returns; a string that it returns is told to the student.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from .compare import Wrong as Wrong
from .compare import close as close
from .compare import one_number as one_number
from .compare import same_gradient as same_gradient


@dataclass(frozen=True)
class ExerciseCheck:
    """One exercise: its name, the notebook it belongs to, who stands in, and what judges it."""

    name: str
    notebook: str
    stand_in: Callable
    examine: Callable[[Callable], str | None]


_REGISTERED: dict[str, ExerciseCheck] = {}


def exercise_check(stand_in: Callable) -> Callable:
    """Register the function below as the check of the exercise that carries its name.

    stand_in: the library's answer, used in the notebook until the student's passes. Raises
    ValueError when two exercises share a name, since notebooks name their functions alone.
    """

    def register(examine: Callable) -> Callable:
        name = examine.__name__
        notebook = examine.__module__.rpartition("notebook_")[2]
        known = _REGISTERED.get(name)
        if known is not None and known.notebook != notebook:
            raise ValueError(f"exercise {name!r} is in notebook {known.notebook} already")
        _REGISTERED[name] = ExerciseCheck(name, notebook, stand_in, examine)
        return examine

    return register


@cache
def _load_all() -> None:
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("notebook_"):
            importlib.import_module(f"{__name__}.{module.name}")


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
