"""The command `facerecon model`: facts and a picture of a face model.

for name, value in model_facts(MorphableModel.load("bfm.safetensors", subdivision=0)):
    print(name, value)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..reconstruction.output_folder import OutputError, claim_folder
from .console import error_console, one_thread, out_console, refusals, writing

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from ..face.morphable_model import MorphableModel

FIRST = 5  # modes whose size is given

model_app = typer.Typer(no_args_is_help=True, help="Facts and figures of a face model.")

ModelPath = Annotated[
    Path | None, typer.Argument(help="Default: $FACERECON_MODEL, or the model that ships.")
]


@model_app.command()
def info(path: ModelPath = None) -> None:
    """Print a face model's facts: sizes, bases, landmarks, where it comes from."""
    from ..face.morphable_model import MorphableModel

    with refusals():
        model = MorphableModel.load(path, subdivision=0)
    table = Table.grid(padding=(0, 2))
    for name, value in model_facts(model):
        table.add_row(Text(f"{name}:"), Text(value))
    out_console.print(table)


@model_app.command()
def show(
    path: ModelPath = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("face_model.png"),
    subdivision: Annotated[
        int | None, typer.Option(help="Loop steps, 0 to 3. Default: the model's own.")
    ] = None,
) -> None:
    """Draw a face model: mean, landmarks, modes, expressions, skins, random faces."""
    from ..face.morphable_model import MorphableModel
    from ..pictures.model_sheet import model_sheet
    from ..pictures.sheets import save_figure

    with refusals():
        if out.suffix.lower() != ".png":
            raise OutputError(f"--out {out}: expected a name that ends in .png")
        claim_folder(out.parent)
        one_thread()
        with error_console.status("drawing"):
            figure = model_sheet(MorphableModel.load(path, subdivision))
        with writing(f"--out {out}"):
            save_figure(figure, out)
    out_console.print(f"{out}", markup=False)


def model_facts(model: MorphableModel) -> list[tuple[str, str]]:
    """Names and values, in the order to print them. model: as stored, not subdivided."""
    from ..face.mesh import boundary_edges, edges

    m, stored = model, model.metadata
    low, high = m.mean.amin(0), m.mean.amax(0)
    finer = len(m.mean) + len(edges(m.faces)), 4 * len(m.faces)
    eyes = (m.mean[m.landmarks[45]] - m.mean[m.landmarks[36]]).norm()
    chin = (m.mean[m.landmarks[27]] - m.mean[m.landmarks[8]]).norm()
    steps = stored.get("default_subdivision", "1")
    facts = [(name, stored.get(name, "not said")) for name in _SAID]
    facts += [
        ("extent", "{:.0f} x {:.0f} x {:.0f} mm".format(*(high - low).tolist())),
        (
            "vertices, triangles",
            "{}, {} as stored; {}, {} subdivided once".format(len(m.mean), len(m.faces), *finer),
        ),
        ("loaded by default", f"{_TIMES.get(steps, steps + ' times subdivided')}"),
        ("borders", f"{len(boundary_edges(m.faces))} edges"),
        (
            "landmarks",
            f"68; {eyes:.1f} mm between the outer eye corners, {chin:.1f} from nose bridge to chin",
        ),
        ("modes", "{} identity, {} expression, {} albedo".format(*m.sizes)),
        ("identity, one sd", _moves(m.identity_basis)),
    ]
    if m.sizes.expression:
        facts.append(("expression, unit", _moves(m.expression_basis)))
    if m.controls:
        facts.append(("controls", f"{len(m.controls)}: {', '.join(m.controls)}"))
    facts += [
        ("albedo bases", f"{stored['albedos']}; by default {stored['albedo']}"),
        ("regions", ", ".join(m.regions)),
        ("mirror", _MIRRORS.get(stored.get("mirror", "exact"), "not said")),
    ]
    return facts + [("note", note) for note in json.loads(stored.get("notes", "[]"))]


_SAID = ("name", "file", "licence", "provenance", "units")
_TIMES = {"0": "as stored", "1": "subdivided once", "2": "subdivided twice"}
_MIRRORS = {
    "exact": "each vertex has its own opposite",
    "nearest": "the mesh is not symmetric: the nearest vertex to each one's mirror image",
}


def _moves(basis: Float[Tensor, "mode vertex 3"]) -> str:
    """How far a unit of the first modes moves the vertices, mm."""
    length = basis[:FIRST].norm(dim=-1)
    mean = ", ".join(f"{x:.2f}" for x in length.mean(1).tolist())
    most = ", ".join(f"{x:.1f}" for x in length.amax(1).tolist())
    which = f"modes 1 to {len(length)}" if len(length) > 1 else "mode 1"
    return f"{which} move a vertex by {mean} mm on average, {most} mm at most"
