"""One photo to its face: detect, align, and fit or encode; `result_files.py` writes it down.

fitted = fit_face(load_image("me.jpg"), model, coarse_model)   # analysis by synthesis
fitted = encode_face(load_image("me.jpg"), model, encoder)     # the encoder, feed-forward
fitted = encode_face(photo, model, encoder, unet=load_unet())  # with the augmented branch's details
for fitted in encode_faces(photos, model, encoder): ...        # in a batch, or why it failed

Several photos of one person: `together.py`.

Notebook 10, section 2.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..augmented.branch import AugmentedBranch, AugmentedFaces, BaseBranch, BaseFaces, base_faces
from ..beyond.depth_network import DepthUNet
from ..beyond.wrinkles import WrinkleBranch
from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE
from ..face.coefficients import FaceCoefficients
from ..face.morphable_model import MorphableModel
from ..fitting.dense import FROM_MEAN, fit_points
from ..fitting.fit import FROM_ENCODER, FitResult, FitSettings, fit, judge
from ..fitting.gaze import Sight, find_gaze
from ..fitting.photo_light import recolour
from ..fitting.pose_start import start_from_landmarks
from ..fitting.shading import refine_identity
from ..fitting.skin import refine_skin
from ..fitting.together import fit_together
from ..networks.encoder import Encoder
from ..networks.face_networks import FaceNetwork
from ..networks.unet import DoubleHeadUNet
from ..networks.upright import encode_both_ways, encode_upright
from ..photos.crop import Crop, align, photo_to_crop
from ..photos.detection import Detection, detect, detect_each
from ..photos.landmarks import DetectionError
from ..photos.reading import Photo
from ..rendering.synthesis import Face, synthesise
from . import PHOTO_LIGHTS
from .verdict import Evidence, gather_evidence

CROPPED = "image", "valid", "landmarks"


@dataclass
class FittedPhoto:
    """A photo, its crop and its face."""

    photo: Photo
    detection: Detection
    crop: Crop
    fitted: FitResult
    face: Face  # the detailed one, if there are details
    evidence: Evidence  # of the base face
    method: str  # "dense", "together" (dense, of one person), "fit" (Adam) or "encoder"
    seconds: dict[str, float]  # of each stage
    init: str | None = None  # what fitting started from: "landmarks" or "encoder"
    checkpoint: str | None = None  # name of the encoder
    recognition: str | None = None  # name of Eq. 6's network
    detail: AugmentedFaces | None = None  # the augmented branch's
    unet: str | None = None  # name of its network
    sight: Sight | None = None  # where the eyes look; None for a model without eyeballs
    distance: float | None = None  # of F(), the mean to the person's other photos

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
    with timed(seconds, "detection"):
        detection = detect(photo, face, device=str(model.device))
        crop = align(photo.pixels, detection.landmarks)
    batch = _batch([detection], [crop], [photo.name], model)
    start = None if encoder is None else _encoded(encoder, batch, seconds)
    if start is not None:
        _check_finite(start)
    fitted = fit(
        model,
        *(batch.image, batch.valid, batch.landmarks),
        kind=batch.kind,
        settings=settings,
        coarse_model=coarse_model,
        init=start,
        recognition=recognition,
        progress=progress,
    )
    points = _points(detection, crop).to(batch.image)
    sight = find_gaze(model, fitted.coefficients, points, settings.fov_deg)
    fitted = replace(fitted, coefficients=_turned(fitted.coefficients, sight))
    result = synthesise(model, fitted.coefficients, settings.fov_deg)
    return FittedPhoto(
        *(photo, detection, crop, fitted),
        face=result,
        evidence=gather_evidence(photo, detection, crop, result),
        method="fit",
        seconds=seconds | fitted.seconds,
        sight=sight,
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
    unet: DoubleHeadUNet | DepthUNet | None = None,
    dense: bool = False,
) -> FittedPhoto:
    """`encode_faces` of one photo. Raises the error that stands in its place."""
    (done,) = encode_faces([photo], model, encoder, face, light, unet, dense)
    if isinstance(done, Exception):
        raise done
    return done


def encode_faces(
    photos: Sequence[Photo],
    model: MorphableModel,
    encoder: Encoder | None,
    face: int | None = None,
    light: str | None = None,
    unet: DoubleHeadUNet | DepthUNet | None = None,
    dense: bool = False,
) -> Iterator[FittedPhoto | DetectionError | FloatingPointError]:
    """Detect, align and encode the face of each photo, on the model's device, in one batch.

    light: one of PHOTO_LIGHTS; None is `usual_light`. unet: adds the augmented branch, or, of a
    depth network, the wrinkles of notebook 13. dense: the photo and its mirror image are encoded,
    `fit_points` moves pose and expression to the 478 points, `refine_identity` the identity to the
    shading, and `refine_skin` the skin's pattern to the photo's. encoder: None, with `dense`: the
    mean face is moved to the points, its identity too, and takes skin and grey light from the
    photo. The result is judged as a fit is, for the face without details. What `fit_face` would
    raise stands in a photo's place; raises ValueError for a model that is not bound to the points.
    """
    if encoder is None and not dense:
        raise ValueError("encoder: expected one, or None with dense=True")
    seconds: dict[str, float] = {}
    with timed(seconds, "detection", len(photos)):
        detections = detect_each(photos, face, device=str(model.device))
    method = "dense" if dense else "encoder"
    yield from encode_detected(photos, detections, model, encoder, method, light, unet, seconds)


def encode_detected(
    photos: Sequence[Photo],
    detections: Sequence[Detection | Exception],
    model: MorphableModel,
    encoder: Encoder | None,
    method: str,
    light: str | None = None,
    unet: DoubleHeadUNet | DepthUNet | None = None,
    seconds: dict[str, float] | None = None,
) -> Iterator[FittedPhoto | Exception]:
    """`encode_faces` of photos whose faces are detected; an error in a face's place stays.

    method: "encoder", "dense", or "together" if all faces are one person's. seconds: spent already.
    """
    light, seconds = light or usual_light(unet), dict(seconds or {})
    if light not in PHOTO_LIGHTS:
        raise ValueError(f"light {light!r}: expected one of {', '.join(PHOTO_LIGHTS)}")
    branch = None if encoder is None else BaseBranch(encoder, model, light)
    rows = [i for i, detection in enumerate(detections) if isinstance(detection, Detection)]
    if rows:
        faces = [detections[i] for i in rows]
        with timed(seconds, "detection", len(photos)):
            crops = [align(photos[i].pixels, detections[i].landmarks) for i in rows]
        batch = _batch(faces, crops, [photos[i].name for i in rows], model)
        points = torch.cat([_points(*face) for face in zip(faces, crops, strict=True)])
        points = points.to(batch.image)
        coefficients, sight = _solved(model, encoder, batch, points, method, seconds)
    for i, photo in enumerate(photos):
        if i not in rows:
            yield detections[i]
            continue
        k, own = rows.index(i), dict(seconds)
        one = batch[k : k + 1]
        try:
            base, detail = _finished(model, branch, unet, one, coefficients[k : k + 1], own)
        except FloatingPointError as error:
            yield error
            continue
        with timed(own, "verdict"):
            fitted = judge(model, one, base.coefficients)
            evidence = gather_evidence(photo, detections[i], crops[k], base.face)
        yield FittedPhoto(
            *(photo, detections[i], crops[k], fitted),
            face=base.face if detail is None else detail.face,
            evidence=evidence,
            method=method,
            seconds=own,
            sight=None if sight is None else sight[k : k + 1],
            init="landmarks" if encoder is None else None,
            checkpoint=None if encoder is None else encoder.name,
            detail=detail,
            unet=None if unet is None else unet.name,
        )


def _solved(
    model: MorphableModel,
    encoder: Encoder | None,
    batch: FaceBatch,
    points: Float[Tensor, "batch 478 2"],
    method: str,
    seconds: dict[str, float],
) -> tuple[FaceCoefficients, Sight | None]:
    """The encoder's answers, or the mean face, fitted unless those are asked for; eyes always."""
    dense = method != "encoder"
    if encoder is None:
        coefficients, settings = start_from_landmarks(model, batch.landmarks), FROM_MEAN
    else:
        coefficients, settings = _encoded(encoder, batch, seconds, model if dense else None), None
    if method == "together":
        with timed(seconds, "together", len(batch)):
            fitted = fit_together(model, coefficients, points, batch.image, batch.valid)
            sight = find_gaze(model, fitted, points)
        return _turned(fitted, sight), sight
    with timed(seconds, "points", len(batch)):
        fitted = coefficients
        if dense or model.dense is not None:
            fitted = fit_points(model, points, coefficients, settings)
        sight = find_gaze(model, fitted, points)
    if dense and encoder is not None:
        with timed(seconds, "shading", len(batch)):
            fitted = refine_identity(model, fitted, batch.image, batch.valid)
        with timed(seconds, "skin", len(batch)):
            fitted = refine_skin(model, fitted, batch.image, batch.valid)
    return _turned(fitted if dense else coefficients, sight), sight


