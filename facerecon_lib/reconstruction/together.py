"""Several photos of one person: who is in them by F(), then one identity and albedo for all.

    for done in encode_together(photos, model, encoder, network): ...    # a face, or why not

A photo of somebody else is left out, and of several faces the person's is taken. `person_files.py`
writes the person down. Notebook 10, section 9.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..face.morphable_model import MorphableModel
from ..files.errors import FacereconError
from ..networks.encoder import Encoder
from ..networks.face_networks import FaceNetwork
from ..networks.recognition import face_features
from ..photos.crop import align
from ..photos.detection import Detection, detect_each
from ..photos.reading import Photo
from .reconstruct import FittedPhoto, encode_detected, timed

MOST_FACES = 6  # of a photo: the person is among the largest
ROUNDS = 5  # of comparing every face with all of the person's


class TogetherError(FacereconError):
    """A photo that cannot be taken together with the others. One line: which, why, what to do."""


class Choice(NamedTuple):
    """Of each photo: which face is the person's, None if none, and how far its nearest one is."""

    faces: list[int | None]
    distances: list[float]  # of F(), the mean to the person's faces in the other photos
    tied: bool  # as many photos show somebody else


def encode_together(
    photos: Sequence[Photo],
    model: MorphableModel,
    encoder: Encoder,
    network: FaceNetwork,
    face: int | None = None,
    keep_strangers: bool = False,
) -> Iterator[FittedPhoto | Exception]:
    """The person's face in each photo, with one identity and one albedo.

    face: which of several, in every photo; None: the one that the other photos show.
    keep_strangers: every photo's face is the person's, the largest where it has several.
    A photo that is left out has in its place the error that says why: no face, the same file again,
    a stranger, or nobody to be together with. Where strangers cannot be told from the person, one
    error stands in the place of all.
    """
    several = face is None and not keep_strangers
    seconds: dict[str, float] = {}
    with timed(seconds, "detection", len(photos)):
        faces = _candidates(photos, face, several, str(model.device))
    rows = [i for i, seen in enumerate(faces) if isinstance(seen, list)]
    with timed(seconds, "recognition", len(photos)):
        features = [_features(network, photos[i], faces[i], str(model.device)) for i in rows]
    names, limit = [photos[i].name for i in rows], network.same_person
    choice = same_person(features, float("inf") if keep_strangers else limit)
    person = [name for name, k in zip(names, choice.faces, strict=True) if k is not None]
    detections, distances = list(faces), {}
    for i, k, distance in zip(rows, choice.faces, choice.distances, strict=True):
        distances[i], name, far = distance, photos[i].name, f"F() is {distance:.2f} off"
        far += f", of one person's photos less than {limit:g}"
        if len(rows) == 1:
            why = f"{name}: is the only photo left; --together needs two of one person"
        elif k is None:
            why = f"{name}: is not of the person in {_listed(person)} ({far}); left out: "
            why += "--keep-strangers takes it in"
        else:
            detections[i] = faces[i][k]
            continue
        detections[i] = TogetherError(why)
    if choice.tied:
        far = f"F() is {max(choice.distances):.2f} off, of one person's photos less than {limit:g}"
        error = TogetherError(
            f"{_listed(names, len(names))}: who is the person and who the stranger cannot be told "
            f"({far}); leave the strangers out, or add --keep-strangers"
        )
        detections = [error if i in rows else seen for i, seen in enumerate(detections)]
    results = encode_detected(photos, detections, model, encoder, "together", seconds=seconds)
    for i, done in enumerate(results):
        fitted = isinstance(done, FittedPhoto)
        yield replace(done, distance=distances[i]) if fitted else done


def same_person(features: Sequence[Float[Tensor, "face feature"]], limit: float) -> Choice:
    """The face that most photos show. features: of each photo's faces, the largest first.

    First the face that is nearer than `limit` to one in most photos (of equals the larger, then the
    nearer one), then, as often as that changes anything, the faces whose mean distance to those in
    the other photos is.
    """
    if not features:
        return Choice([], [], False)
    every, sizes = torch.cat([*features]), [len(faces) for faces in features]
    parts = torch.arange(len(every)).split(sizes)
    photo = torch.cat([torch.full_like(part, i) for i, part in enumerate(parts)])
    rank = torch.cat([part - part[0] for part in parts])
    between = torch.cdist(every, every)

    def nearest(far: Float[Tensor, " face"]) -> list[int]:
        """Of each photo."""
        return [int(part[far[part].argmin()]) for part in parts]

    def near(far: Float[Tensor, " face"]) -> list[int]:
        return [k for k in nearest(far) if far[k] < limit]

    def preferred(i: int) -> tuple[int, int, float]:
        return len(groups[i]), -int(rank[groups[i]].sum()), -float(between[i, groups[i]].mean())

    groups = [near(row) for row in between]
    best = max(range(len(groups)), key=preferred)
    person = groups[best]
    tied = any(
        len(group) == len(person)
        and not set(group) & set(person)
        and set(photo[group].tolist()) != set(photo[person].tolist())
        for group in groups
    )
    for _ in range(ROUNDS):
        other = photo[:, None] != photo[person]
        far = (between[:, person] * other).sum(1) / other.sum(1).clamp(min=1)
        settled = near(far)
        if len(settled) < 2 or settled == person:
            break
        person = settled
    whose = nearest(far)
    faces = [int(rank[k]) if k in person else None for k in whose]
    return Choice(faces, far[whose].tolist(), tied)


def _candidates(
    photos: Sequence[Photo], face: int | None, several: bool, device: str
) -> list[list[Detection] | Exception]:
    """The faces of each photo, the largest first; all if several, else number `face`."""
    first = detect_each(photos, face, device=device)
    hashes = [photo.sha256 for photo in photos]
    result: list[list[Detection] | Exception] = []
    for i, (photo, found) in enumerate(zip(photos, first, strict=True)):
        same = photos[hashes.index(hashes[i])] if hashes[i] is not None else photo
        if same is not photo:
            why = f"{photo.name}: is the same file as {same.name}; left out"
            result.append(TogetherError(why))
        elif isinstance(found, Detection):
            more = range(2, 1 + min(found.faces_found, MOST_FACES) * several)
            seen = [found, *(detect_each([photo], number, device=device)[0] for number in more)]
            result.append([one for one in seen if isinstance(one, Detection)])
        else:
            result.append(found)
    return result


@torch.no_grad()
def _features(
    network: FaceNetwork, photo: Photo, faces: Sequence[Detection], device: str
) -> Float[Tensor, "face feature"]:
    crops = [align(photo.pixels, face.landmarks) for face in faces]
    parts = (torch.cat([getattr(c, k) for c in crops]) for k in ("image", "landmarks", "valid"))
    return face_features(network, *(part.to(device) for part in parts)).cpu()


def _listed(names: Sequence[str], most: int = 3) -> str:
    """Names on a line: the first ones, and how many more."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
