"""The morphable model: Eq. 1 for shape, Eq. 2 for albedo, and what belongs to the mesh.

    model = MorphableModel.load()                          # the model that ships, subdivided once
    vertices = model.shape(identity, expression)           # (B, V, 3) mm, model frame
    albedo = model.albedo(coefficients)                    # (B, V, 3) sRGB

V. Blanz and T. Vetter, "A morphable model for the synthesis of 3D faces", SIGGRAPH 1999.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .coefficients import FaceCoefficients, ModelSizes
from .subdivision import loop_subdivide

FORMAT = "facerecon-face-model-1"
_SHAPES = {
    "mean": ("vertex", 3),
    "identity_basis": (None, "vertex", 3),
    "expression_basis": (None, "vertex", 3),
    "controls": ("control", "expression"),
    "faces": (None, 3),
    "creases": (None, 2),
    "uv": ("vertex", 2),
    "mirror": ("vertex",),
    "regions": ("region", "vertex"),
    "landmarks": (68,),
    "contour_bands": (17, None),
}
_INDICES = ("faces", "creases", "mirror", "landmarks", "contour_bands")
_BASES = ("identity_basis", "expression_basis", "albedo_basis")


class ModelError(ValueError):
    """A face-model file that cannot be used; the message says why and what to do."""


def shipped_model_path() -> Path:
    """The face model in the package: CC0, 80 identity, 43 expression and 25 albedo modes."""
    return Path(str(files("facerecon_lib"))) / "assets" / "face_model.safetensors"


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
        cls, path: str | Path | None = None, subdivision: int = 1, albedo: str = "monk"
    ) -> MorphableModel:
        """Read a model file and subdivide its mesh.

        path: a .safetensors file in the project's format; None is the model that ships.
        subdivision: Loop steps; 0 the native mesh, 1 about four times its vertices, 2 sixteen.
        albedo: the albedo basis, "monk" (all ten tones) or "light" (tones 1 to 4 alone).
        Raises ModelError with one line when the file is missing, damaged or of another kind.
        """
        if subdivision not in (0, 1, 2, 3):
            raise ModelError(f"subdivision: expected 0, 1, 2 or 3 steps, got {subdivision!r}")
        path = shipped_model_path() if path is None else Path(path)
        data, metadata = _read(path)
        name = f"albedo_mean_{albedo}"
        if name not in data:
            known = [k.removeprefix("albedo_mean_") for k in data if k.startswith("albedo_mean_")]
            known = sorted(known)
            raise ModelError(f"{path.name}: no albedo basis {albedo!r}; it has {', '.join(known)}")
        mean, faces = data["mean"], data["faces"].long()
        mirror, crease = data["mirror"].long(), data["creases"].long()
        vertex = [data["uv"], data["regions"].float().T]
        bases = torch.cat([data["identity_basis"], data["expression_basis"]]).float()
        colours = torch.cat([data[name][None], data[f"albedo_basis_{albedo}"].float()])
        for _ in range(subdivision):
            step = loop_subdivide(faces, len(mean), crease)
            mean, bases = step.apply(mean), step.apply(bases)
            vertex = [step.apply(v) for v in vertex]
            if colours.shape[1] < len(mean):
                colours = step.apply(colours)
            mirror, faces, crease = step.mirror(mirror), step.faces, step.creases
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
            | {"file": path.name, "subdivision": str(subdivision), "albedo": albedo},
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

    def expression_from_controls(self, weights: dict[str, float]) -> Float[Tensor, "1 expression"]:
        """Coefficients of named facial actions, `{"jawOpen": 0.5}`; 0 is rest, 1 the full action.

        Raises ModelError for a name that the model lacks.
        """
        total = torch.zeros(self.sizes.expression, device=self.device)
        for name, weight in weights.items():
            if name not in self.controls:
                raise ModelError(f"no control {name!r}; there are {', '.join(self.controls)}")
            total = total + weight * self.controls[name]
        return total[None]

    @cached_property
    def control_matrix(self) -> Float[Tensor, "control expression"]:
        """One row a named control: its coefficients. No rows where the model names none."""
        rows = list(self.controls.values())
        return torch.stack(rows) if rows else self.mean.new_zeros(0, self.sizes.expression)

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

        Identity is drawn from N(0, spread²). Expressions are sparse facial actions in [0, 1] (or
        N(0, spread²) where the model names none), and albedos are skins that the basis was made of,
        with a little noise: skin colours lie on a curve, of which N(0, 1) knows only the width (it
        would draw grey and blue skins too).
        """
        sizes, device = self.sizes, self.device

        def normal(n: int) -> Tensor:
            return torch.randn(count, n, generator=generator, device=generator.device).to(device)

        shape = (count, len(self.controls))
        active = torch.rand(shape, generator=generator, device=generator.device) < 0.12
        amount = torch.rand(shape, generator=generator, device=generator.device)
        n_skins = (len(self.albedo_samples), (count,))
        chosen = torch.randint(*n_skins, generator=generator, device=generator.device)
        albedo = self.albedo_samples[chosen.to(device)] + 0.1 * normal(sizes.albedo)
        expression = (spread * amount * active).to(device) @ self.control_matrix
        if not self.controls:
            expression = spread * normal(sizes.expression)
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
    if weights.ndim != 2 or weights.shape[1] != len(basis):
        raise ValueError(
            f"{name}: expected (batch, {len(basis)}) coefficients, got {tuple(weights.shape)}"
        )
    return weights @ basis.reshape(len(basis), -1)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise ModelError(f"{path}: no such face model; leave --model out for the one that ships")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            data = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name}: not a readable safetensors file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise ModelError(
            f"{path.name}: not a face model of this project (format "
            f"{metadata.get('format')!r}, expected {FORMAT!r}); data_scripts/ makes one"
        )
    _check_parts(path, data, metadata)
    return data, metadata


