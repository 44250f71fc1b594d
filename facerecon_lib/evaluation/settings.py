"""The settings of one evaluation: what is measured, on which faces, and where the numbers go.

    settings = EvaluationSettings(rendered=40, device="cuda")
    settings.check()                     # raises FacereconError, one line

Imports no torch: the command line makes its options of these fields. Notebook 09, section 2.3.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..files.errors import FacereconError
from ..training.settings import Family, Illumination, Split, setting

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class EvaluationSettings:
    """The options of `facerecon evaluate`."""

    checkpoint: Path | None = setting(
        None, "an encoder; else $FACERECON_ENCODER or the shipped one"
    )
    rendered: int | None = setting(None, "how many rendered faces; 200 where nothing else is asked")
    detected: int = setting(50, "how many of them also as photos, where detectors find the face")
    photos: Path | None = setting(
        None, "a photo, a folder of photos, its sub-folders too, or a folder of photo shards"
    )
    ratings: Path | None = setting(
        None, "a .csv of skin tones as people see them: photo, tone (Monk's 1 to 10), or tone1 ..."
    )
    fit: bool = setting(False, "photos: also as `facerecon fit` makes them, beside the encoder's")
    data: str | None = setting(None, "shards of photos; their test part is evaluated")
    part: Part | None = setting(None, "of the photos of shards; --photos: all, --data: test")
    split: Split | None = setting(None, "of the photos of shards; default: as in training")
    seed: int = setting(1000, "of the rendered faces")
    family: Family = setting("held-out", "light and background of the rendered faces")
    wrinkles: bool = setting(False, "rendered faces with wrinkles, marks and make-up")
    scans: int = setting(50, "how many rendered faces get a scan-to-mesh error (NoW)")
    model: Path | None = setting(None, "a face model; else $FACERECON_MODEL or the shipped one")
    recognition: str | None = setting(
        None, "who judges identity: dlib (default), facenet (fetches 112 MB), none"
    )
    illumination: Illumination | None = setting(
        None, "default: photos: photo; else encoder; augmented: its training's"
    )
    augmented: bool = setting(False, "the augmented branch beside the encoder")
    unet: Path | None = setting(None, "its U-Net; else $FACERECON_UNET or the shipped one")
    device: str = setting("cpu", "cpu, cuda, or cuda:N")
    json: Path | None = setting(None, "a file for every number")
    figure: Path | None = setting(None, "a .png that shows some of the faces")

    @property
    def rendered_faces(self) -> int:
        """`rendered`, or what its default stands for."""
        if self.rendered is not None:
            return self.rendered
        return 0 if self.photos or self.data else 200

    @property
    def rendered_parts(self) -> dict[str, int]:
        """How many faces as photos, whose faces are to be found, and as crops with true points."""
        parts = dict(rendered_photos=min(self.detected, self.rendered_faces))
        parts["rendered"] = self.rendered_faces
        return {part: count for part, count in parts.items() if count}

    def check(self) -> None:
        """Raises FacereconError, one line, for an invalid value."""
        kinds = dict(family=Family, part=Part, split=Split, illumination=Illumination)
        for name, kind in kinds.items():
            value, choices = getattr(self, name), get_args(kind)
            if value is not None and value not in choices:
                raise FacereconError(f"--{name} {value}: expected {' or '.join(choices)}")
        for name in ("ratings", "fit"):
            if getattr(self, name) and self.photos is None:
                raise FacereconError(f"--{name} is of photos: add --photos")
        for name in ("rendered", "detected", "scans"):
            count = getattr(self, name)
            if count is not None and count < 0:
                raise FacereconError(f"--{name} {count}: expected 0 or more")
        for name, path, suffix in (("json", self.json, ".json"), ("figure", self.figure, ".png")):
            if path is not None and path.suffix.lower() != suffix:
                raise FacereconError(f"--{name} {path}: expected a name that ends in {suffix}")
            if path is not None and not path.parent.is_dir():
                raise FacereconError(f"--{name} {path}: there is no folder {path.parent}")
        if self.unet is not None and not self.augmented:
            raise FacereconError("--unet is of the augmented branch: add --augmented")
        if not (self.rendered_faces or self.photos or self.data):
            raise FacereconError("nothing to evaluate: ask for --rendered, --photos or --data")
