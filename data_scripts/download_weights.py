"""Every file of trained weights that the course can use from the web: which, whose, and fetched.

    python data_scripts/download_weights.py --list                  # one table; touches no network
    python data_scripts/download_weights.py resnet50 facenet        # what the full training needs
    python data_scripts/download_weights.py all --dry-run

A file goes where the library looks for it ($TORCH_HOME, else ~/.cache/torch), whole and checked;
a broken download is resumed. Without the network, fetch the address that --dry-run names elsewhere.
The notebooks need none of them. Serves docs/FULL_TRAINING.md.
"""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from facerecon_lib.files.downloads import ROOM, DownloadError, begun, fetch, sha256_of
from facerecon_lib.files.streams import forgive_streams

IMAGENET_TERMS = "code BSD 3-Clause; weights trained on ImageNet, non-commercial research alone"
S3FD_TERMS = "code BSD 3-Clause; weights trained on WIDER FACE (research data)"
FACE_ALIGNMENT = "https://www.adrianbulat.com/downloads/python-fan/"


@dataclass(frozen=True)
class Weights:
    """A file of weights.

    sha256: all of its digits, or those that its name ends in where no more are published. size: in
    bytes. used: the library reads it; else it is for those who use its package by themselves.
    """

    name: str
    path: Path
    url: str
    terms: str
    size: int
    sha256: str
    purpose: str
    without: str = "everything"  # what works
    used: bool = True

    @property
    def megabytes(self) -> str:
        return f"{'about ' * (len(self.sha256) < 64)}{self.size / 1e6:.0f} MB"

    @property
    def checksum(self) -> str:
        more = "... (its name ends in it; no more is known)" * (len(self.sha256) < 64)
        return self.sha256 + more

    def state(self) -> str:
        """here, damaged, begun or missing. Reads all of a file that is there."""
        if self.path.is_file():
            return "here" if sha256_of(self.path).startswith(self.sha256) else "damaged"
        return "begun" if begun(self.path) else "missing"


# Digests: of torchvision's and face-alignment's files as several public projects have written them
# down that fetched them; they go on from the digits that the names of the files end in.
IMAGENET = {
    "resnet50": (
        102_530_333,
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        "the encoder's start in the report's training: facerecon train base --profile full",
        "--init none, or --backbone dlib_resnet29 --init faces",
    ),
    "resnet18": (
        46_830_571,
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        "a smaller encoder's start: --backbone resnet18 --init imagenet",
        "--init none, or another backbone",
    ),
    "mobilenet_v3_large": (
        22_139_423,
        "8738ca797c879b547d18bbd15da5736ff2557b2036a9af72225393ca61759a04",
        "the smallest encoder's start: --backbone mobilenet_v3_large --init imagenet",
        "--init none, or another backbone",
    ),
}
FACENET = (
    "F() of Eq. 6 as in the report: InceptionResnetV1 of VGGFace2, --recognition facenet",
    "--recognition dlib, the default: another network, with a weight of its own",
)
FANS = {
    "3DFAN4-7835d9f11d.pth.tar": (
        95_498_752,
        "7835d9f11d",
        "68 landmarks of a photo, 3d, with the package face-alignment",
        "the mesh's landmarks, 3d, which ship",
    ),
    "2DFAN4-11f355bf06.pth.tar": (
        95_498_752,
        "11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa",
        "the package's 2d landmarks; nothing here reads it",
    ),
    "s3fd-619a316812.pth": (
        89_843_225,
        "619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
        "the package's face detector; nothing here reads it: BlazeFace finds the faces",
    ),
    "depth-2a464da4ea.pth.tar": (
        234_592_488,
        "2a464da4ea",
        "the depth of the package's landmarks; a pickle, which nothing here loads",
    ),
}


def known_weights() -> list[Weights]:
    """All of them, those that the library reads first."""
    from torch.hub import get_dir

    from facerecon_lib.networks import face_networks
    from facerecon_lib.networks.backbones import imagenet_file, imagenet_url
    from facerecon_lib.photos.landmarks import FACE_ALIGNMENT_TERMS

    rows = [
        Weights(name, imagenet_file(name), imagenet_url(name), IMAGENET_TERMS, *facts)
        for name, facts in IMAGENET.items()
    ]
    url, terms = face_networks.FACENET_URL, face_networks.FACENET_TERMS
    facts = (111_898_327, face_networks.FACENET_SHA256, *FACENET)
    rows.append(Weights("facenet", face_networks.facenet_file(), url, terms, *facts))
    for file, facts in FANS.items():
        name, path = file.partition("-")[0].lower(), Path(get_dir(), "checkpoints", file)
        terms = S3FD_TERMS if name == "s3fd" else FACE_ALIGNMENT_TERMS
        url, used = FACE_ALIGNMENT + file, name == "3dfan4"
        rows.append(Weights(name, path, url, terms, *facts, used=used))
    return rows


