"""The mean face and the spread of people, by what an encoder of the model sees of portraits.

    shape = people_shape(encoder, "shards", model)
    mean, basis, order = shape.correct(model)

An encoder errs alike on portraits and on rendered faces turned as portraits are, whose truth is
N(0, 1): so the difference of the means is people's mean, and the ratio of the standard deviations
their spread. Portraits smile, and a smile passes for cheeks: the mean is that of a face at rest, by
regression on the smile. Depth is seen through shading alone. Notebook 01, Eq. 1.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.networks.encoder import Encoder, save_encoder
from facerecon_lib.networks.upright import encode_both_ways

from .observe import SMILE, portrait_batches

BELIEVED = 0.5  # of the mean: an encoder has never seen a photo
TURNED = 0.1, 0.12, 0.08  # radians, s.d. of pitch, yaw and roll of portraits
RENDERED, SEED = 640, 515
SPREAD = 0.6, 1.0  # of the model's own; more would be the noise of photos


@dataclass
class PeopleShape:
    """In the old model's standard deviations: people's mean, and one of their own."""

    shift: Float[Tensor, " identity"]
    spread: Float[Tensor, " identity"]

    def correct(self, model: MorphableModel) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 1's mean (V, 3), its own mirror image, and identity basis (K, V, 3), wide modes
        first; which mode of the old model each is."""
        mean = model.shape(self.shift[None])[0]
        mean = (mean + mean[model.mirror] * mean.new_tensor([-1.0, 1.0, 1.0])) / 2
        basis = model.identity_basis * self.spread[:, None, None]
        order = basis.flatten(1).norm(dim=1).argsort(descending=True)
        return mean, basis[order], order


def people_shape(encoder: Encoder, shards: str | Path, model: MorphableModel) -> PeopleShape:
    """Of all portraits but those of the part "test"."""
    seen = _at_rest(model, [_encode(encoder, model, b) for b in portrait_batches(shards)])
    faces, draw = RenderedFaces(model, SEED), torch.Generator().manual_seed(SEED)
    drawn = []
    for numbers in torch.arange(RENDERED).split(32):
        turned = torch.randn(len(numbers), 3, generator=draw) * torch.tensor(TURNED)
        drawn.append(_encode(encoder, model, faces.batch(numbers, turned)))
    rendered = _at_rest(model, drawn)
    shift = BELIEVED * (seen[0] - rendered[0])
    return PeopleShape(shift, (seen[1] / rendered[1]).clamp(*SPREAD))


@torch.no_grad()
def _encode(encoder: Encoder, model: MorphableModel, batch: FaceBatch) -> FaceCoefficients:
    return encode_both_ways(encoder, model, batch)


def _at_rest(
    model: MorphableModel, parts: list[FaceCoefficients]
) -> tuple[Float[Tensor, " identity"], Float[Tensor, " identity"]]:
    """Mean of the identity at a smile of 0, and its standard deviation beside the smile's."""
    c = FaceCoefficients.cat(parts)
    names = list(model.controls)
    smile = model.actions(c.expression)[:, [names.index(name) for name in SMILE]].mean(1)
    x = torch.stack([torch.ones_like(smile), smile], 1)
    line = torch.linalg.lstsq(x, c.identity).solution
    return line[0], (c.identity - x @ line).std(0)


def carry_encoder(
    encoder: Encoder, old: MorphableModel, new: MorphableModel, shape: PeopleShape, path: Path
) -> None:
    """Write the encoder whose answers for the new model are what `encoder` says for the old one.

    Shape and pose are the same to rounding; the albedo is the nearest that the new basis has.
    """
    skin = (new.regions["skin"] + new.regions["lips"] + new.regions["brows"]).clamp(0, 1)
    basis = (new.albedo_basis * skin[:, None]).flatten(1)
    change = ((old.albedo_mean - new.albedo_mean) * skin[:, None]).flatten()
    solve = torch.linalg.inv(basis @ basis.T + 1e-3 * torch.eye(len(basis))) @ basis
    turn = (solve @ (old.albedo_basis * skin[:, None]).flatten(1).T, solve @ change)
    *_, order = shape.correct(old)
    identity = (1 / shape.spread).diag()[order], (-shape.shift / shape.spread)[order]
    rows = {"identity": identity, "albedo": turn}
    start = {"identity": 0, "albedo": sum(old.sizes[:2])}
    with torch.no_grad():
        for name, (matrix, offset) in rows.items():
            size = len(matrix)
            part = slice(start[name], start[name] + size)
            scale = encoder.output_scale[part]
            weight, bias = encoder.head.weight, encoder.head.bias
            to_outputs = matrix * scale / scale[:, None]
            weight[part] = to_outputs @ weight[part]
            bias[part] = to_outputs @ bias[part] + offset / scale
    for fact in ("validation", "model_sha256"):
        encoder.metadata.pop(fact, None)
    encoder.metadata["model"] = new.metadata["name"]
    save_encoder(path, encoder)
