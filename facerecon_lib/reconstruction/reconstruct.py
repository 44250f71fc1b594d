"""One photo to its face: detect, align, and fit or encode; `result_files.py` writes it down.

fitted = fit_face(load_image("me.jpg"), model, coarse_model)   # analysis by synthesis
fitted = encode_face(load_image("me.jpg"), model, encoder)     # the encoder, feed-forward
fitted = encode_face(photo, model, encoder, unet=load_unet())  # with the augmented branch's details

Notebook 10, section 2.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..augmented.branch import AugmentedBranch, AugmentedFaces, BaseBranch, base_faces
from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE
from ..face.coefficients import FaceCoefficients
from ..face.morphable_model import MorphableModel
from ..fitting.dense import FROM_MEAN, fit_points
from ..fitting.fit import FROM_ENCODER, FitResult, FitSettings, fit, judge
from ..fitting.photo_light import recolour
from ..fitting.pose_start import start_from_landmarks
from ..networks.encoder import Encoder
from ..networks.face_networks import FaceNetwork
from ..networks.unet import DoubleHeadUNet
from ..networks.upright import encode_both_ways, encode_upright
from ..photos.crop import Crop, align, photo_to_crop
from ..photos.detection import Detection, detect
from ..photos.reading import Photo
from ..rendering.synthesis import Face, synthesise
from . import PHOTO_LIGHTS
from .verdict import Evidence, gather_evidence


@dataclass
class FittedPhoto:
    """A photo, its crop and its face."""

    photo: Photo
    detection: Detection
    crop: Crop
    fitted: FitResult
    face: Face  # the detailed one, if there are details
    evidence: Evidence  # of the base face
    method: str  # "dense", "fit" (Adam) or "encoder"
    seconds: dict[str, float]  # of each stage
    init: str | None = None  # what fitting started from: "landmarks" or "encoder"
    checkpoint: str | None = None  # name of the encoder
    recognition: str | None = None  # name of Eq. 6's network
    detail: AugmentedFaces | None = None  # the augmented branch's
    unet: str | None = None  # name of its network

    @property
    def reasons(self) -> list[str]:
        """Why the face is not to be relied on: the fit's, then the evidence's."""
        return [*self.fitted.reasons[0], *self.evidence.reasons()]


def fit_face(
    photo: Photo,
    model: MorphableModel,
    coarse_model: MorphableModel | None = None,
    face: int | None = None,
    settings: FitSettings | None = None,
    recognition: FaceNetwork | None = None,
    progress: Callable[[str, int, int, float], None] | None = None,
    encoder: Encoder | None = None,
) -> FittedPhoto:
    """Detect, align and fit the face of one photo, on the model's device.

    face: which of several, 1 the largest. encoder: start from its answer instead of the landmarks.
    Raises DetectionError without a face, and FloatingPointError when the loss is not finite.
    """
    settings = settings or (FitSettings() if encoder is None else FROM_ENCODER)
    seconds: dict[str, float] = {}
    detection, crop, batch = _aligned(photo, model, face, seconds)
    fitted = fit(
        model,
        *(batch.image, batch.valid, batch.landmarks),
        kind=batch.kind,
        settings=settings,
        coarse_model=coarse_model,
        init=None if encoder is None else _encoded(encoder, batch, seconds),
        recognition=recognition,
        progress=progress,
    )
    result = synthesise(model, fitted.coefficients, settings.fov_deg)
    return FittedPhoto(
        *(photo, detection, crop, fitted),
        face=result,
        evidence=gather_evidence(photo, detection, crop, result),
        method="fit",
        seconds=seconds | fitted.seconds,
        init="landmarks" if encoder is None else "encoder",
        checkpoint=None if encoder is None else encoder.name,
        recognition=None if recognition is None else recognition.name,
    )


def encode_face(
    photo: Photo,
    model: MorphableModel,
    encoder: Encoder | None,
    face: int | None = None,
    light: str | None = None,
    unet: DoubleHeadUNet | None = None,
    dense: bool = False,
) -> FittedPhoto:
    """Detect, align and encode the face of one photo, on the model's device.

    light: one of PHOTO_LIGHTS; None is `usual_light`. unet: adds the augmented branch. dense: the
    photo and its mirror image are encoded, then `fit_points` moves pose and expression to the 478
    points. encoder: None, with `dense`: the mean face is moved there, its identity too, and takes
    skin and grey light from the photo. The result is judged as a fit is, for the face without
    details; errors as in `fit_face`, and ValueError for a model that is not bound to the points.
    """
    light = light or usual_light(unet)
    if light not in PHOTO_LIGHTS:
        raise ValueError(f"light {light!r}: expected one of {', '.join(PHOTO_LIGHTS)}")
    seconds: dict[str, float] = {}
    detection, crop, batch = _aligned(photo, model, face, seconds)
    if encoder is None:
        coefficients, settings = start_from_landmarks(model, batch.landmarks), FROM_MEAN
    else:
        coefficients, settings = _encoded(encoder, batch, seconds, model if dense else None), None
    if dense:
        with _timed(seconds, "points"):
            points = photo_to_crop(torch.from_numpy(detection.points), crop.matrix)[None]
            coefficients = fit_points(model, points.to(batch.image), coefficients, settings)
    with _timed(seconds, "light"):
        if encoder is None:
            coefficients = recolour(model, coefficients, batch.image, batch.valid, "grey")
        else:
            base_branch = BaseBranch(encoder, model, light)
            coefficients = base_branch.relight(coefficients, batch)
    base, detail = base_faces(model, coefficients, CROP_SIZE), None
    if unet is not None:
        with _timed(seconds, "detail"):
            detail = AugmentedBranch(unet, base_branch).detail(batch.image, base)
            if not all(torch.isfinite(values).all() for values in detail.maps):
                raise FloatingPointError("the U-Net's maps are not finite; is its file damaged?")
    return FittedPhoto(
        *(photo, detection, crop, judge(model, batch, coefficients)),
        face=base.face if detail is None else detail.face,
        evidence=gather_evidence(photo, detection, crop, base.face),
        method="dense" if dense else "encoder",
        seconds=seconds,
        init="landmarks" if encoder is None else None,
        checkpoint=None if encoder is None else encoder.name,
        detail=detail,
        unet=None if unet is None else unet.name,
    )


def usual_light(unet: DoubleHeadUNet | None) -> str:
    """The light that a U-Net was trained with, where a photo can have it; else "photo"."""
    trained = "photo" if unet is None else unet.metadata.get("light", "photo")
    return trained if trained in PHOTO_LIGHTS else "photo"


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


def _aligned(
    photo: Photo, model: MorphableModel, face: int | None, seconds: dict[str, float]
) -> tuple[Detection, Crop, FaceBatch]:
    """The batch is on the model's device."""
    with _timed(seconds, "detection"):
        detection = detect(photo, face, device=str(model.device))
        crop = align(photo.pixels, detection.landmarks)
        batch = FaceBatch(crop.image, crop.valid, crop.landmarks, detection.kind, [photo.name])
        return detection, crop, batch.to(model.device)


@torch.no_grad()
def _encoded(
    encoder: Encoder,
    batch: FaceBatch,
    seconds: dict[str, float],
    both_ways: MorphableModel | None = None,
) -> FaceCoefficients:
    with _timed(seconds, "encoder"):
        if both_ways is None:
            coefficients = encode_upright(encoder, batch)
        else:
            coefficients = encode_both_ways(encoder, both_ways, batch)
        if not torch.isfinite(coefficients.to_vector()).all():
            raise FloatingPointError("the encoder's answer is not finite; is its file damaged?")
        return coefficients
