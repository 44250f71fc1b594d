"""How right an encoder is: on rendered faces, where all is known, and on photos.

    found = evaluate_rendered(encoder, model, RenderedFaces(model, seed=1, family="held-out"), 200)
    found = evaluate_photos(encoder, model, sorted(Path("photos").iterdir()), network)
    for table in tables(found): console.print(table)      # of evaluation_tables
    save_figure(found.figure(), "evaluation.png")

With `detail`, the augmented branch is one more method, on the encoder's faces and in their light.
Beside the encoder stand two faces that have looked at nothing but where the face is: MEAN, the
untrained encoder's answer to every photo, and POSED, the mean face in the pose that the landmarks
give in closed form. What the encoder knows of a face is how far it is better than these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch

from ..augmented.branch import AugmentedBranch, BaseBranch
from ..data.rendered.faces import RenderedFaces
from ..face.batch import FaceBatch
from ..face.morphable_model import MorphableModel
from ..files.errors import readable_name
from ..networks.encoder import Encoder
from ..networks.recognition import FaceNetwork
from ..photos.detection import DetectionError, PhotoError, align, detect, load_image
from .evaluation import Evaluation
from .measurer import Measurer


def evaluate_rendered(
    encoder: Encoder,
    model: MorphableModel,
    faces: RenderedFaces,
    count: int = 200,
    network: FaceNetwork | None = None,
    *,
    batch: int = 16,
    scans: int = 50,
    light: str | None = None,
    detail: AugmentedBranch | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Faces 0 to count - 1 of `faces`; scan-to-mesh (`now_protocol`) of the first `scans` of them.

    All on the model's device; `faces` may be of another albedo basis of the same shape model.
    light, detail: as in `evaluate_batches`. network: for identity, as in Eq. 6; None leaves it out.
    progress: called with the number of faces done. Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count: expected 1 face or more, got {count}")
    numbers = torch.arange(count).split(batch)
    what = f"{count} rendered faces, seed {faces.seed}, family {faces.family}"
    batches = (faces.batch(part) for part in numbers)
    return evaluate_batches(
        encoder,
        model,
        batches,
        what,
        network,
        scans=scans,
        light=light,
        detail=detail,
        progress=progress,
    )


def evaluate_photos(
    encoder: Encoder,
    model: MorphableModel,
    paths: Sequence[Path],
    network: FaceNetwork | None = None,
    *,
    light: str | None = None,
    detail: AugmentedBranch | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """The largest face of each photo; a photo without one is reported in `failures`.

    With a network, also the distance of every rendering to every photo.
    Raises DetectionError, one line, where not one photo has a face.
    """
    failures: dict[str, str] = {}
    batches = list(_photo_batches(paths, failures))
    if not batches:
        first = f" (the first: {next(iter(failures.values()))})" if failures else ""
        raise DetectionError(f"no face in any of {len(paths)} photos{first}")
    what = f"{sum(map(len, batches))} photos"
    found = evaluate_batches(
        encoder,
        model,
        batches,
        what,
        network,
        light=light,
        detail=detail,
        progress=progress,
        cross=True,
    )
    found.failures, found.photos = failures, True
    return found


def evaluate_batches(
    encoder: Encoder,
    model: MorphableModel,
    batches: Iterable[FaceBatch],
    what: str,
    network: FaceNetwork | None = None,
    *,
    scans: int = 0,
    cross: bool = False,
    light: str | None = None,
    detail: AugmentedBranch | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Any faces: `what` names them. cross: keep the distances of all renderings to all photos.

    light: one of `augmented_branch.LIGHTS`; None is that of `detail`, or else the encoder's own. It
    is solved for once, on the encoder's face, and the augmented face stands in it too.
    detail: its U-Net is put on `encoder` and `model`.
    Raises DetectionError where there is no face, EncoderError for an answer that is not finite.
    """
    if light is None:
        light = "encoder" if detail is None else detail.base_branch.light
    run = Measurer(BaseBranch(encoder, model, light), detail, network)
    for batch in batches:
        run.add(batch.to(model.device), scans - len(run.names))
        if progress is not None:
            progress(len(run.names))
    if not run.names:
        raise DetectionError(f"{what}: no face to evaluate")
    return run.result(what, cross)


def _photo_batches(paths: Sequence[Path], failures: dict[str, str]) -> Iterator[FaceBatch]:
    """One photo at a time, so that detectors of either kind may be mixed."""
    for path in paths:
        name = readable_name(path)
        try:
            photo = load_image(path, name=name)
            found = detect(photo)
        except (PhotoError, DetectionError) as error:
            failures[name] = str(error)
            continue
        crop = align(photo.pixels, found.landmarks)
        yield FaceBatch(crop.image, crop.valid, crop.landmarks, found.kind, [name])
