"""What was learned of the skin of photos: their people's albedo, as targets for training.

    skins = read_skins(Path("skins.safetensors"), default_model_path())
    skins.of(batch.names)                                # (batch, albedo), NaN where unknown

A .safetensors file of format "facerecon-skins-1": `albedo`, float16, coefficients of the face
model's own albedo basis, a row per photo; in its metadata `keys`, the photos' as a JSON list, and
the face model's `model_sha256`. Notebook 06, section 2.3.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ...files.downloads import sha256_of
from ...files.errors import FacereconError
from ...files.weights import read_weights

FORMAT = "facerecon-skins-1"
MAKER = "data_scripts/learn_face_model.py"


class SkinsError(FacereconError):
    """A file of skins that cannot be used. One line: what is wrong and what to do."""


@dataclass(eq=False)
class SkinTargets:
    """Albedo coefficients, and the row of each photo's key."""

    albedo: Float[Tensor, "photo albedo"]
    rows: dict[str, int]

    def of(self, names: Sequence[str]) -> Float[Tensor, "batch albedo"]:
        """Those of photos by key, with or without the shard's name before it; else NaN."""
        rows = [self.rows.get(name.rpartition("/")[2], -1) for name in names]
        unknown = torch.full_like(self.albedo[:1], torch.nan)
        return torch.cat([self.albedo, unknown])[rows]


def read_skins(path: Path, face_model: Path) -> SkinTargets:
    """Raises SkinsError for a missing or damaged file, and for one of another face model."""
    tensors, metadata = read_weights(path, FORMAT, SkinsError, MAKER, "file of skins")
    try:
        keys, albedo = json.loads(metadata["keys"]), tensors["albedo"]
        if albedo.ndim != 2 or len(keys) != len(albedo):
            raise ValueError
    except (KeyError, ValueError, TypeError):
        raise SkinsError(f"{path}: its keys and rows do not agree; make it again") from None
    if metadata.get("model_sha256") != sha256_of(face_model):
        raise SkinsError(
            f"{path}: is of another face model than {face_model}; name it with --model"
        )
    return SkinTargets(albedo, {str(key): row for row, key in enumerate(keys)})