def _finished(
    model: MorphableModel,
    branch: BaseBranch | None,
    unet: DoubleHeadUNet | DepthUNet | None,
    batch: FaceBatch,
    coefficients: FaceCoefficients,
    seconds: dict[str, float],
) -> tuple[BaseFaces, AugmentedFaces | None]:
    """One face in its light, and with its details."""
    _check_finite(coefficients)
    with timed(seconds, "light"):
        if branch is None:
            coefficients = recolour(model, coefficients, batch.image, batch.valid, "grey")
        else:
            coefficients = branch.relight(coefficients, batch)
        base, detail = base_faces(model, coefficients, CROP_SIZE), None
    if unet is not None:
        with timed(seconds, "detail"):
            if isinstance(unet, DepthUNet):
                detail = WrinkleBranch(unet, branch).detail(batch.image, base, batch.valid)
            else:
                detail = AugmentedBranch(unet, branch).detail(batch.image, base)
            if not all(torch.isfinite(values).all() for values in detail.maps):
                raise FloatingPointError("the U-Net's maps are not finite; is its file damaged?")
    return base, detail


def _check_finite(answer: FaceCoefficients) -> None:
    if not torch.isfinite(answer.to_vector()).all():
        raise FloatingPointError(
            "the face's numbers are not finite; is the encoder's file damaged?"
        )


