"""Folds of the skin: where they run on the mean face, and how deep they are on a random one.

    folds = FoldMap(place, landmarks)                    # on the unrolled face, see skin_details
    height = folds.draw(numbers, age)                    # (B, V) mm, below zero in the creases

Each is a curve between landmarks, and so lies where skin folds on any face model.
Notebook 07, section 2.2.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .counted_random import CountedRandom


class Fold(NamedTuple):
    """A quadratic Bézier curve on the skin; points are (landmark, mm outwards, mm up).

    depth, width: mm; the width is the standard deviation across. bulge: the share of the depth that
    rises on the left of the curve. joined: crosses the middle, and has no mirror image.
    """

    start: tuple[int, float, float]
    bend: tuple[int, float, float]
    end: tuple[int, float, float]
    depth: float
    width: float
    bulge: float = 0.0
    joined: bool = False


# iBUG points counted from 0: 22 inner brow, 27 root of the nose, 35 its wing, 42 and 45 inner and
# outer eye corner, 47 lower lid, 54 mouth corner, 57 lower lip.
FOLDS = (
    *(
        Fold((27, -44, up - 4), (27, 0, up + 7), (27, 44, up - 4), 2.1, 3.0, joined=True)
        for up in (36.0, 48.5, 61.0)
    ),  # of the forehead
    Fold((22, -2, -15), (22, -4, -4), (22, -1, 9), 1.9, 2.3),  # of the frown
    Fold((27, -10, -3), (27, 0, 2), (27, 10, -3), 1.3, 2.2, joined=True),
    Fold((45, 6, 4), (45, 14, 7), (45, 22, 15), 1.5, 2.3),  # crow's feet
    Fold((45, 7, -1), (45, 16, -1), (45, 25, -3), 1.5, 2.3),
    Fold((45, 6, -6), (45, 13, -10), (45, 21, -19), 1.5, 2.3),
    Fold((42, 3, -8), (47, 4, -19), (45, 3, -9), 1.3, 2.5, bulge=0.5),  # below the eyes
    Fold((35, 6, 7), (35, 15, -6), (54, 10, -6), 1.9, 3.2, bulge=0.6),  # beside nose and mouth
    Fold((54, 5, -6), (54, 10, -14), (54, 6, -27), 1.6, 3.0),
    Fold((54, 20, 24), (54, 27, 6), (54, 21, -12), 1.1, 3.6),  # of the cheek
    Fold((57, -15, -11), (57, 0, -5), (57, 15, -11), 1.6, 2.8, joined=True),  # above the chin
)


class FoldMap:
    """Pairs of a fold and a vertex near it: how far along it lies (0 to 1), and beside it, mm.

    place, landmarks: on the unrolled face, mm.
    """

    def __init__(self, place: Float[Tensor, "vertex 2"], landmarks: Float[Tensor, "68 2"]) -> None:
        self.vertices = len(place)
        reach, t = 16.0, torch.linspace(0, 1, 65, device=place.device)[:, None]
        pairs, tables = [], []
        sides = [(i, side) for i, f in enumerate(FOLDS) for side in ((1,) if f.joined else (1, -1))]
        for number, (i, side) in enumerate(sides):
            start, bend, end, *table, _ = FOLDS[i]
            p, q, r = (landmarks[j] + landmarks.new_tensor(mm) for j, *mm in (start, bend, end))
            curve = (1 - t) ** 2 * p + 2 * t * (1 - t) * q + t**2 * r
            curve = curve * curve.new_tensor((side, 1))
            distance, nearest = torch.cdist(place, curve).min(1)
            near = (distance < reach).nonzero()[:, 0]
            nearest = nearest[near]
            way = curve[(nearest + 1).clamp(max=64)] - curve[(nearest - 1).clamp(min=0)]
            off = place[near] - curve[nearest]
            left = torch.sign(way[:, 0] * off[:, 1] - way[:, 1] * off[:, 0]) * side
            pairs.append((torch.full_like(near, number), near, nearest / 64, left * distance[near]))
            tables.append(table)
        self.fold, self.vertex, self.along, self.across = map(torch.cat, zip(*pairs, strict=True))
        self.depth, self.width, self.bulge = place.new_tensor(tables).T
        self.twins = torch.tensor([i for i, _ in sides], device=place.device)

    def draw(
        self, numbers: CountedRandom, age: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch vertex"]:
        """Heights in mm: creases with a low wall on either side, `age` (0 to 1) deep.

        Alike but not equal on both sides of the face.
        """

        def each(name: str, low: float, high: float, apart: float) -> Tensor:
            """One number per fold and side; the sides differ by `apart` of the range."""
            both = numbers.uniform(name, len(FOLDS))[:, self.twins]
            own = numbers.uniform(f"{name} beside", len(self.twins))
            return low + (high - low) * torch.lerp(both, own, apart)

        depth = self.depth * age[:, None] * each("fold depth", 0.25, 1.4, 0.2).clamp(max=1)
        width = self.width * each("fold width", 0.85, 1.3, 0.3)
        start, stop = each("fold start", -0.15, 0.25, 0.4), each("fold end", 0.7, 1.1, 0.4)
        swing = each("fold swing", 0.2, 1.4, 0.5)
        phase, move = each("fold phase", 0.0, 6.3, 0.7), each("fold move", -1.5, 1.5, 0.3)
        fold = self.fold
        across = self.across - move[:, fold]
        across = across - swing[:, fold] * torch.sin(7 * self.along + phase[:, fold])
        ends = smoothstep((self.along - start[:, fold]) / 0.25)
        ends = ends * smoothstep((stop[:, fold] - self.along) / 0.3)
        far = (across / width[:, fold]) ** 2
        crease = torch.exp(-far / 2) - 0.4 * torch.exp(-far / 10)
        rise = self.bulge[fold] * across / width[:, fold] * torch.exp(-far / 8)
        value = depth[:, fold] * ends * (rise - crease)
        height = value.new_zeros(len(value), self.vertices)
        return height.index_add_(1, self.vertex, value)


def smoothstep(x: Tensor) -> Tensor:
    """0 up to 0, 1 from 1 on, and level at both (Hermite's cubic)."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)
