"""Which exercises are right, in a small file beside the notebooks.

    progress()          # a line per notebook, and the exercise to do next
    summary("03")       # "03: 2 of 5 exercises right; next: shade"

`check` writes it. Nothing leaves the machine. Solved notebooks keep none: the answers are not
yours there.
"""

import json
from pathlib import Path

from ..files.atomic import write_whole
from . import checks

FILE = "progress.json"
SOLVED = "solutions"


def remember(name: str, right: bool, folder: Path | None = None) -> None:
    """Write down that an exercise is right, or no longer; say so where it cannot be written."""
    folder = folder or Path.cwd()
    names = _read(folder)
    if names is None or folder.name == SOLVED or right == (name in names):
        return
    names = names | {name} if right else names - {name}
    order = [known for known in checks.exercises() if known in names]
    try:
        with write_whole(folder / FILE) as partial:
            partial.write_text(json.dumps({"right": order}, indent=1) + "\n", encoding="utf-8")
    except OSError as problem:
        print(f"{FILE} could not be written ({problem.strerror}): progress is not kept")


def _read(folder: Path) -> set[str] | None:
    """The names of the right exercises; None for a file that is not one of ours."""
    try:
        names = json.loads((folder / FILE).read_text(encoding="utf-8"))["right"]
        return {name for name in checks.exercises() if name in names}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError):
        return None


UNREADABLE = f"{FILE} cannot be read, and is left as it is: delete it to keep progress anew"


def _of(notebook: str) -> list[checks.ExerciseCheck]:
    return [one for one in checks.exercises().values() if one.notebook == notebook]


def summary(notebook: str, folder: Path | None = None) -> str:
    """One line on a notebook's exercises. Raises LookupError for a number that none has."""
    exercises, folder = _of(notebook), folder or Path.cwd()
    if not exercises:
        raise LookupError(f"no notebook has the number {notebook!r}: expected 00 to 10")
    names = _read(folder)
    if names is None:
        return UNREADABLE
    counted = [one for one in exercises if not one.challenge]
    many = f"{len(counted)} exercise{'s' * (len(counted) > 1)}"
    if folder.name == SOLVED:
        return f"{notebook}: {many} and a challenge, solved here"
    right = sum(one.name in names for one in counted)
    to_do = [one for one in exercises if one.name not in names]
    following = "all done"
    if to_do:
        following = f"next: {'the challenge, ' * to_do[0].challenge}{to_do[0].name}"
    return f"{notebook}: {right} of {many} right; {following}"


def progress(folder: Path | None = None) -> None:
    """Print, for each notebook, which exercises are right, and which one to do next.

    folder: where the notebooks are; else this one, or notebooks/ in it. ◆ is the challenge.
    """
    here = folder or Path.cwd()
    names = _read(here if folder or (here / FILE).exists() else _beside(here))
    if names is None:
        print(UNREADABLE)
        return
    every = checks.exercises().values()
    for notebook in sorted({one.notebook for one in every}):
        counted = [one for one in _of(notebook) if not one.challenge]
        marks = "".join(("○●", "◇◆")[one.challenge][one.name in names] for one in _of(notebook))
        print(
            f"{notebook}  {marks:8s} {sum(one.name in names for one in counted)} of {len(counted)}"
        )
    to_do = next((one for one in every if one.name not in names), None)
    print(f"next: {to_do.name}, in notebook {to_do.notebook}" if to_do else "all done")


def _beside(folder: Path) -> Path:
    return folder / "notebooks" if (folder / "notebooks" / FILE).exists() else folder
