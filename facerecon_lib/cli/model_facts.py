"""The facts of a face model, as lines of text: what `facerecon model info` prints.

for name, value in model_facts(MorphableModel.load("bfm.safetensors", subdivision=0)):
    print(name, value)
"""

from __future__ import annotations

import json

from jaxtyping import Float
from torch import Tensor

from ..face.mesh import boundary_edges, edges
from ..face.morphable_model import MorphableModel

FIRST = 5  # modes whose size is given


def model_facts(model: MorphableModel) -> list[tuple[str, str]]:
    """Names and values, in the order to print them. model: as stored, not subdivided."""
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
