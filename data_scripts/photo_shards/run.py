"""A preparation from its options to its report: checks, work, and what a person is told.

Notebook 06, section 2.3.
"""

import os
import shutil
import time
from collections import Counter
from pathlib import Path

import torch

from facerecon_lib.cli.console import check_device
from facerecon_lib.data.shards.files import ShardsError
from facerecon_lib.files.locks import only_one
from facerecon_lib.photos.landmarks import choose_detector
from photo_shards.folder import FolderError, PhotoFolder, find_meta, list_photos, read_meta
from photo_shards.preparation import (
    BUSY,
    FACE,
    STATUSES,
    WORK,
    Job,
    Settings,
    prepare_photo,
    prepare_share,
)
from photo_shards.processes import device_of, duration, in_processes, progress, say
from photo_shards.report import check_output, check_retry, claim_output, description, write_report

TRIED = 24  # photos that --dry-run looks at


def run(
    source: Path,
    out: Path,
    meta: str = "auto",
    detector: str = "face-mesh",
    device: str = "cpu",
    processes: int = 1,
    retry: bool = False,
    dry_run: bool = False,
    **choices,
) -> None:
    """Prepare the photos, or say what would be done. choices: of `Settings`."""
    rank, local, world = _place(processes)
    if world > 1 and retry:
        raise ShardsError("--retry: start it without torchrun; --processes shares it out")
    if processes == 1:
        device = device_of(device, local)
    if processes == 1 or not (device.startswith("cuda") and torch.cuda.is_available()):
        check_device(device)  # else each process checks its own, and this one takes no GPU
    settings = Settings(choose_detector(detector), **choices)
    table = {"auto": find_meta(source), "none": None}.get(meta, Path(meta))
    folder = list_photos(source, read_meta(table) if table else None)
    if table and not any("identity" in photo.about for photo in folder.photos):
        none = f"knows none of the {len(folder.photos):,} photos in {source}"
        raise FolderError(f"{table}: {none}; check both, or leave it out with --meta none")
    job = Job(out, folder.photos, settings, device, retry)
    facts = description(settings, folder, table)
    if rank == 0:
        say(_summary(folder, table))
    begun = check_output(out, facts)
    if retry:
        check_retry(out, begun)
    if dry_run:
        if rank == 0:
            _dry_run(job)
        return
    claim_output(out, facts)
    if retry:
        say(f"{job.broken():,} broken photos to look at again")
    with only_one(out / WORK / f"{rank}.lock", BUSY.format(out)):
        _work(job, folder, rank, world, processes)


def _work(job: Job, folder: PhotoFolder, rank: int, world: int, processes: int) -> None:
    """This process's share, and the report by the last one."""
    before, total = job.looked_at(rank, world)
    started = time.monotonic()
    with progress(before, total) as show:
        if before < total and processes > 1:
            counts = in_processes(job, processes, show)
        else:
            counts = prepare_share(job, rank, world, show)
    seconds, done = time.monotonic() - started, counts.total()
    if done:
        whose = f"process {rank + 1} of {world}: " if world > 1 else ""
        rate = f"{done:,} photos in {seconds:.0f} s, {done / seconds:.2f} photos/s"
        say(f"{whose}{rate}: {_sums(counts)}")
    report = write_report(job, folder.unread)
    if report is None:
        say(f"process {rank + 1} of {world} is done; the last one writes index and report")
        return
    nothing = "" if done else f"nothing to do, all {len(job.photos):,} photos are prepared; "
    faces = f"{report[FACE]:,} faces of {report['people']:,} people"
    shards = f"{report['shards']} shards, {report['bytes'] / 1e6:,.1f} MB"
    say(f"{nothing}{job.out}: {faces} in {shards}; report.csv lists every photo")


def _sums(counts: Counter) -> str:
    return ", ".join(f"{counts[status]:,} {status}" for status in STATUSES if counts[status])


def _place(processes: int) -> tuple[int, int, int]:
    """Rank, rank on this machine, and number of processes, as torchrun or srun says."""
    try:
        rank, world = (int(os.environ.get(k, d)) for k, d in (("RANK", "0"), ("WORLD_SIZE", "1")))
        names = (name for name in ("LOCAL_RANK", "SLURM_LOCALID") if name in os.environ)
        local = int(os.environ.get(next(names, ""), rank))
    except ValueError:
        rank, world, local = -1, 0, 0
    if not (0 <= rank < world and local >= 0):
        raise ShardsError("RANK, LOCAL_RANK and WORLD_SIZE do not agree; unset them")
    if world > 1 and processes > 1:
        raise ShardsError("--processes: torchrun has started some already; leave it out")
    return rank, local, world


def _summary(folder: PhotoFolder, table: Path | None) -> str:
    people = len({photo.person for photo in folder.photos})
    listed = sum("identity" in photo.about for photo in folder.photos)
    text = f"{len(folder.photos):,} photos of {people:,} people"
    text += f", {listed:,} of them in {table.name}" if table else ""
    return "; ".join(filter(None, (text, folder.passed_over())))


def _dry_run(job: Job) -> None:
    """What a run would do, from the first photos of its order, which is as good as random."""
    if job.retry:
        say(f"{job.broken():,} broken photos would be looked at again; nothing was written")
        return
    before, total = job.looked_at(0, 1)
    counts, size = Counter(), 0
    prepare_photo(job.photos[0], job.settings, job.device)  # loads the networks
    started = time.monotonic()
    for photo in job.photos[:TRIED]:
        row, data = prepare_photo(photo, job.settings, job.device)
        counts[row["status"]] += 1
        size += len(data or b"")
    tried = counts.total()
    each, mean = (time.monotonic() - started) / tried, size / tried
    say(f"tried {tried}: {_sums(counts)}; {1 / each:.1f} photos/s")
    place = next(folder for folder in (job.out, *job.out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    shards = f"{len(job.shards())} shards of up to {job.settings.photos_per_shard:,} photos"
    room = f"about {total * mean / 1e6:,.1f} MB; {free / 1e6:,.0f} MB are free there"
    say(f"{job.out}: would hold {shards}, {room}")
    left = total - before
    one, eight = duration(left * each), duration(left * each / 8)
    times = f"about {one} with one process, {eight} with eight on as many cores"
    say(f"{before:,} photos are done and {left:,} left: {times}; nothing was written")
