"""The settings of one evaluation: what is measured, on which faces, and where the numbers go.

    settings = EvaluationSettings(rendered=40, device="cuda")
    settings.check()                     # raises FacereconError, one line

Imports no torch: the command line makes its options of these fields. Notebook 09, section 2.3.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from ..files.errors import FacereconError
from ..training.settings import Family, Illumination, Split


@dataclass(frozen=True)
class EvaluationSettings:
    """The options of `facerecon evaluate`, one line per field.

    checkpoint: an encoder (.safetensors); default: $FACERECON_ENCODER, or the shipped one
    rendered: how many rendered faces; 200 where nothing else is asked for
    photos: a folder of photos, or one photo
    data: shards of photos; their test part is evaluated
    split: how the photos of shards are divided, random or person; default: as in training
    seed: of the rendered faces
    family: light and background of the rendered faces, held-out or train
    wrinkles: rendered faces with wrinkles, marks and make-up
    scans: how many rendered faces get a scan-to-mesh error (NoW)
    model: a face model (.safetensors); default: $FACERECON_MODEL, or the shipped one
    recognition: who judges identity: dlib (default, if installed), facenet (fetches 112 MB), none
    illumination: encoder (default), photo, free, grey or known; augmented: as in its training
    augmented: the augmented branch beside the encoder
    unet: its U-Net (.safetensors); default: $FACERECON_UNET, or the shipped one
    device: cpu, cuda, or cuda:N
    json: a file for every number
    figure: a .png that shows some of the faces
    """

    checkpoint: Path | None = None
    rendered: int | None = None
    photos: Path | None = None
    data: str | None = None
    split: Split | None = None
    seed: int = 1000
    family: Family = "held-out"
    wrinkles: bool = False
    scans: int = 50
    model: Path | None = None
    recognition: str | None = None
    illumination: Illumination | None = None
    augmented: bool = False
    unet: Path | None = None
    device: str = "cpu"
    json: Path | None = None
    figure: Path | None = None

    @property
    def rendered_faces(self) -> int:
        """`rendered`, or what its default stands for."""
        if self.rendered is not None:
            return self.rendered
        return 0 if self.photos or self.data else 200

    def check(self) -> None:
        """Raises FacereconError, one line, for an invalid value."""
        for name, kind in (("family", Family), ("split", Split), ("illumination", Illumination)):
            value, choices = getattr(self, name), get_args(kind)
            if value is not None and value not in choices:
                raise FacereconError(f"--{name} {value}: expected {' or '.join(choices)}")
        for name in ("rendered", "scans"):
            if (getattr(self, name) or 0) < 0:
                raise FacereconError(f"--{name} {getattr(self, name)}: expected 0 or more")
        for name, suffix in (("json", ".json"), ("figure", ".png")):
            path = getattr(self, name)
            if path is None:
                continue
            if path.suffix.lower() != suffix:
                raise FacereconError(f"--{name} {path}: expected a name that ends in {suffix}")
            if not path.parent.is_dir():
                raise FacereconError(f"--{name} {path}: there is no folder {path.parent}")
        if self.unet is not None and not self.augmented:
            raise FacereconError("--unet is of the augmented branch: add --augmented")
        if not (self.rendered_faces or self.photos or self.data):
            raise FacereconError("nothing to evaluate: ask for --rendered, --photos or --data")