def _check_parts(path: Path, data: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Every part is there, of its kind and shape, finite, and names only vertices that exist."""

    def refuse(why: str) -> None:
        raise ModelError(f"{path.name}: {why}; build or import it again")

    names = {}
    for part in ("controls", "regions"):
        try:
            names[part] = json.loads(metadata[part])
        except (KeyError, ValueError):
            refuse(f"its metadata lacks the list of {part}")
    albedos = [key.removeprefix("albedo_mean_") for key in data if key.startswith("albedo_mean_")]
    parts = list(_SHAPES) + [f"albedo_{x}_{a}" for a in albedos for x in ("basis", "samples")]
    missing = [part for part in parts if part not in data]
    if missing or not albedos:
        refuse(f"lacks {', '.join(missing or ['albedo_mean_<name>'])}")
    sizes = {"vertex": len(data["mean"]), "expression": len(data["expression_basis"])}
    sizes |= {"control": len(names["controls"]), "region": len(names["regions"])}
    shapes = dict(_SHAPES)
    for a in albedos:
        sizes |= {a: len(data[f"albedo_mean_{a}"]), f"{a} modes": len(data[f"albedo_basis_{a}"])}
        shapes[f"albedo_mean_{a}"] = (a, 3)
        shapes[f"albedo_basis_{a}"] = (None, a, 3)
        shapes[f"albedo_samples_{a}"] = (None, f"{a} modes")
        if sizes[a] < sizes["vertex"]:
            refuse(f"albedo_mean_{a} has {sizes[a]} vertices, fewer than the mesh")
    for part, shape in shapes.items():
        value = data[part]
        expected = tuple(sizes.get(axis, axis) for axis in shape)
        fits = value.ndim == len(shape) and all(
            e is None or e == n for e, n in zip(expected, value.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if e is None else str(e) for e in expected)
            refuse(f"{part} has shape {tuple(value.shape)}, expected ({wanted})")
        if value.is_floating_point() == (part in _INDICES):
            refuse(f"{part} holds {value.dtype}")
        if value.is_floating_point() and not torch.isfinite(value).all():
            refuse(f"{part} holds numbers that are not finite")
        if part in _INDICES and value.numel():
            low, high = int(value.min()), int(value.max())
            if low < 0 or high >= sizes["vertex"]:
                refuse(f"{part} names vertices outside 0 to {sizes['vertex'] - 1}")
