"""A small set of faces to learn a face model from: what notebook 01 runs its PCA on.

    samples = load_face_samples()
    samples.shapes                                        # (96, V, 3) mm, model frame
    samples.held_out                                      # (18, V, 3) mm, other faces
    samples.albedo                                        # (96, V, 3) sRGB, a skin for each shape
    samples.tones                                         # (10, V, 3) sRGB, one for each Monk tone

Shapes are drawn from the space that the shipped model was made of, not from the model: none is a
sum of its modes. Neutral, rigidly aligned, on the model's own triangles at subdivision 0. Skins are
of the model, times 0.6 of what its albedo basis leaves out (`data.rendered.skin_residuals`).
"""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from ...face.model_file import ModelError
from ...files.weights import read_weights, shipped_file

FORMAT = "facerecon-face-samples-1"


@dataclass(eq=False)
class FaceSamples:
    """Neutral faces in dense correspondence: vertex v is the same place on each.

    shapes: training faces, mm, model frame. held_out: faces that no training may see, likewise.
    albedo: a skin for each training face, sRGB in [0, 1]; it was drawn apart from the shape.
    tones: ten such skins, nearest to the lightness of people's skin at each tone of the Monk scale
    (`face.colour.SKIN_LIGHTNESS`), lightest first; some are among `albedo`.
    """

    shapes: Float[Tensor, "sample vertex 3"]
    held_out: Float[Tensor, "other vertex 3"]
    albedo: Float[Tensor, "sample vertex 3"]
    tones: Float[Tensor, "10 vertex 3"]
    metadata: dict[str, str]


def load_face_samples(path: str | Path | None = None) -> FaceSamples:
    """Read a file of `data_scripts/build_face_samples.py`; None is the one that ships.

    Offsets from a float32 origin are stored in float16, which rounds by at most 0.01 mm; colours as
    bytes. Raises ModelError with one line when the file is missing, damaged or of another kind.
    """
    path = shipped_file("face_samples.safetensors") if path is None else Path(path)
    maker, what = "data_scripts/build_face_samples.py", "set of face samples"
    state, metadata = read_weights(path, FORMAT, ModelError, maker, what)
    try:
        shapes = state["origin"] + state["training_offsets"]
        held_out = state["origin"] + state["held_out_offsets"]
        albedo, tones = (state[name].float() / 255 for name in ("training_albedo", "tone_albedo"))
    except KeyError as error:
        raise ModelError(f"{path.name}: lacks {error}; {maker} makes one") from None
    return FaceSamples(shapes, held_out, albedo, tones, metadata)
