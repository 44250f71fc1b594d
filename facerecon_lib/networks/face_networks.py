"""The face-recognition networks, and where their weights come from.

    network = load_network("dlib")                       # frozen; chips in [0, 1] -> features
    networks()                                           # which are here, and on which terms

"dlib" ships: 128 numbers of length about 1.4. "facenet" is facenet-pytorch's InceptionResnetV1 of
VGGFace2, the report's kind of network: 512 numbers of length 1, and 112 MB to fetch. Notebook 05,
Eq. 6.
"""

import importlib.util
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn

from ..face.shapes import expect
from ..files.downloads import DownloadError, fetch, sha256_of
from ..files.errors import FacereconError, one_line
from ..files.weights import read_weights, shipped_file
from .dlib_resnet import DlibNetwork


@dataclass(frozen=True)
class Chip:
    """A network's input: `size` pixels per side that show `box` (x, y, width, height) of dlib's
    mean face. inclusive: as dlib's, the centres of the border pixels lie on the border."""

    size: int
    box: tuple[float, float, float, float]
    inclusive: bool = False


CHIPS = {
    "dlib": Chip(150, (-0.25, -0.25, 1.5, 1.5), inclusive=True),
    # MTCNN's box with facenet-pytorch's margin of 14, the median of 13 photos (the middle of x by
    # symmetry). Like facenet's training pictures it is not square, and is stretched.
    "facenet": Chip(160, (-0.165, -0.475, 1.33, 1.75)),
}
DLIB_FILE, DLIB_FORMAT = "dlib_resnet.safetensors", "facerecon-dlib-resnet-1"
FACENET_URL = (
    "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"
    "20180402-114759-vggface2.pt"
)
# Its release names no digest; at least six projects that fetched it have this one.
FACENET_SHA256 = "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b"
DLIB_TERMS = "CC0 1.0"
FACENET_TERMS = "code MIT; weights trained on VGGFace2, released for research"


class RecognitionError(FacereconError):
    """An unknown network, or unusable weights. One line: what is wrong, and what to do."""


class FaceNetwork(nn.Module):
    """Chips in [0, 1] to features; frozen, and always in eval mode.

    chip: its input. colour: the mean of its training pictures, in [0, 1], which becomes zero.
    same_person: two photos whose features are nearer than this are most likely of one person.
    """

    def __init__(
        self, name: str, layers: nn.Module, mean: tuple, divisor: float, same_person: float
    ):
        super().__init__()
        self.name, self.layers, self.chip, self.same_person = name, layers, CHIPS[name], same_person
        self.divisor = divisor  # in grey levels of 255
        self.register_buffer("colour", torch.tensor(mean) / 255)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        return super().train(False)  # dropout and batch statistics are for its own training

    def forward(self, chips: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch feature"]:
        """Raises ValueError for chips of another size."""
        expect("chips", chips, f"batch 3 {self.chip.size} {self.chip.size}")
        return self.layers((chips - self.colour[:, None, None]) * (255 / self.divisor))


def load_network(
    name: str = "dlib",
    *,
    device: str | torch.device = "cpu",
    file: Path | None = None,
    allow_download: bool = False,
) -> FaceNetwork:
    """A face-recognition network with its weights.

    file: of weights, instead of those that ship or `facenet_file()`. allow_download: fetch
    facenet's.
    Raises RecognitionError for weights that are missing, damaged or another's.
    """
    if name == "facenet":
        return _load_facenet(file or facenet_file(), allow_download).to(device)
    if name != "dlib":
        raise RecognitionError(f"network {name!r} is unknown; choose {' or '.join(CHIPS)}")
    path, maker = file or shipped_file(DLIB_FILE), "data_scripts/convert_dlib_network.py"
    state, _ = read_weights(path, DLIB_FORMAT, RecognitionError, maker, "file of dlib's network")
    with torch.device("meta"):  # draws no random numbers
        layers = DlibNetwork()
    layers.load_state_dict(state, assign=True)
    layers.to(memory_format=torch.channels_last)  # a third faster on the CPU for one picture
    mean = 122.782, 117.001, 104.298
    return FaceNetwork("dlib", layers, mean, 256.0, same_person=0.6).to(device)


def networks() -> list[dict[str, str | bool]]:
    """Each network's name, task, whether it is ready, licence, and what to do if not."""
    facenet = facenet_file() if importlib.util.find_spec("facenet_pytorch") else None
    optional = "optional, fetches 112 MB: facerecon fit --recognition facenet"

    def row(name: str, file: Path | None, licence: str, todo: str) -> dict[str, str | bool]:
        ready = file is not None and file.is_file()
        facts = {"name": name, "task": "who it is (Eq. 6)", "ready": ready, "licence": licence}
        return facts | {"todo": "" if ready else todo}

    return [
        row("dlib's ResNet", shipped_file(DLIB_FILE), DLIB_TERMS, "reinstall"),
        row("facenet (InceptionResnetV1)", facenet, FACENET_TERMS, optional),
    ]


def facenet_file() -> Path:
    """Where facenet's weights lie, or would: in the cache that facenet-pytorch uses too."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")
    home = Path(os.environ.get("TORCH_HOME") or cache).expanduser()
    return home / "checkpoints" / FACENET_URL.rsplit("/", 1)[1]


def _load_facenet(path: Path, allow_download: bool) -> FaceNetwork:
    todo = "load_network('facenet', allow_download=True) fetches its weights (112 MB)"
    url = FACENET_URL if allow_download else None
    check_file("facenet's weights", path, FACENET_SHA256, todo, url=url)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how facenet-pytorch loads its own
            from facenet_pytorch import InceptionResnetV1

            weights = torch.load(path, map_location="cpu", weights_only=True)
        with torch.device("meta"):  # no numbers: the file must have them all
            layers = InceptionResnetV1()
        # without the classifier of the people in VGGFace2
        weights = {name: v for name, v in weights.items() if not name.startswith("logits.")}
        layers.load_state_dict(weights, strict=True, assign=True)
    except ImportError as error:
        raise RecognitionError(
            f"facenet needs facenet-pytorch, which does not import ({one_line(error)}); "
            "pip install --no-deps facenet-pytorch"
        ) from None
    # FaceNet's own threshold, 1.1 of the squared distance (Schroff et al., 2015)
    return FaceNetwork("facenet", layers, (127.5, 127.5, 127.5), 128.0, same_person=1.05)


def check_file(what: str, path: Path, sha256: str, todo: str, url: str | None = None) -> None:
    """Check a published file; fetch it if it is missing and has a `url`. Raises RecognitionError.

    sha256: its digest, or how that begins. todo: what to do if it is missing.
    """
    if not path.is_file():
        if url is None:
            raise RecognitionError(f"{what}: {path} is not there; {todo}")
        try:
            fetch(url, path, sha256, Console(stderr=True))
        except DownloadError as error:
            raise RecognitionError(
                f"{what}: {error}; fetch {url} elsewhere and put the file at {path}"
            ) from None
    try:
        actual = sha256_of(path)
    except OSError as error:
        raise RecognitionError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not actual.startswith(sha256):
        raise RecognitionError(
            f"{path}: is damaged or another file: {path.stat().st_size} bytes of SHA-256 "
            f"{actual[:12]}..., expected {sha256[:12]}...; delete it and fetch it again"
        )
