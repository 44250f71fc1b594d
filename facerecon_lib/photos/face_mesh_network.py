"""MediaPipe's two face networks: a detector of faces, and a mesh of 478 points on one of them.

    detector, mesh = load_networks()                     # in eval mode, float32
    boxes, keypoints, scores = detector(pictures)        # (n, 128, 128, RGB), 896 guesses each
    points, score = mesh(crops)                          # (n, 192, 192, RGB): (n, 478, 2), (n,)

BlazeFace (Bazarevsky et al., 2019, arXiv:1907.05047) and Attention Mesh (Grishchenko et al., 2020,
arXiv:2006.10962), converted by data_scripts/convert_face_mesh.py. The original's depth is left out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..face.dense_points import FIRST_IRIS, POINTS
from ..files.errors import FacereconError
from ..files.weights import read_weights, shipped_file

FORMAT, MAKER = "facerecon-face-mesh-1", "data_scripts/convert_face_mesh.py"
DETECTOR_SIZE, MESH_SIZE = 128, 192  # px: the networks' square inputs


class FaceMeshError(FacereconError):
    """The networks' file is missing or damaged. One line: what is wrong, and what to do."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one thread: on a busy machine two took small convolutions ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Block(nn.Module):
    """act(x' + pointwise(depthwise(x))).

    x' is x; where widths differ, with channels of zeros; at stride 2, the maxima of 2 x 2 pixels.
    """

    def __init__(self, channels: int, out: int, stride: int, activation: nn.Module):
        super().__init__()
        pad = 1 if stride == 1 else 0
        self.depthwise = nn.Conv2d(channels, channels, 3, stride, pad, groups=channels)
        self.pointwise = nn.Conv2d(channels, out, 1)
        self.activation, self.stride, self.more = activation, stride, out - channels

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d i j"]:
        halved = self.stride == 2  # TensorFlow pads an even size to the right and below alone
        change = self.pointwise(self.depthwise(F.pad(x, (0, 1, 0, 1)) if halved else x))
        x = F.max_pool2d(x, 2) if halved else x
        return self.activation(F.pad(x, (0, 0, 0, 0, 0, self.more)) + change)


def _blocks(first: int, *widths: int, halve: tuple[int, ...] = (), relu=False) -> nn.Sequential:
    """Blocks from `first` channels to each of `widths`; those numbered in `halve` have stride 2."""
    sizes = zip((first, *widths), widths, strict=False)
    return nn.Sequential(*(
        Block(a, b, 2 if i in halve else 1, nn.ReLU() if relu else nn.PReLU(b))
        for i, (a, b) in enumerate(sizes)
    ))  # fmt: skip


def _narrowed(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 32, 1), nn.PReLU(32), *_blocks(32, 32))


