"""The command `facerecon model`: facts and a picture of a face model.

for name, value in model_facts(MorphableModel.load("bfm.safetensors", subdivision=0)):
    print(name, value)

Notebook 01.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..files.atomic import claim_file
from ..reconstruction.output_folder import OutputError
from .console import error_console, one_thread, out_console, refusals, say, writing

FIRST = 5  # modes whose size is given
STEPS = {"0": "as stored", "1": "subdivided once", "2": "subdivided twice"}
MIRRORS = {
    "exact": "each vertex has its own opposite",
    "nearest": "the mesh is not symmetric: the nearest vertex to each one's mirror image",
}

model_app = typer.Typer(no_args_is_help=True, help="Facts and figures of a face model.")

ModelPath = Annotated[
    Path | None, typer.Argument(help="A face model; else $FACERECON_MODEL or the shipped one.")
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
        claim_file(out)
        one_thread()
        with error_console.status("drawing"):
            figure = model_sheet(MorphableModel.load(path, subdivision))
        with writing(f"--out {out}"):
            out.parent.mkdir(parents=True, exist_ok=True)
            save_figure(figure, out)
    say(f"{out}")


def model_facts(model) -> list[tuple[str, str]]:
    """Names and values of a MorphableModel, as stored, not subdivided, in the order to print."""
    from ..face.dense_points import FIRST_IRIS
    from ..face.mesh import boundary_edges, edges

    m, stored = model, model.metadata
    width, height, depth = (m.mean.amax(0) - m.mean.amin(0)).tolist()
    vertices, triangles, once = len(m.mean), len(m.faces), len(m.mean) + len(edges(m.faces))
    eyes = (m.mean[m.landmarks[45]] - m.mean[m.landmarks[36]]).norm()
    chin = (m.mean[m.landmarks[27]] - m.mean[m.landmarks[8]]).norm()
    steps = stored.get("default_subdivision", "1")

    def moves(basis) -> str:
        """How far a unit of the first modes moves the vertices."""
        length = basis[:FIRST].norm(dim=-1)
        mean = ", ".join(f"{x:.2f}" for x in length.mean(1).tolist())
        most = ", ".join(f"{x:.1f}" for x in length.amax(1).tolist())
        modes = f"modes 1 to {len(length)}" if len(length) > 1 else "mode 1"
        return f"{modes} move a vertex by {mean} mm on average, {most} mm at most"

    facts = {name: stored.get(name, "not said") for name in
             ("name", "file", "licence", "provenance", "units")}  # fmt: skip
    facts |= {
        "extent": f"{width:.0f} x {height:.0f} x {depth:.0f} mm",
        "vertices, triangles": f"{vertices}, {triangles} as stored; {once}, {4 * triangles} "
        "subdivided once",
        "loaded by default": STEPS.get(steps, f"{steps} times subdivided"),
        "borders": f"{len(boundary_edges(m.faces))} edges",
        "landmarks": f"68; {eyes:.1f} mm between the outer eye corners, {chin:.1f} from nose "
        "bridge to chin",
        "478 points": "not bound: run data_scripts/bind_face_mesh.py"
        if m.dense is None
        else f"bound; offsets {m.dense.offsets[:FIRST_IRIS].norm(dim=1).median():.1f} mm",
        "modes": "{} identity, {} expression, {} albedo".format(*m.sizes),
        "identity, one sd": moves(m.identity_basis),
    }
    if m.sizes.expression:
        facts["expression, unit"] = moves(m.expression_basis)
    if m.controls:
        facts["controls"] = f"{len(m.controls)}: {', '.join(m.controls)}"
    facts |= {
        "albedo bases": f"{stored['albedos']}; by default {stored['albedo']}",
        "regions": ", ".join(m.regions),
        "mirror": MIRRORS.get(stored.get("mirror", "exact"), "not said"),
    }
    notes = json.loads(stored.get("notes", "[]"))
    return [*facts.items(), *(("note", note) for note in notes)]
