"""Bilinear face models: identity times expression, where Eq. 1 adds them.

    core, factors = hosvd(tensor, (50, 25))                # (person, expression, V, 3) mm
    model = BilinearModel.learn(tensor, (50, 25))
    shapes = model.shape(identity, expression)             # (B, V, 3) mm
    identity, expression = model.fit(faces, noise=1.0)     # by turns: each step is least squares

C. Cao, Y. Weng, S. Zhou, Y. Tong and K. Zhou, "FaceWarehouse: a 3D facial expression database for
visual computing", TVCG 2014. Notebook 01.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from ..files.weights import read_weights, write_weights
from .model_file import ModelError
from .shapes import expect

FORMAT = "facerecon-bilinear-1"
SHAPES = {"mean": "vertex 3", "core": "identity expression vertex 3"}
SHAPES |= {"people": "person identity", "expressions": "pose expression"}
ROUNDS = 3  # of a fit of both modes

Weights = Float[Tensor, "batch weight"]


def mode_product(
    tensor: Float[Tensor, "*axes"], matrix: Float[Tensor, "rows columns"], mode: int
) -> Float[Tensor, "*axes"]:
    """The tensor with the matrix applied along one axis: its `columns` numbers become `rows`."""
    return torch.tensordot(matrix, tensor, dims=([1], [mode])).movedim(0, mode)


def hosvd(
    tensor: Float[Tensor, "*axes"], ranks: tuple[int, ...]
) -> tuple[Float[Tensor, "*ranks"], list[Float[Tensor, "size rank"]]]:
    """Core and factors (size, rank) with orthonormal columns, of the first len(ranks) axes.

    tensor is about the core with each factor applied along its axis (`mode_product`), and exactly
    so at full ranks. L. De Lathauwer, B. De Moor and J. Vandewalle, 2000.
    Raises ValueError where a rank is below 1 or above its axis.
    """
    factors = []
    for mode, rank in enumerate(ranks):
        if not 1 <= rank <= tensor.shape[mode]:
            raise ValueError(f"rank {rank} of axis {mode}: expected 1 to {tensor.shape[mode]}")
        rows = tensor.movedim(mode, 0)
        # slice by slice: the unfolded tensor may be hundreds of megabytes
        slices = rows.flatten(2).unbind(1) if rows.ndim > 2 else [rows]
        gram = sum((part @ part.T).double() for part in slices)
        _, vectors = torch.linalg.eigh(gram)
        factors.append(vectors.flip(1)[:, :rank].to(tensor))
    core = tensor
    for mode, factor in enumerate(factors):
        core = mode_product(core, factor.T, mode)
    return core, factors


@dataclass(eq=False)
class BilinearModel:
    """p = mean + core x identity x expression, mm.

    people, expressions: the weights of those that it was learned from, a row each.
    """

    mean: Float[Tensor, "vertex 3"]
    core: Float[Tensor, "identity expression vertex 3"]
    people: Float[Tensor, "person identity"]
    expressions: Float[Tensor, "pose expression"]

    @classmethod
    def learn(
        cls, tensor: Float[Tensor, "person pose vertex 3"], ranks: tuple[int, int], neutral: int = 0
    ) -> Self:
        """From people in the same poses, mm; the mean is that of pose `neutral`."""
        mean = tensor[:, neutral].mean(0)
        core, (people, expressions) = hosvd(tensor - mean, ranks)
        return cls(mean, core, people, expressions)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A file of `save`. Raises ModelError, one line."""
        path = Path(path)
        maker = "data_scripts/import_bilinear.py"
        state, _ = read_weights(path, FORMAT, ModelError, maker, "bilinear model")
        sizes = {}
        try:
            for name, shape in SHAPES.items():
                sizes = expect(name, state[name], shape, **sizes)
        except KeyError as error:
            raise ModelError(f"{path.name}: lacks {error}; {maker} makes one") from None
        except ValueError as error:
            raise ModelError(f"{path.name}: {error}; {maker} makes one") from None
        return cls(*(state[name] for name in SHAPES))

    def save(self, path: str | Path, metadata: dict[str, str]) -> None:
        """One safetensors file in float16."""
        state = {name: getattr(self, name) for name in SHAPES}
        write_weights(Path(path), state, metadata | {"format": FORMAT}, store="float16")

    def shape(self, identity: Weights, expression: Weights) -> Float[Tensor, "batch vertex 3"]:
        """The bilinear counterpart of Eq. 1, differentiable in both."""
        return self.mean + torch.einsum("bi,be,ievc->bvc", identity, expression, self.core)

    def fit(
        self,
        faces: Float[Tensor, "batch vertex 3"],
        noise: float = 1.0,
        expression: Weights | None = None,
        rounds: int = ROUNDS,
    ) -> tuple[Weights, Weights]:
        """Weights of faces on the model's mesh: alternating least squares.

        noise: standard deviation of a coordinate, mm; the prior is the spread of the rows of
        people and expressions about their mean. expression: known weights, which stay; None: found,
        from the pose on that is nearest with the mean identity, since steps by turns are slow.
        """
        offset, e = (faces - self.mean).flatten(1), expression
        if e is None:
            poses = torch.einsum("i,iew->ew", self.people.mean(0), self.core.flatten(2))
            poses = self.expressions @ poses
            e = self.expressions[torch.cdist(offset, poses).argmin(1)]
        for _ in range(rounds if expression is None else 1):
            basis = torch.einsum("be,iew->biw", e, self.core.flatten(2))
            i = _nearest(offset, basis, self.people, noise)
            if expression is None:
                basis = torch.einsum("bi,iew->bew", i, self.core.flatten(2))
                e = _nearest(offset, basis, self.expressions, noise)
        return i, e


def _nearest(
    offset: Float[Tensor, "batch w"],
    basis: Float[Tensor, "batch k w"],
    rows: Float[Tensor, "row k"],
    noise: float,
) -> Weights:
    """Least squares, with the rows' own mean and covariance as the prior.

    In units of standard deviations: a direction in which the rows do not differ stays as it is.
    """
    middle = rows.mean(0)
    _, deviation, directions = torch.linalg.svd(rows - middle, full_matrices=False)
    spread = deviation[:, None] / (len(rows) - 1) ** 0.5 * directions
    modes = spread @ basis
    left = modes @ modes.mT + noise**2 * torch.eye(len(spread)).to(basis)
    right = modes @ (offset - torch.einsum("k,bkw->bw", middle, basis))[..., None]
    return middle + torch.linalg.solve(left, right)[..., 0] @ spread