class BlazeFace(nn.Module):
    """BlazeFace for faces of a fifth of the picture or more: 896 boxes with six keypoints each."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, 2)
        fine = 24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88
        self.fine = _blocks(24, *fine, halve=(2, 5), relu=True)
        self.coarse = _blocks(88, 96, 96, 96, 96, 96, halve=(0,), relu=True)
        # at each place of the map two boxes, or six: a score, and 16 numbers
        self.scores = nn.ModuleList([nn.Conv2d(88, 2, 1), nn.Conv2d(96, 6, 1)])
        self.boxes = nn.ModuleList([nn.Conv2d(88, 32, 1), nn.Conv2d(96, 96, 1)])

    def forward(
        self, pictures: Float[Tensor, "batch 3 128 128"]
    ) -> tuple[
        Float[Tensor, "batch box 4"], Float[Tensor, "batch box 6 2"], Float[Tensor, "batch box"]
    ]:
        """From RGB in [0, 1]: boxes (x0, y0, x1, y1) and keypoints as shares of the side, scores.

        Keypoints: eyes (the viewer's left first), nose tip, mouth, ears.
        """
        x = F.relu(self.stem(F.pad(pictures * 2 - 1, (1, 2, 1, 2))))
        fine = self.fine(x)
        maps = fine, self.coarse(fine)

        def guesses(heads: nn.ModuleList, *shape: int) -> Tensor:  # the maps' places row by row
            outputs = (head(x).movedim(1, -1) for head, x in zip(heads, maps, strict=True))
            return torch.cat([y.reshape(len(y), -1, *shape) for y in outputs], 1)

        values = guesses(self.boxes, 8, 2) / DETECTOR_SIZE
        places = torch.cat([_places(16, 2), _places(8, 6)]).to(values)[:, None]
        centre, size, keypoints = (
            values[:, :, :1] + places,
            values[:, :, 1:2],
            values[:, :, 2:] + places,
        )
        boxes = torch.cat([centre - size / 2, centre + size / 2], 2).flatten(2)
        return boxes, keypoints, guesses(self.scores).sigmoid()


def _places(cells: int, times: int) -> Float[Tensor, "box 2"]:
    """Centres of the cells of a square map, row by row, x and y in [0, 1], each several times."""
    centres = (torch.arange(cells) + 0.5) / cells
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2).repeat_interleave(times, 0)


class Region(nn.Module):
    """A closer look at lips or an eye: a square of the fine map, laid upright around its points.

    Its points are the mesh's, moved; those of an eye also give the five of the iris.
    """

    def __init__(self, points: int, iris: bool):
        super().__init__()
        self.register_buffer("subset", torch.zeros(points, dtype=torch.long))  # of the mesh's 468
        self.register_buffer("level", torch.zeros(2, dtype=torch.long))  # two points of one height
        self.shared = _blocks(32, 32, 32, 64, 64, 64, 128, halve=(2, 5))
        self.heads = nn.ModuleList(
            nn.Sequential(
                *_blocks(128, 128, 128, 128, 128, 128, halve=(2,)),
                *_narrowed(128),
                nn.Conv2d(32, 2 * count, 2),
            )
            for count in ((points, 5) if iris else (points,))
        )

    def forward(
        self, fine: Float[Tensor, "batch 32 48 48"], mesh: Float[Tensor, "batch 468 2"]
    ) -> list[Float[Tensor, "batch point 2"]]:
        """Points of each head, px of the crop, from those of the coarse mesh."""
        step = fine.shape[-1] / MESH_SIZE
        right, left = (mesh[:, i] for i in self.level)
        across = F.normalize(left - right, dim=1)  # unit vector along the region's x axis
        axes = torch.stack([across, across.flip(1) * across.new_tensor([-1, 1])], 2)  # columns
        box = mesh[:, self.subset] @ axes  # coordinates along the two axes
        low, high = box.amin(1), box.amax(1)
        # q in [-1, 1]^2 of the square lies at centre + axes (q half), in px of the crop
        half, centre = 0.75 * (high - low), ((low + high) / 2)[:, None] @ axes.mT
        matrix = torch.cat([axes * half[:, None], centre.mT], 2)
        view = matrix * (2 * step / fine.shape[-1])  # to [-1, 1]^2 of the map
        view = view - view.new_tensor([0, 0, 1])
        grid = F.affine_grid(view, [len(fine), 32, 16, 16], align_corners=False)
        x = self.shared(F.grid_sample(fine, grid, align_corners=False))
        points = [head(x).reshape(len(x), -1, 2) / 32 - 1 for head in self.heads]
        return [p @ matrix[:, :, :2].mT + matrix[:, :, 2][:, None] for p in points]


class AttentionMesh(nn.Module):
    """The 478 points of the face in a crop, and how sure it is that there is one."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.PReLU(16))
        self.fine = _blocks(16, 16, 16, 32, halve=(2,))
        rest = 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128, 128, 128, 128
        self.coarse = nn.Sequential(*_blocks(32, *rest, halve=(2, 5, 8, 11)), *_narrowed(128))
        self.points, self.presence = nn.Conv2d(32, 2 * FIRST_IRIS, 3), nn.Conv2d(32, 1, 3)
        self.lips, self.right_eye, self.left_eye = (
            Region(count, iris) for count, iris in ((80, False), (71, True), (71, True))
        )
        self.register_buffer("mirror", torch.zeros(POINTS, dtype=torch.long))

    def forward(
        self, crops: Float[Tensor, "batch 3 192 192"]
    ) -> tuple[Float[Tensor, "batch 478 2"], Float[Tensor, " batch"]]:
        """From RGB in [0, 1]: points in px of the crop, and a score in [0, 1]."""
        fine = self.fine(self.stem(F.pad(crops, (0, 1, 0, 1))))
        x = self.coarse(fine)
        coarse = self.points(x).reshape(len(x), FIRST_IRIS, 2)
        points, irises = coarse.clone(), []
        for region in (self.lips, self.right_eye, self.left_eye):
            points[:, region.subset], *iris = region(fine, coarse)
            irises += iris
        return torch.cat([points, *irises], 1), self.presence(x).flatten().sigmoid()


@lru_cache(maxsize=2)
def load_networks(device: str = "cpu") -> tuple[BlazeFace, AttentionMesh]:
    """Both networks, from the file that ships. Raises FaceMeshError."""
    path, networks = shipped_file("face_mesh.safetensors"), []
    state, _ = read_weights(path, FORMAT, FaceMeshError, MAKER, "file of the face mesh")
    with torch.random.fork_rng([]):  # building draws random numbers
        networks = nn.ModuleDict({"detector": BlazeFace(), "mesh": AttentionMesh()})
    try:
        networks.load_state_dict(state)
    except RuntimeError as error:
        raise FaceMeshError(f"{path.name}: its parts do not fit; {MAKER} makes one") from error
    networks = networks.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
    return networks["detector"], networks["mesh"]
