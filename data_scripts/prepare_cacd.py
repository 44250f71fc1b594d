"""Prepares CACD2000, or any folder of photos, for training: aligned faces in webdataset shards.

    python data_scripts/prepare_cacd.py CACD2000 --out shards --dry-run
    python data_scripts/prepare_cacd.py CACD2000 --out shards --processes 8
    torchrun --nproc-per-node 8 data_scripts/prepare_cacd.py CACD2000 --out shards

A shard holds the 224 x 224 crops of the photos' largest faces, 68 landmarks, persons and measures
of quality; report.csv says what became of each photo. After a kill the same command resumes, and
the shards are the same. `--retry` looks at the broken photos of a finished run again.

Notebook 06, section 2.3.
"""

import signal
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from facerecon_lib.files.streams import forgive_streams

FLAGS = ("unsure", "several", "small", "blurred", "turned", "tilted", "scattered")
FLAGS += ("flat", "cut", "dark", "bright")  # of photos/quality.py, which takes seconds to import


def main(
    source: Annotated[Path, typer.Argument(help="The folder of photos; sub-folders count.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards, index.json and report.csv.")],
    meta: Annotated[
        str, typer.Option(help="celebrity2000_meta.mat; auto looks beside the photos; none.")
    ] = "auto",
    detector: Annotated[
        str, typer.Option(help="Of landmarks: face-mesh, face-alignment or dlib.")
    ] = "face-mesh",
    device: Annotated[str, typer.Option(help="cpu or cuda; each process takes a GPU.")] = "cpu",
    processes: Annotated[int, typer.Option(min=1, help="On this machine, without torchrun.")] = 1,
    photos_per_shard: Annotated[int, typer.Option(min=1, help="Before any is left out.")] = 1000,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Of the face's detection.")] = 0.0,
    min_face: Annotated[float, typer.Option(min=0, help="Pixels that the landmarks span.")] = 0.0,
    skip: Annotated[
        list[str] | None, typer.Option(help=f"Leave out what has this flag: {', '.join(FLAGS)}.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Look at the broken photos of a finished run again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count, try a few, say what would be written.")
    ] = False,
) -> None:
    """Aligned faces with landmarks out of CACD2000 or any folder of photos, in webdataset shards.

    The same command resumes a run that was stopped. Under torchrun each process takes a share.
    """
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        if unknown := sorted(set(skip or ()) - set(FLAGS)):
            _refuse(f"--skip {unknown[0]}: is no flag; there are {', '.join(FLAGS)}")
        from photo_shards.run import run

        from facerecon_lib.files.errors import FacereconError, one_line

        choices = dict(min_score=min_score, min_face=min_face, photos_per_shard=photos_per_shard)
        choices |= dict(skip=tuple(flag for flag in FLAGS if flag in (skip or ())))
        try:
            run(source, out, meta, detector, device, processes, retry, dry_run, **choices)
        except FacereconError as error:
            _refuse(one_line(error))
    except KeyboardInterrupt as error:
        typer.echo("prepare_cacd: stopped; the same command resumes", err=True)
        raise typer.Exit(143 if isinstance(error, Terminated) else 130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse(message: str) -> NoReturn:
    typer.echo(f"prepare_cacd: {message}", err=True)
    raise typer.Exit(2) from None


class Terminated(KeyboardInterrupt):
    """SIGTERM, of a scheduler or of kill; it ends a run as Ctrl-C does."""


def _terminated(number: int, frame: object) -> None:
    raise Terminated


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
