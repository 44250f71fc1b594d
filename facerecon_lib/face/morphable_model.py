"""The morphable model: Eq. 1 for shape, Eq. 2 for albedo, and what belongs to the mesh.

    model = MorphableModel.load()                          # the model that ships, subdivided once
    vertices = model.shape(identity, expression)           # (B, V, 3) mm, model frame
    albedo = model.albedo(coefficients)                    # (B, V, 3) sRGB

V. Blanz and T. Vetter, "A morphable model for the synthesis of 3D faces", SIGGRAPH 1999.
Notebook 01, Eq. 1 and 2.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .coefficients import FaceCoefficients, ModelSizes
from .dense_points import DensePoints
from .model_file import ModelError, albedo_names, default_model_path, read_model_file
from .shapes import Vertices, expect
from .subdivision import loop_subdivide

_BASES = ("identity_basis", "expression_basis", "albedo_basis")


@dataclass(eq=False)
class MorphableModel:
    """A linear face model on one mesh. Bases are in units of one standard deviation.

    Lengths are millimetres in the model frame (+x the viewer's right, +y up, +z out of the face);
    colours are sRGB, nominally in [0, 1].
    """

    mean: Float[Tensor, "vertex 3"]
    identity_basis: Float[Tensor, "identity vertex 3"]
    expression_basis: Float[Tensor, "expression vertex 3"]
    albedo_mean: Float[Tensor, "vertex 3"]
    albedo_basis: Float[Tensor, "albedo vertex 3"]
    albedo_samples: Float[Tensor, "sample albedo"]
    faces: Int[Tensor, "face 3"]
    landmarks: Int[Tensor, " 68"]
    contour_bands: Int[Tensor, "17 candidate"]
    uv: Float[Tensor, "vertex 2"]
    mirror: Int[Tensor, " vertex"]
    regions: dict[str, Float[Tensor, " vertex"]]
    controls: dict[str, Float[Tensor, " expression"]]
    metadata: dict[str, str]
    dense: DensePoints | None = None  # where it is bound to MediaPipe's 478 points

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        subdivision: int | None = None,
        albedo: str | None = None,
    ) -> Self:
        """Read a model file and subdivide its mesh.

        path: None is `default_model_path()`. subdivision: Loop steps, each about four times the
        vertices; None is the file's default, 1 of the model that ships, 0 of one that is dense
        anyway. albedo: the albedo basis; None is the file's default. The model that ships has
        "monk" (all ten tones), its default, and "light" (tones 1 to 4 alone).
        Raises ModelError when the file is missing, damaged or of another kind.
        """
        path = default_model_path() if path is None else Path(path)
        if subdivision not in (None, 0, 1, 2, 3):
            raise ModelError(f"subdivision: expected 0, 1, 2 or 3 steps, got {subdivision!r}")
        data, metadata = read_model_file(path)
        if subdivision is None:
            subdivision = int(metadata.get("default_subdivision", "1"))
        albedo = albedo or metadata.get("default_albedo", "monk")
        albedos = ", ".join(sorted(albedo_names(data)))
        if f"albedo_mean_{albedo}" not in data:
            raise ModelError(f"{path.name}: no albedo basis {albedo!r}; it has {albedos}")
        n_identity, symmetric = len(data["identity_basis"]), metadata.get("mirror") != "nearest"
        faces, mirror, creases = (data[x].long() for x in ("faces", "mirror", "creases"))
        bases = torch.cat([data["identity_basis"], data["expression_basis"]])
        colour = torch.cat([data[f"albedo_mean_{albedo}"][None], data[f"albedo_basis_{albedo}"]])
        mean, uv, regions = data["mean"], data["uv"], data["regions"].T
        for _ in range(subdivision):
            step = loop_subdivide(faces, len(mean), creases)
            mean, bases, uv, regions = map(step.apply, (mean, bases, uv, regions))
            if colour.shape[1] < len(mean):
                colour = step.apply(colour)
            if symmetric:
                try:
                    mirror = step.mirror(mirror)
                except ValueError as error:
                    raise ModelError(f"{path.name}: {error}; build or import it again") from None
            faces, creases = step.faces, step.creases
        if subdivision and not symmetric:
            from scipy.spatial import cKDTree  # slow to import, and the shipped model is symmetric

            points = mean.double().numpy()
            mirror = torch.from_numpy(cKDTree(points).query(points * (-1.0, 1.0, 1.0))[1])
        # colours may be stored on a finer mesh; its first vertices are those of the coarser one
        colour = colour[:, : len(mean)]
        names = json.loads(metadata["regions"])
        return cls(
            mean=mean,
            identity_basis=bases[:n_identity].contiguous(),
            expression_basis=bases[n_identity:].contiguous(),
            albedo_mean=colour[0].contiguous(),
            albedo_basis=colour[1:].contiguous(),
            albedo_samples=data[f"albedo_samples_{albedo}"],
            faces=faces,
            landmarks=data["landmarks"].long(),
            contour_bands=data["contour_bands"].long(),
            uv=uv,
            mirror=mirror,
            regions=dict(zip(names, regions.T.clamp(0, 1).contiguous(), strict=True)),
            controls=dict(zip(json.loads(metadata["controls"]), data["controls"], strict=True)),
            metadata=metadata
            | {"file": path.name, "subdivision": str(subdivision)}
            | {"albedo": albedo, "albedos": albedos},
            dense=DensePoints.of(data),
        )

    @property
    def sizes(self) -> ModelSizes:
        """Numbers of identity, expression and albedo coefficients."""
        return ModelSizes(*(len(getattr(self, name)) for name in _BASES))

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def shape(
        self,
        identity: Float[Tensor, "batch identity"],
        expression: Float[Tensor, "batch expression"] | None = None,
    ) -> Vertices:
        """Eq. 1: p = mean + A_id a_id + A_exp a_exp, mm, model frame."""
        points = self.mean.reshape(-1) + _combine(identity, self.identity_basis, "identity")
        if expression is not None:
            points = points + _combine(expression, self.expression_basis, "expression")
        return points.unflatten(-1, (-1, 3))

    def albedo(self, coefficients: Float[Tensor, "batch albedo"]) -> Vertices:
        """Eq. 2: b = mean + A_alb a_alb, sRGB. Not clamped: a clamp would cut the gradient."""
        colours = self.albedo_mean.reshape(-1) + _combine(coefficients, self.albedo_basis, "albedo")
        return colours.unflatten(-1, (-1, 3))

    def expression_from_controls(
        self, weights: Mapping[str, float], stand_in: bool = False
    ) -> Float[Tensor, "1 expression"]:
        """Coefficients of named facial actions, `{"jawOpen": 0.5}`; 0 is rest, 1 the full action.

        A name without a side, `mouthSmile`, stands for both. stand_in: where the model lacks the
        k-th name, its k-th expression mode moves instead, by two standard deviations at 1, as for
        BFM, whose modes have no names. Otherwise raises ModelError.
        """
        total = torch.zeros(self.sizes.expression, device=self.device)
        for mode, (name, weight) in enumerate(weights.items()):
            sides = [name] if name in self.controls else [f"{name}Left", f"{name}Right"]
            if all(side in self.controls for side in sides):
                total = total + weight * sum(self.controls[side] for side in sides)
            elif stand_in:
                total[mode : mode + 1] += 2 * weight
            else:
                names = ", ".join(self.controls) or "none"
                raise ModelError(f"no control {name!r}; there are {names}")
        return total[None]

    @cached_property
    def control_matrix(self) -> Float[Tensor, "control expression"]:
        """One row per named control: its coefficients. No rows where the model names none."""
        rows = list(self.controls.values())
        return torch.stack(rows) if rows else self.mean.new_zeros(0, self.sizes.expression)

    @cached_property
    def unnamed_modes(self) -> Float[Tensor, " expression"]:
        """1 for the expression modes that no named control moves, 0 for the others."""
        return 1 - self.control_matrix.any(0).float()

    @cached_property
    def _coefficients_to_actions(self) -> Float[Tensor, "expression control"]:
        return torch.linalg.pinv(self.control_matrix.double()).to(self.mean.dtype)

    def actions(
        self, expression: Float[Tensor, "batch expression"]
    ) -> Float[Tensor, "batch control"]:
        """The facial actions that coefficients stand for, 0 at rest and 1 in full."""
        return expression @ self._coefficients_to_actions

    @cached_property
    def eyeballs(self) -> tuple[Int[Tensor, " right"], Int[Tensor, " left"]] | tuple[()]:
        """The vertices of each eyeball, of the right eye first; empty where the model has none that
        can turn: of fewer than four vertices, or one surface with the lids, which would tear."""
        both, left = self.regions["eyeballs"] > 0.5, self.mean[:, 0] > 0
        rows = (both & ~left).nonzero()[:, 0], (both & left).nonzero()[:, 0]
        corners = both[self.faces]
        apart = bool((corners.all(1) == corners.any(1)).all())
        return rows if apart and min(map(len, rows)) >= 4 else ()

    @cached_property
    def mirrored_modes(
        self,
    ) -> tuple[Float[Tensor, "identity identity"], Float[Tensor, "expression expression"]]:
        """Coefficients times these are those of the mirrored face, in least squares."""

        def solve(basis: Tensor) -> Tensor:
            there = basis[:, self.mirror] * basis.new_tensor([-1.0, 1.0, 1.0])
            basis, there = basis.flatten(1).double(), there.flatten(1).double()
            return torch.linalg.solve(basis @ basis.T, basis @ there.T).T.to(self.mean.dtype)

        return solve(self.identity_basis), solve(self.expression_basis)

    def landmark_points(self, vertices: Vertices) -> Float[Tensor, "batch 68 3"]:
        """The 68 landmarks, in iBUG's order."""
        return vertices[:, self.landmarks]

    def landmark_model(self) -> Self:
        """The same model on the vertices of landmarks and jaw bands alone, without triangles: some
        hundred vertices, for fitting landmarks."""
        used = torch.cat([self.landmarks, self.contour_bands.reshape(-1)])
        rows, index = used.unique(return_inverse=True)
        cut = {name: getattr(self, name)[:, rows] for name in _BASES}
        cut |= {name: getattr(self, name)[rows] for name in ("mean", "albedo_mean", "uv")}
        return replace(
            self,
            **cut,
            faces=self.faces[:0],
            landmarks=index[:68],
            contour_bands=index[68:].view_as(self.contour_bands),
            mirror=torch.arange(len(rows), device=rows.device),
            regions={name: mask[rows] for name, mask in self.regions.items()},
            dense=None,
        )

    def random(
        self, count: int, generator: torch.Generator, spread: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients of plausible faces: (count, identity), (count, expression), (count, albedo).

        Identity is drawn from N(0, spread²). Expressions are sparse facial actions in [0, 1], and
        N(0, spread²) in modes that no action moves. Albedos are the sample skins with a little
        noise: skin colours lie on a curve, and N(0, 1) would draw grey and blue skins too.
        """
        sizes, device = self.sizes, self.device
        draw = {"generator": generator, "device": generator.device}

        def normal(n: int) -> Tensor:
            return torch.randn(count, n, **draw).to(device)

        active = torch.rand(count, len(self.controls), **draw) < 0.12
        amount = torch.rand(count, len(self.controls), **draw)
        skin = torch.randint(len(self.albedo_samples), (count,), **draw).to(device)
        albedo = self.albedo_samples[skin] + 0.1 * normal(sizes.albedo)
        expression = (spread * amount * active).to(device) @ self.control_matrix
        if len(self.controls) < sizes.expression:  # the modes that no action moves
            expression = expression + spread * normal(sizes.expression) * self.unnamed_modes
        return spread * normal(sizes.identity), expression, spread * albedo

    def neutral(self, batch: int = 1) -> FaceCoefficients:
        """The mean face, frontal, in ambient light."""
        return FaceCoefficients.mean(batch, *self.sizes, device=self.device)

    def to(self, device: torch.device | str) -> Self:
        """The same model on another device."""
        copies = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor | DensePoints):
                copies[field.name] = value.to(device)
            elif field.name in ("regions", "controls"):
                copies[field.name] = {k: v.to(device) for k, v in value.items()}
        return replace(self, **copies)


def _combine(weights: Tensor, basis: Tensor, name: str) -> Tensor:
    expect(name, weights, "batch coefficient", coefficient=len(basis))
    return weights @ basis.flatten(1)
