"""Prepares CACD2000, or any folder of photos, for training: aligned faces in webdataset shards.

    python data_scripts/prepare_cacd.py CACD2000 --out shards --dry-run
    python data_scripts/prepare_cacd.py CACD2000 --out shards --processes 8
    torchrun --nproc-per-node 8 data_scripts/prepare_cacd.py CACD2000 --out shards
    facerecon train base --data shards --profile full --out runs/base

In each photo the largest face is found, with its 68 landmarks, and cut to the 224 x 224 crop; the
crop, its person and measures of its quality go into a shard. A photo that cannot be used is listed
in report.csv with the reason and stops nothing. A run may be killed at any moment: the same command
goes on behind the last photo, and what it writes is, byte for byte, what it would have written in
one go, with one process or with many. `--retry` looks at the broken photos of a finished run again,
once they are mended: what it leaves is what a run with the mended ones would have written.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import torch
import typer
from photo_folder import FolderError, PhotoFolder, find_meta, list_photos, read_meta
from photo_preparation import (
    FACE,
    STATUSES,
    Settings,
    broken_photos,
    looked_at,
    prepare_photo,
    prepare_share,
    reopen_broken,
)
from preparation_processes import device_of, duration, in_processes, progress, say
from preparation_report import (
    check_output,
    check_retry,
    claim_output,
    description,
    write_report,
)

from facerecon_lib.cli_console import check_device
from facerecon_lib.files.errors import FacereconError, one_line
from facerecon_lib.landmarks import choose_detector
from facerecon_lib.photo_quality import FLAGS
from facerecon_lib.shard_files import ShardsError

TRIED = 24  # photos that --dry-run looks at


def main(
    source: Annotated[Path, typer.Argument(help="The folder of photos; sub-folders count.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards, index.json and report.csv.")],
    meta: Annotated[
        str, typer.Option(help="celebrity2000_meta.mat; auto looks beside the photos; none.")
    ] = "auto",
    detector: Annotated[
        str | None,
        typer.Option(help="Of the landmarks: dlib or face-alignment; else what is here."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; each process takes a GPU.")] = "cpu",
    processes: Annotated[int, typer.Option(min=1, help="On this machine, without torchrun.")] = 1,
    photos_per_shard: Annotated[int, typer.Option(min=1, help="Before any is left out.")] = 1000,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Of the face's detection.")] = 0.0,
    min_face: Annotated[float, typer.Option(min=0, help="Pixels that the landmarks span.")] = 0.0,
    skip: Annotated[
        list[str] | None, typer.Option(help=f"Leave out what has this flag: {', '.join(FLAGS)}.")
    ] = None,
    retry: Annotated[
        bool,
        typer.Option(
            "--retry",
            help="Look at the broken photos of a finished run again, and at no other; the shards "
            "that they are in are made once more, as if nothing had been broken.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count, try a few, say what would be written.")
    ] = False,
) -> None:
    """Aligned faces with landmarks out of CACD2000 or any folder of photos, in webdataset shards.

    The same command goes on with a run that was stopped. Under torchrun each process takes a share.
    """
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        rank, local, world = _place(processes)
        if world > 1 and retry:
            raise ShardsError("--retry: start it without torchrun; --processes shares it out")
        if processes == 1:
            device = device_of(device, local)
        if processes == 1 or not (device.startswith("cuda") and torch.cuda.is_available()):
            check_device(device)  # else each of them checks its own, and this one takes no GPU
        if unknown := sorted(set(skip or ()) - set(FLAGS)):
            raise ShardsError(f"--skip {unknown[0]}: is no flag; there are {', '.join(FLAGS)}")
        flags = tuple(flag for flag in FLAGS if flag in (skip or ()))
        chosen = choose_detector(detector, allow_download=False)
        settings = Settings(chosen, min_score, min_face, flags, photos_per_shard)
        table = {"auto": find_meta(source), "none": None}.get(meta, Path(meta))
        folder = list_photos(source, read_meta(table) if table else None)
        if table and not any("identity" in photo.about for photo in folder.photos):
            raise FolderError(
                f"{table}: knows none of the {len(folder.photos):,} photos in {source}; check "
                "both, or go on with --meta none"
            )
        wanted = description(settings, folder, table)
        if rank == 0:
            say(_found(folder, table))
        begun = check_output(out, wanted)
        if retry:
            check_retry(out, begun)
        if dry_run:
            if rank == 0:
                _dry_run(out, folder, settings, device, begun, retry)
            return
        claim_output(out, wanted)
        if retry:
            broken = broken_photos(out, folder.photos, settings)
            say(f"{sum(broken.values()):,} broken photos to look at again")
            reopen_broken(out, list(broken))
        _prepare(out, folder, settings, device, rank, world, processes)
    except FacereconError as error:
        say(f"prepare_cacd: {one_line(error)}")
        raise typer.Exit(2) from None
    except KeyboardInterrupt as error:
        say("prepare_cacd: stopped; the same command goes on from here")
        raise typer.Exit(143 if isinstance(error, Terminated) else 130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


class Terminated(KeyboardInterrupt):
    """SIGTERM, of a scheduler or of kill; it ends a run as Ctrl-C does."""


def _terminated(number: int, frame: object) -> None:
    raise Terminated


def _place(processes: int) -> tuple[int, int, int]:
    """Rank, rank on this machine, and number of processes, as torchrun or srun says."""
    try:
        rank, world = (int(os.environ.get(k, d)) for k, d in (("RANK", "0"), ("WORLD_SIZE", "1")))
        names = (name for name in ("LOCAL_RANK", "SLURM_LOCALID") if name in os.environ)
        local = int(os.environ.get(next(names, ""), rank))
    except ValueError:
        rank, world, local = -1, 0, 0
    if not (0 <= rank < world and local >= 0):
        raise ShardsError(
            "RANK, LOCAL_RANK and WORLD_SIZE of the environment do not agree; unset them"
        )
    if world > 1 and processes > 1:
        raise ShardsError("--processes: torchrun has started some already; leave it out")
    return rank, local, world


def _found(folder: PhotoFolder, table: Path | None) -> str:
    people = len({photo.person for photo in folder.photos})
    text = f"{len(folder.photos):,} photos of {people:,} people"
    if table:
        known = sum("identity" in photo.about for photo in folder.photos)
        text += f", {known:,} of them in {table.name}"
    if folder.other_files:
        text += f"; {folder.other_files:,} files that are not named as photos are passed over"
    if folder.unread:
        text += f"; {len(folder.unread)} sub-folders cannot be read: {folder.unread[0]}"
    return text


# The work, and a try of it ----------------------------------------------------------------------


def _prepare(
    out: Path,
    folder: PhotoFolder,
    settings: Settings,
    device: str,
    rank: int,
    world: int,
    processes: int,
) -> None:
    photos = folder.photos
    before, total = looked_at(out, photos, settings, rank, world)
    counts = Counter()
    started = time.monotonic()
    with progress(before, total) as show:
        if before < total and processes > 1:
            counts = in_processes(processes, out, photos, settings, device, show)
        else:

            def tell(status: str) -> None:
                counts[status] += 1
                show(counts)

            prepare_share(out, photos, settings, rank, world, device, tell)
    seconds, done = time.monotonic() - started, counts.total()
    if done:
        whose = f"process {rank + 1} of {world}: " if world > 1 else ""
        sums = ", ".join(f"{counts[status]:,} {status}" for status in STATUSES if counts[status])
        say(f"{whose}{done:,} photos in {seconds:.0f} s, {done / seconds:.2f} photos/s: {sums}")
    report = write_report(out, photos, settings, folder.unread)
    if report is None:
        say(f"process {rank + 1} of {world} is done; the last one writes index and report")
        return
    nothing = "" if done else f"nothing to do, all {len(photos):,} photos are prepared; "
    say(
        f"{nothing}{out}: {report[FACE]:,} faces of {report['people']:,} people in "
        f"{report['shards']} shards, {report['bytes'] / 1e6:,.1f} MB; report.csv lists every photo"
    )


def _dry_run(
    out: Path, folder: PhotoFolder, settings: Settings, device: str, begun: bool, retry: bool
) -> None:
    """What a run would do, from the first photos of its order, which is as good as drawn."""
    photos = folder.photos
    if retry:
        count = sum(broken_photos(out, photos, settings).values())
        say(f"{count:,} broken photos would be looked at again; nothing was written")
        return
    before, total = looked_at(out, photos, settings, 0, 1) if begun else (0, len(photos))
    counts, sizes = Counter(), []
    prepare_photo(photos[0], settings, device)  # loads the networks
    started = time.monotonic()
    for photo in photos[:TRIED]:
        row, data = prepare_photo(photo, settings, device)
        counts[row["status"]] += 1
        sizes.append(len(data or b""))
    each, mean = (time.monotonic() - started) / len(sizes), sum(sizes) / len(sizes)
    sums = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    say(f"tried {len(sizes)}: {sums}; {1 / each:.1f} photos/s")
    place = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    say(
        f"{out}: would hold {settings.shards(total)} shards of up to {settings.photos_per_shard:,} "
        f"photos, about {total * mean / 1e6:,.1f} MB; {free / 1e6:,.0f} MB are free there"
    )
    left = total - before
    say(
        f"{before:,} photos are done and {left:,} left: about {duration(left * each)} with one "
        f"process, {duration(left * each / 8)} with eight on as many cores; nothing was written"
    )


if __name__ == "__main__":
    typer.run(main)
