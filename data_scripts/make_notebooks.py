"""Makes notebooks/ from solutions/: solutions taken out, both trees run, outputs stored.

    python data_scripts/make_notebooks.py                      # all (make notebooks)
    python data_scripts/make_notebooks.py --only 03            # one
    python data_scripts/make_notebooks.py --check              # are the trees in step? runs nothing
    python data_scripts/make_notebooks.py --colab owner/name   # badge and address, runs nothing

Edit notebooks in solutions/ only. A notebook is written, to both trees at once, when it keeps the
rules (`notebook_making/rules.py`) and both of its versions ran without an error.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from facerecon_lib.files.streams import forgive_streams

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
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from notebook_making import making
    from rich.console import Console
    from rich.progress import track

    out, err = Console(highlight=False), Console(stderr=True, highlight=False)
    root = root.resolve()
    try:
        if colab is not None:
            count = making.point_at_repository(root, colab, branch)
            out.print(f"{count} notebooks open in Colab from {colab}, branch {branch}")
            return
        chosen = making.names(root, only or [])
        settings = (*making.in_use(root), least_figures)
    except ValueError as error:
        err.print(f"make_notebooks: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    if check_only:
        faults = making.check(root, chosen, least_figures)
        for fault in faults:
            err.print(fault, markup=False, soft_wrap=True)
        out.print(f"{len(chosen)} notebooks, {len(faults)} faults")
        raise typer.Exit(bool(faults))
    written = 0
    with ProcessPoolExecutor(min(jobs, max(len(chosen), 1))) as pool:
        tasks = [pool.submit(making.make, root, name, *settings) for name in chosen]
        bar = dict(total=len(chosen), console=out, disable=not sys.stdout.isatty())
        for job in track(as_completed(tasks), "running notebooks", **bar):
            result = job.result()
            written += not result.faults
            out.print(str(result), soft_wrap=True)
            for fault in result.faults:
                err.print(fault, markup=False, soft_wrap=True)
    out.print(f"{written} of {len(chosen)} notebooks made")
    raise typer.Exit(written < len(chosen))


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
