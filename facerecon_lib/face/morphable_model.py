"""The morphable model: Eq. 1 for shape, Eq. 2 for albedo, and what belongs to the mesh.

    model = MorphableModel.load()                          # the model that ships, subdivided once
    vertices = model.shape(identity, expression)           # (B, V, 3) mm, model frame
    albedo = model.albedo(coefficients)                    # (B, V, 3) sRGB

V. Blanz and T. Vetter, "A morphable model for the synthesis of 3D faces", SIGGRAPH 1999.
Notebook 01, Eq. 1 and 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from .coefficients import FaceCoefficients, ModelSizes
from .model_file import ModelError, albedo_names, default_model_path, read_model_file
from .shapes import expect
from .subdivision import loop_subdivide

_BASES = ("identity_basis", "expression_basis", "albedo_basis")


def nearest_mirror(mean: Float[Tensor, "vertex 3"]) -> Int[Tensor, " vertex"]:
    """For a mesh that is not symmetric: the vertex nearest to each one's mirror image."""
    points = mean.double().cpu().numpy()
    _, nearest = cKDTree(points).query(points * (-1.0, 1.0, 1.0))
    return torch.from_numpy(nearest).to(mean.device)


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

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        subdivision: int | None = None,
        albedo: str | None = None,
    ) -> MorphableModel:
        """Read a model file and subdivide its mesh.

        path: a .safetensors file in the project's format; None is `default_model_path()`.
        subdivision: Loop steps; 0 the native mesh, 1 about four times its vertices, 2 sixteen.
        None is the file's own default: 1 of the model that ships, 0 of one that is dense anyway.
        albedo: the albedo basis; None is the file's default. The model that ships has "monk" (all
        ten tones), its default, and "light" (tones 1 to 4 alone).
        Raises ModelError with one line when the file is missing, damaged or of another kind.
        """
        path = default_model_path() if path is None else Path(path)
        if subdivision not in (None, 0, 1, 2, 3):
            raise ModelError(f"subdivision: expected 0, 1, 2 or 3 steps, got {subdivision!r}")
        data, metadata = read_model_file(path)
        if subdivision is None:
            subdivision = int(metadata.get("default_subdivision", "1"))
        albedo = albedo or metadata.get("default_albedo", "monk")
        name = f"albedo_mean_{albedo}"
        albedos = ", ".join(sorted(albedo_names(data)))
        if name not in data:
            raise ModelError(f"{path.name}: no albedo basis {albedo!r}; it has {albedos}")
        mean, faces = data["mean"], data["faces"].long()
        mirror, crease = data["mirror"].long(), data["creases"].long()
        symmetric = metadata.get("mirror") != "nearest"
        vertex = [data["uv"], data["regions"].float().T]
        bases = torch.cat([data["identity_basis"], data["expression_basis"]]).float()
        colours = torch.cat([data[name][None], data[f"albedo_basis_{albedo}"].float()])
        for _ in range(subdivision):
            step = loop_subdivide(faces, len(mean), crease)
            mean, bases = step.apply(mean), step.apply(bases)
            vertex = [step.apply(v) for v in vertex]
            if colours.shape[1] < len(mean):
                colours = step.apply(colours)
            if symmetric:
                try:
                    mirror = step.mirror(mirror)
                except ValueError as error:
                    raise ModelError(f"{path.name}: {error}; build or import it again") from None
            faces, crease = step.faces, step.creases
        if subdivision and not symmetric:
            mirror = nearest_mirror(mean)
        # colours may be stored on a finer mesh; its first vertices are those of the coarser one
        colours = colours[:, : len(mean)]
        n_id = len(data["identity_basis"])
        regions = dict(zip(json.loads(metadata["regions"]), vertex[1].T.contiguous(), strict=True))
        controls = dict(zip(json.loads(metadata["controls"]), data["controls"], strict=True))
        return cls(
            mean=mean,
            identity_basis=bases[:n_id].contiguous(),
            expression_basis=bases[n_id:].contiguous(),
            albedo_mean=colours[0].contiguous(),
            albedo_basis=colours[1:].contiguous(),
            albedo_samples=data[f"albedo_samples_{albedo}"].float(),
            faces=faces,
            landmarks=data["landmarks"].long(),
            contour_bands=data["contour_bands"].long(),
            uv=vertex[0],
            mirror=mirror,
            regions={k: v.clamp(0, 1) for k, v in regions.items()},
            controls=controls,
            metadata=metadata
            | {"file": path.name, "subdivision": str(subdivision)}
            | {"albedo": albedo, "albedos": albedos},
        )

    @property
    def sizes(self) -> ModelSizes:
        """Numbers of identity, expression and albedo coefficients."""
        return ModelSizes(
            len(self.identity_basis), len(self.expression_basis), len(self.albedo_basis)
        )

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def shape(
        self,
        identity: Float[Tensor, "batch identity"],
        expression: Float[Tensor, "batch expression"] | None = None,
    ) -> Float[Tensor, "batch vertex 3"]:
        """Eq. 1: p = mean + A_id a_id + A_exp a_exp, mm, model frame."""
        points = self.mean.reshape(-1) + _combine(identity, self.identity_basis, "identity")
        if expression is not None:
            points = points + _combine(expression, self.expression_basis, "expression")
        return points.unflatten(-1, (-1, 3))

    def albedo(
        self, coefficients: Float[Tensor, "batch albedo"]
    ) -> Float[Tensor, "batch vertex 3"]:
        """Eq. 2: b = mean + A_alb a_alb, sRGB. Not clamped: a clamp would cut the gradient."""
        colours = self.albedo_mean.reshape(-1) + _combine(coefficients, self.albedo_basis, "albedo")
        return colours.unflatten(-1, (-1, 3))

    def expression_from_controls(
        self, weights: Mapping[str, float], stand_in: bool = False
    ) -> Float[Tensor, "1 expression"]:
        """Coefficients of named facial actions, `{"jawOpen": 0.5}`; 0 is rest, 1 the full action.

        A name without a side, `mouthSmile`, stands for both where the model has them apart.
        stand_in: where the model lacks the k-th name, its k-th expression mode moves instead, by
        two standard deviations at 1; BFM's modes have no names. Otherwise raises ModelError.
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
        """The facial actions that coefficients stand for, 0 at rest and 1 in full.

        The inverse of the controls' matrix; least squares where controls are fewer than modes, and
        no columns where the model names none.
        """
        return expression @ self._coefficients_to_actions

    def landmark_points(
        self, vertices: Float[Tensor, "batch vertex 3"]
    ) -> Float[Tensor, "batch 68 3"]:
        """The 68 landmarks, iBUG order, of vertices in any frame."""
        return vertices[:, self.landmarks]

    def landmark_model(self) -> MorphableModel:
        """The same model on the vertices of the landmarks and the jaw's bands alone, no triangles.

        For fitting landmarks: some hundred vertices instead of all.
        """
        rows, index = torch.cat([self.landmarks, self.contour_bands.reshape(-1)]).unique(
            return_inverse=True
        )
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
        )

    def random(
        self, count: int, generator: torch.Generator, spread: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients of plausible faces: (count, identity), (count, expression), (count, albedo).

        Identity is drawn from N(0, spread²). Expressions are sparse facial actions in [0, 1], and
        N(0, spread²) in modes that no action moves. Albedos are the basis's sample skins with a
        little noise: skin colours lie on a curve, and N(0, 1) would draw grey and blue skins too.
        """
        sizes, device = self.sizes, self.device

        def normal(n: int) -> Tensor:
            return torch.randn(count, n, generator=generator, device=generator.device).to(device)

        shape = (count, len(self.controls))
        active = torch.rand(shape, generator=generator, device=generator.device) < 0.12
        amount = torch.rand(shape, generator=generator, device=generator.device)
        skins = (len(self.albedo_samples), (count,))
        skin = torch.randint(*skins, generator=generator, device=generator.device).to(device)
        albedo = self.albedo_samples[skin] + 0.1 * normal(sizes.albedo)
        expression = (spread * amount * active).to(device) @ self.control_matrix
        if len(self.controls) < sizes.expression:  # the modes that no action moves
            expression = expression + spread * normal(sizes.expression) * self.unnamed_modes
        return spread * normal(sizes.identity), expression, spread * albedo

    def neutral(self, batch: int = 1) -> FaceCoefficients:
        """The mean face, frontal, in ambient light."""
        return FaceCoefficients.mean(batch, *self.sizes, device=self.device)

    def to(self, device: torch.device | str) -> MorphableModel:
        """The same model on another device."""
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device)
            elif field.name in ("regions", "controls"):
                moved[field.name] = {k: v.to(device) for k, v in value.items()}
        return replace(self, **moved)


def _combine(weights: Tensor, basis: Tensor, name: str) -> Tensor:
    expect(name, weights, "batch coefficient", coefficient=len(basis))
    return weights @ basis.flatten(1)