def _points(detection: Detection, crop: Crop) -> Float[Tensor, "1 478 2"]:
    """In crop pixels."""
    return photo_to_crop(torch.from_numpy(detection.points), crop.matrix)[None]


def _turned(coefficients: FaceCoefficients, sight: Sight | None) -> FaceCoefficients:
    """With eyes that look where the photo's do."""
    return replace(coefficients, gaze=None if sight is None else sight.turns)


def usual_light(unet: DoubleHeadUNet | DepthUNet | None) -> str:
    """The light that a U-Net was trained with, where a photo can have it; else "photo"."""
    trained = "photo" if unet is None else unet.metadata.get("light", "photo")
    return trained if trained in PHOTO_LIGHTS else "photo"


@contextmanager
def timed(seconds: dict[str, float], stage: str, photos: int = 1) -> Iterator[None]:
    """Adds to the stage's seconds, for each of so many photos."""
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + (time.perf_counter() - start) / photos


def _batch(
    faces: list[Detection], crops: list[Crop], names: list[str], model: MorphableModel
) -> FaceBatch:
    """The crops, on the model's device."""
    parts = (torch.cat([getattr(c, name) for c in crops]) for name in CROPPED)
    return FaceBatch(*parts, faces[0].kind, names).to(model.device)


@torch.no_grad()
def _encoded(
    encoder: Encoder,
    batch: FaceBatch,
    seconds: dict[str, float],
    both_ways: MorphableModel | None = None,
) -> FaceCoefficients:
    with timed(seconds, "encoder", len(batch)):
        if both_ways is None:
            return encode_upright(encoder, batch)
        return encode_both_ways(encoder, both_ways, batch)
