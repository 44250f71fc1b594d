"""The face-recognition networks: where their weights come from, and what they want to see.

    network = load_network("dlib")                       # frozen; chips in [0, 1] -> features
    networks()                                           # which are here, and on which terms

`recognition.py` cuts the chips and is what to call. A network comes with its weights or not at all:
facenet's is built without numbers and filled from the checked file, dlib's is read from its file.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn

from ..files.downloads import DownloadError, fetch, sha256_of
from ..files.errors import FacereconError, one_line
from .dlib_resnet import DlibFileError, read_dlib_network


@dataclass(frozen=True)
class Chip:
    """What a network sees: `size` pixels a side, showing `box` (x, y, width, height) of dlib's mean
    face. inclusive: the centres of the border pixels lie on the border, as dlib cuts its chips,
    which shows half a pixel of the photo less on every side."""

    size: int
    box: tuple[float, float, float, float]
    inclusive: bool = False


CHIPS = {
    "dlib": Chip(150, (-0.25, -0.25, 1.5, 1.5), inclusive=True),
    # Where MTCNN's box with facenet-pytorch's margin of 14 lies, the median of 13 photos (the
    # middle of x by symmetry). Like facenet's training pictures it is not square, and is stretched.
    "facenet": Chip(160, (-0.165, -0.475, 1.33, 1.75)),
}
DLIB_FILE = "dlib_face_recognition_resnet_model_v1.dat"
DLIB_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
FACENET_URL = (
    "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"
    "20180402-114759-vggface2.pt"
)
# Its release names no digest; this one is written down by at least six projects that fetched it.
FACENET_SHA256 = "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b"
DLIB_TODO = "pip install --no-deps face-recognition-models"
DLIB_AGAIN = "pip install --no-deps --force-reinstall face-recognition-models"
FACENET_TODO = "load_network('facenet', allow_download=True) fetches its weights (112 MB)"
DLIB_TERMS = "CC0 1.0"
FACENET_TERMS = "code MIT; weights trained on VGGFace2, released for research"


class RecognitionError(FacereconError):
    """No network, or not the one that was asked for. One line: what is wrong, and what to do."""


class FaceNetwork(nn.Module):
    """Chips in [0, 1] to features; frozen, and always as in use: nothing in it is drawn or learns.

    name: "dlib" or "facenet". chip: what it wants to see. colour: the mean of its training
    pictures, in [0, 1], which counts as nothing. same_person: two photos' features nearer than
    this are most likely of one person.
    """

    def __init__(
        self, name: str, layers: nn.Module, mean: tuple, divisor: float, same_person: float
    ):
        super().__init__()
        self.name, self.layers, self.chip, self.same_person = name, layers, CHIPS[name], same_person
        self.divisor = divisor  # in grey levels of 255
        self.register_buffer("colour", torch.tensor(mean) / 255)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> FaceNetwork:
        return super().train(False)  # dropout and batch statistics are for its own training

    def forward(self, chips: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch feature"]:
        """Raises ValueError for chips of another size."""
        size = self.chip.size
        if chips.ndim != 4 or chips.shape[1:] != (3, size, size):
            raise ValueError(
                f"chips: expected (batch, 3, {size}, {size}) in [0, 1], got {tuple(chips.shape)}"
            )
        return self.layers((chips - self.colour[:, None, None]) * (255 / self.divisor))


# The networks -----------------------------------------------------------------------------------


def load_network(
    name: str = "dlib",
    *,
    device: str | torch.device = "cpu",
    file: Path | None = None,
    sha256: str | None = None,
    allow_download: bool = False,
) -> FaceNetwork:
    """A face-recognition network with its weights.

    name: "dlib" or "facenet". file: the weights, instead of where they usually lie (the package
    face-recognition-models; $TORCH_HOME/checkpoints, where facenet-pytorch keeps them too).
    sha256: what the file must have, instead of the digest of the official one.
    allow_download: fetch facenet's weights where there is no such file.
    Raises RecognitionError, one line, when the weights are not here, cannot be fetched, are damaged
    or are of another network.
    """
    if name not in CHIPS:
        raise RecognitionError(f"network {name!r} is unknown; choose {' or '.join(CHIPS)}")
    load = _load_dlib if name == "dlib" else _load_facenet
    return load(file, sha256, allow_download).to(device)


def networks() -> list[dict[str, str | bool]]:
    """Which networks are here: name, task, ready, licence, and what to do if not."""
    facenet_code = importlib.util.find_spec("facenet_pytorch") is not None
    rows = [
        ("dlib's ResNet", dlib_file(), DLIB_TERMS, DLIB_TODO),
        ("facenet (InceptionResnetV1)", facenet_file() if facenet_code else None, FACENET_TERMS,
         "optional, fetches 112 MB: facerecon fit --recognition facenet"),
    ]  # fmt: skip
    return [
        {
            "name": name,
            "task": "who it is (Eq. 6)",
            "ready": file is not None and file.is_file(),
            "licence": licence,
            "todo": "" if file is not None and file.is_file() else todo,
        }
        for name, file, licence, todo in rows
    ]


def dlib_file() -> Path | None:
    """dlib's weights, found without importing their package (that needs pkg_resources)."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], "models", DLIB_FILE)