COLOURS = {"here": "green", "damaged": "red", "begun": "yellow", "missing": "yellow"}


def table(weights: Sequence[Weights]) -> Table:
    """All that is to know, a row each; their addresses are for --dry-run to say."""
    from torch.hub import get_dir

    home = Path(get_dir()).parent
    rows = Table(title=f"Trained weights from the web, in {home} ($TORCH_HOME)", show_lines=True)
    rows.add_column("file", no_wrap=True)
    rows.add_column("what for, and what works without it")
    rows.add_column("where it lies, terms, SHA-256", overflow="fold")
    for one in weights:
        state = one.state()
        part = f", {begun(one.path) / 1e6:.0f} MB are here" if state == "begun" else ""
        place = one.path.relative_to(home) if one.path.is_relative_to(home) else one.path
        rows.add_row(
            f"[bold]{one.name}[/]\n{one.megabytes}\n[{COLOURS[state]}]{state}[/]{part}",
            escape(f"{one.purpose}\nwithout it: {one.without}"),
            escape(f"{place}\n{one.terms}\n{one.checksum}"),
        )
    return rows


def chosen(names: Sequence[str], weights: Sequence[Weights]) -> list[Weights]:
    """Those of the names, "all" being what the library reads. Raises DownloadError."""
    every = {one.name: one for one in weights}
    if unknown := [name for name in names if name not in {*every, "all"}]:
        raise DownloadError(f"{unknown[0]}: is unknown; choose all, {', '.join(every)}")
    return [one for one in weights if one.name in names or ("all" in names and one.used)]


def check_room(missing: Sequence[Weights]) -> None:
    """Raises DownloadError where a folder or a disk cannot take what is to come."""
    needed, folders = Counter(), {}
    for one in missing:
        folder = next(parent for parent in one.path.parents if parent.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            todo = "set TORCH_HOME to a folder that can be"
            raise DownloadError(f"{folder}: cannot be written; {todo}")
        disk = os.stat(folder).st_dev
        folders[disk] = folder
        needed[disk] += one.size - begun(one.path)
    for disk, folder in folders.items():
        free = shutil.disk_usage(folder).free
        if free < needed[disk] + ROOM:
            room = f"{free / 1e6:.0f} MB of the disk are free"
            coming = f"{needed[disk] / 1e6:.0f} MB are to come, with {ROOM / 1e6:.0f} MB to spare"
            todo = "make room, or set TORCH_HOME to a folder elsewhere"
            raise DownloadError(f"{folder}: {room}, and {coming}; {todo}")


def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names as in --list; all: what the library reads.", metavar="NAME..."),
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="Show the table, what is here checked; fetch nothing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fetched; fetch nothing.")
    ] = False,
) -> None:
    """Fetch trained weights to where the library looks for them. Each comes under terms of its
    own, which --list names: mind them."""
    out, err = Console(highlight=False), Console(stderr=True, highlight=False)

    def fail(message: object) -> None:
        err.print(f"download_weights: {message}", markup=False, soft_wrap=True)

    weights = known_weights()
    if show_list:
        Console(highlight=False, width=max(out.width, 110)).print(table(weights))
        return
    try:
        if not names:
            raise DownloadError("name what to fetch, or all; --list shows what there is")
        selection = chosen(names, weights)
        missing = [one for one in selection if one.state() != "here"]
        check_room(missing)
    except DownloadError as error:
        fail(error)
        raise typer.Exit(2) from None
    failed = False
    for one in selection:
        if one not in missing:
            message = f"is here: {one.path}"
        elif dry_run:
            after = f", after {begun(one.path) / 1e6:.1f} MB that are here" * bool(begun(one.path))
            message = f"{one.megabytes}{after}, from {one.url} to {one.path}; {one.terms}"
        else:
            try:
                fetch(one.url, one.path, one.sha256, err)
                message = f"-> {one.path} ({one.terms})"
            except KeyboardInterrupt:
                fail(f"{one.name}: stopped; the same command resumes")
                raise typer.Exit(130) from None
            except DownloadError as error:
                fail(f"{one.name}: {error}; or fetch it elsewhere and put it at {one.path}")
                failed = True
                continue
        out.print(f"{one.name}: {message}", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(2)


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
