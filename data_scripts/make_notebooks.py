"""Makes notebooks/ from solutions/: solutions taken out, both trees run, outputs stored.

    python data_scripts/make_notebooks.py                      # all (make notebooks)
    python data_scripts/make_notebooks.py --only 03            # one
    python data_scripts/make_notebooks.py --check              # are the trees in step? runs nothing
    python data_scripts/make_notebooks.py --colab owner/name   # badge and address, runs nothing

Edit notebooks in solutions/ only. A notebook is written, to both trees at once, when it keeps the
rules (`notebook_making/rules.py`) and both of its versions ran without an error.
"""

from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[1]


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="A notebook's number or name; may be repeated.")
    ] = None,
    check_only: Annotated[
        bool, typer.Option("--check", help="Say whether the trees are in step; run nothing.")
    ] = False,
    colab: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Write Colab badges; run nothing.")
    ] = None,
    branch: Annotated[str, typer.Option(help="The branch that Colab opens.")] = "main",
    jobs: Annotated[int, typer.Option(min=1, help="Notebooks at a time.")] = 2,
    root: Annotated[Path, typer.Option(help="The folder that holds solutions/.")] = ROOT,
    least_figures: Annotated[
        int, typer.Option(hidden=True, help="Pictures that a notebook must show.")
    ] = 8,
) -> None:
    """Make notebooks/ from solutions/ and run both."""
    from notebook_making.making import command

    if not command(only or [], check_only, colab, branch, jobs, root, least_figures):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