def facenet_file() -> Path:
    """Where facenet's weights lie, or would: in the cache that facenet-pytorch uses too."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")
    home = Path(os.environ.get("TORCH_HOME") or cache).expanduser()
    return home / "checkpoints" / FACENET_URL.rsplit("/", 1)[1]


def _load_dlib(file: Path | None, sha256: str | None, allow_download: bool) -> FaceNetwork:
    path = file or dlib_file()
    if path is None or not path.is_file():
        where = f"{path} is not there" if path else "face-recognition-models is not installed"
        raise RecognitionError(f"dlib's weights: {where}; {DLIB_TODO}")
    _check_digest(path, sha256 or DLIB_SHA256, DLIB_AGAIN)
    try:
        layers = read_dlib_network(path)
    except (DlibFileError, OSError) as error:
        raise RecognitionError(f"{path}: {one_line(error)}") from None
    return FaceNetwork("dlib", layers, (122.782, 117.001, 104.298), 256.0, same_person=0.6)


def _load_facenet(file: Path | None, sha256: str | None, allow_download: bool) -> FaceNetwork:
    path = file or facenet_file()
    sha256 = sha256 or FACENET_SHA256
    if not path.is_file():
        if not allow_download:
            raise RecognitionError(f"facenet's weights: {path} is not there; {FACENET_TODO}")
        try:
            fetch(FACENET_URL, path, sha256, Console(stderr=True))
        except DownloadError as error:
            raise RecognitionError(
                f"facenet's weights: {error}; put the file at {path}, or take 'dlib'"
            ) from None
    _check_digest(path, sha256, "delete it and fetch it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how facenet-pytorch loads its own
            from facenet_pytorch import InceptionResnetV1
        with torch.device("meta"):  # no numbers at all: what the file lacks cannot be made up
            layers = InceptionResnetV1()
        layers.load_state_dict(_read_facenet(path), strict=True, assign=True)
    except ImportError as error:
        raise RecognitionError(
            f"facenet needs facenet-pytorch, which does not import ({one_line(error)}); "
            "pip install --no-deps facenet-pytorch"
        ) from None
    except Exception as error:  # a foreign file can fail in any way
        raise RecognitionError(
            f"{path}: is not the weights of InceptionResnetV1 ({one_line(error)[:200]})"
        ) from None
    # FaceNet's own threshold, 1.1 of the squared distance (Schroff et al., 2015)
    return FaceNetwork("facenet", layers, (127.5, 127.5, 127.5), 128.0, same_person=1.05)


def _read_facenet(path: Path) -> dict[str, Tensor]:
    """The tensors but for the classifier of the people in VGGFace2; no pickled code is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value for name, value in weights.items() if not name.startswith("logits.")}


def _check_digest(path: Path, sha256: str, todo: str) -> None:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise RecognitionError(f"{path}: cannot be read ({error.strerror or error})") from None
    if found != sha256:
        raise RecognitionError(
            f"{path}: is damaged or another file: {path.stat().st_size} bytes of SHA-256 "
            f"{found[:12]}..., expected {sha256[:12]}...; {todo}"
        )
