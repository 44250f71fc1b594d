"""How right an encoder is: on rendered faces, whose truth is known, and on photos.

    branch = BaseBranch(encoder, model, "encoder")             # or an AugmentedBranch on it
    evaluation = evaluate_rendered(branch, RenderedFaces(model, seed=1, family="held-out"), 200)
    evaluation = evaluate_photos(branch, sorted(Path("photos").iterdir()), network)
    for table in tables(evaluation): console.print(table)      # of tables.py

An augmented branch is one more method, on the encoder's faces and in their light. The yardstick:
MEAN, an untrained encoder's answer, and POSED, the mean face in the pose of the landmarks.

Notebook 09, section 2.3.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch

from ..augmented.branch import AugmentedBranch, BaseBranch
from ..data.rendered.faces import RenderedFaces
from ..face.batch import FaceBatch
from ..files.errors import readable_name
from ..networks.face_networks import FaceNetwork
from ..photos.crop import align
from ..photos.detection import detect
from ..photos.landmarks import DetectionError
from ..photos.reading import PhotoError, load_image
from .evaluation import Evaluation
from .measurer import Measurer

Progress = Callable[[int], None]  # of the number of faces done


def evaluate_rendered(
    branch: BaseBranch | AugmentedBranch,
    faces: RenderedFaces,
    count: int = 200,
    network: FaceNetwork | None = None,
    *,
    batch: int = 16,
    scans: int = 50,
    progress: Progress | None = None,
) -> Evaluation:
    """Faces 0 to count - 1 of `faces`; scan-to-mesh (`now_protocol`) of the first `scans` of them.

    All on one device; `faces` may have another albedo basis. Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count: expected 1 face or more, got {count}")
    what = f"{count} rendered faces, seed {faces.seed}, family {faces.family}"
    batches = (faces.batch(indices) for indices in torch.arange(count).split(batch))
    return evaluate_batches(branch, batches, what, network, scans=scans, progress=progress)


def evaluate_photos(
    branch: BaseBranch | AugmentedBranch,
    paths: Sequence[Path],
    network: FaceNetwork | None = None,
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """The largest face of each photo; `failures` lists the photos without one.

    With a network, also the distance of every rendering to every photo.
    Raises DetectionError, one line, where no photo has a face.
    """
    failures: dict[str, str] = {}
    batches = list(_photo_batches(paths, failures))
    if not batches:
        first = f" (the first: {next(iter(failures.values()))})" if failures else ""
        raise DetectionError(f"no face in any of {len(paths)} photos{first}")
    evaluation = evaluate_batches(
        branch, batches, f"{len(batches)} photos", network, cross=True, progress=progress
    )
    evaluation.failures, evaluation.photos = failures, True
    return evaluation


def evaluate_batches(
    branch: BaseBranch | AugmentedBranch,
    batches: Iterable[FaceBatch],
    what: str,
    network: FaceNetwork | None = None,
    *,
    scans: int = 0,
    cross: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Any faces; `what` names them.

    network: for identity, as in Eq. 6. cross: keep the distances of all renderings to all photos.
    Raises DetectionError where there is no face, EncoderError for an answer that is not finite.
    """
    measurer = Measurer(what, branch, network)
    names = measurer.evaluation.names
    for batch in batches:
        measurer.add(batch.to(measurer.model.device), scans - len(names))
        if progress is not None:
            progress(len(names))
    if not names:
        raise DetectionError(f"{what}: no face to evaluate")
    return measurer.finish(cross)


def _photo_batches(paths: Sequence[Path], failures: dict[str, str]) -> Iterator[FaceBatch]:
    """One photo per batch, so that detectors of either kind may be mixed."""
    for path in paths:
        name = readable_name(path)
        try:
            photo = load_image(path, name=name)
            detection = detect(photo)
        except (PhotoError, DetectionError) as error:
            failures[name] = str(error)
            continue
        crop = align(photo.pixels, detection.landmarks)
        yield FaceBatch(crop.image, crop.valid, crop.landmarks, detection.kind, [name])
