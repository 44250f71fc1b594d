"""F() of Eq. 6: the features of a face, cut out of its picture as a recognition network needs it.

    network = load_network("dlib")                       # or "facenet", where its weights are
    photo_features = face_features(network, photo, landmarks, mask)
    features = face_features(network, rendered, landmarks, mask)     # gradients reach `rendered`
    loss = recognition_loss(features, photo_features)    # losses.py

A network recognises faces that are cut out alike. So photo and rendering go through the warp of the
photo's landmarks; one mask leaves the rendered face of both, in the network's mean colour.
Notebook 05, Eq. 6.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..face.device_constants import constant
from ..face.shapes import Images, Landmarks, Masks, expect
from .face_networks import Chip, FaceNetwork

# The 68 points without jaw, brows and lower lip, and their places in dlib's mean face; its unit is
# about the width of the brows and the height from brows to chin.
ALIGNED_POINTS = [*range(27, 55), *range(60, 65)]
MEAN_X = [0.490127, 0.490127, 0.490127, 0.490127, 0.36688, 0.426036, 0.490127, 0.554217, 0.613373,
          0.121737, 0.187122, 0.265825, 0.334606, 0.260918, 0.182743, 0.645647, 0.714428,
          0.793132, 0.858516, 0.79751, 0.719335, 0.254149, 0.340985, 0.428858, 0.490127, 0.551395,
          0.639268, 0.726104, 0.290379, 0.428096, 0.490127, 0.552157, 0.689874]  # fmt: skip
MEAN_Y = [0.203352, 0.307009, 0.409805, 0.515625, 0.587326, 0.609345, 0.628106, 0.609345,
          0.587326, 0.216423, 0.178758, 0.179852, 0.231733, 0.245099, 0.244077, 0.231733,
          0.179852, 0.178758, 0.216423, 0.244077, 0.245099, 0.780233, 0.745405, 0.727388,
          0.742578, 0.727388, 0.745405, 0.780233, 0.784792, 0.778746, 0.785343, 0.778746,
          0.784792]  # fmt: skip
_MEAN_FACE = tuple(map(complex, MEAN_X, MEAN_Y))


@torch.no_grad()
def chip_matrix(landmarks: Landmarks, chip: Chip, check: bool = True) -> Float[Tensor, "batch 2 3"]:
    """Chip pixels to image pixels, both continuous (the first pixel's centre is 0.5, 0.5).

    The similarity from the mean face to the landmarks in least squares, over complex numbers:
    a = sum(conj(t - mean t) (p - mean p)) / sum |t - mean t|^2 turns and scales, and
    b = mean p - a mean t moves. Raises ValueError for points that are not finite or lie within two
    pixels; check=False skips this and with it a GPU synchronisation.
    """
    expect("landmarks", landmarks, "batch 68 2")
    aligned = constant(tuple(ALIGNED_POINTS), torch.long, landmarks.device)
    p = torch.view_as_complex(landmarks.index_select(1, aligned).double().contiguous())
    t = constant(_MEAN_FACE, p.dtype, p.device)
    centred, middle = t - t.mean(), p.mean(1)
    a = (centred.conj() * (p - middle[:, None])).sum(1) / (centred.abs() ** 2).sum()
    b = middle - a * t.mean()
    scale = a.abs()  # image pixels to the mean face's unit
    if check and not (torch.isfinite(scale) & (scale > 2)).all():
        raise ValueError("landmarks: expected finite points of a face wider than two pixels")
    x, y, width, height = chip.box
    share = torch.ones_like(scale)  # of the box that the chip shows
    if chip.inclusive:
        pixels = scale * width  # of the image, per side of the chip
        share = (pixels - 1) / pixels * chip.size / (chip.size - 1)
    step = share * width / chip.size, share * height / chip.size  # mean face's units per pixel
    corner = torch.complex(x + width / 2 * (1 - share), y + height / 2 * (1 - share))
    columns = torch.stack([a * step[0], 1j * a * step[1], a * corner + b], -1)
    return torch.view_as_real(columns).transpose(1, 2).to(landmarks.dtype)


def cut_chips(
    image: Images,
    matrix: Float[Tensor, "batch 2 3"],
    chip: Chip,
    colour: Float[Tensor, " 3"],
    mask: Masks | None = None,
) -> Float[Tensor, "batch 3 size size"]:
    """The chips that `matrix` shows of the images; `colour` where `mask` is 0 and outside.

    Differentiable in the image. Sampled bilinearly, one sample per pixel, as dlib does: shrink a
    face that is more than twice as large as its chip first.
    """
    at = torch.arange(chip.size, device=image.device, dtype=image.dtype) + 0.5
    matrix = matrix.to(image)
    rows = at[:, None] * matrix[:, None, :, 1]  # (batch, size, 2)
    columns = at[:, None] * matrix[:, None, :, 0] + matrix[:, None, :, 2]
    points = rows[:, :, None] + columns[:, None]
    extent = constant(tuple(image.shape[:1:-1]), image.dtype, image.device)  # width, height
    colour = colour.to(image)[:, None, None]
    beyond = image - colour
    if mask is not None:
        beyond = beyond * mask.detach()
    return F.grid_sample(beyond, 2 * points / extent - 1, align_corners=False) + colour


def face_features(
    network: FaceNetwork,
    image: Images,
    landmarks: Landmarks,
    mask: Masks | None = None,
    matrix: Float[Tensor, "batch 2 3"] | None = None,
) -> Float[Tensor, "batch feature"]:
    """F() of Eq. 6, of images in [0, 1] and their landmarks in pixels.

    Photo and rendering get the photo's landmarks and one mask, 1 on the rendered face where the
    photo has pixels. Gradients reach the image alone. matrix: chip_matrix(landmarks, network.chip).
    """
    sizes = expect("image", image, "batch 3 height width")
    expect("landmarks", landmarks, "batch 68 2", **sizes)
    if mask is not None:
        expect("mask", mask, "batch 1 height width", **sizes)
    if matrix is None:
        matrix = chip_matrix(landmarks, network.chip)
    expect("matrix", matrix, "batch 2 3", **sizes)
    return network(cut_chips(image, matrix, network.chip, network.colour, mask))


def feature_distance(
    a: Float[Tensor, "*any feature"], b: Float[Tensor, "*any feature"]
) -> Float[Tensor, "*any"]:
    """Euclidean distance of features, small for one person: see FaceNetwork.same_person."""
    return (a - b).norm(dim=-1)
