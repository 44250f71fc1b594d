"""The stage of the nonlinear model: decoders of uv maps, beside PCA of as many coefficients.

    stage = NonlinearStage(NonlinearSettings(), device)
    [faces] = stage.predict(stage.network(fabric), batch)  # NonlinearFaces

The shipped encoder is frozen. Its features tell the codes; its expression, pose and light are
taken as they are. Where the truth is known the decoders learn from it; with a weight for "pixel"
also through the renderer. Notebook 12.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..augmented.uv_space import unwrap, uv_layout
from ..beyond.nonlinear_model import (
    SIZE,
    Codes,
    FaceMaps,
    NonlinearModel,
    NonlinearModelError,
    albedo_constancy,
    albedo_symmetry,
    at_rest,
    coefficients_of,
    load_nonlinear_model,
    part_boxes,
    save_nonlinear_model,
    skin_weights,
)
from ..data.rendered.faces import RenderedFaces
from ..face.batch import FaceBatch
from ..face.coefficients import FaceCoefficients
from ..face.measures import albedo_error, vertex_error_mm
from ..face.morphable_model import MorphableModel
from ..face.shapes import PerFace, Vertices
from ..files.downloads import sha256_of
from ..fitting.objective import Objective, PhotoObjective, Terms
from ..fitting.photo_light import light_from_photo
from ..networks.encoder import ENCODER_FILE, load_encoder
from ..networks.face_networks import FaceNetwork
from ..rendering.synthesis import Face, pose_and_light
from .logs import tiled
from .settings import NonlinearSettings, SettingsError
from .stage import Stage, rows_of

TRUTH_TERMS = ("shape", "albedo", "coded_shape", "coded_albedo", "linear_shape", "linear_albedo")
TERMS = (*TRUTH_TERMS, "detail", "symmetry", "constancy", "code", "pixel")


@dataclass(eq=False)
class NonlinearFaces:
    """Shape at rest and albedo: of photos by both models, and of the true codes (or None)."""

    encoded: FaceCoefficients
    codes: Codes
    maps: FaceMaps
    own: tuple[Vertices, Vertices]
    linear: tuple[Vertices, Vertices]
    coded: tuple[Vertices, Vertices] | None


class NonlinearObjective(PhotoObjective):
    """The terms of the nonlinear model. Raises ValueError for invalid weights.

    shape, linear_shape, coded_shape: mean distance in mm of exposed skin at rest, of the photo's
    codes, of the linear model's, and of the true ones; albedo...: mean absolute difference.
    detail: mean size of the details, as a share of their scale. symmetry, constancy: of the albedo.
    code: squares of the photo's codes. pixel: as of `PhotoObjective`.
    """

    pixel_sigma = 0.3

    def __init__(self, model: MorphableModel, weights: Mapping[str, float], size: int):
        super().__init__(model, weights, TERMS, "mean", None, size)
        weight = uv_layout(model).exposed * (1 - model.regions["border"])
        weight = weight * (0.2 + 0.8 * model.regions["skin"])  # eyes and lips are seen too
        self.skin = weight / weight.sum()

    def __call__(self, faces: NonlinearFaces, batch: FaceBatch) -> Objective:
        maps, terms, image, mask = faces.maps, {}, None, None
        face = posed(self.model, faces, batch, faces.own) if self._needs_face else None
        if "pixel" in self.weights:
            terms, image, mask = self.photo_terms(face, batch)

        def constancy() -> PerFace:
            colour = unwrap(batch.image, face, SIZE)
            return albedo_constancy(maps.albedo, colour / colour.sum(1, True).clamp(min=0.03))

        terms |= {
            "detail": lambda: (
                maps.shape_detail.abs().mean((1, 2, 3))
                + 10 * maps.albedo_detail.abs().mean((1, 2, 3))
            ),
            "symmetry": lambda: albedo_symmetry(maps.albedo),
            "constancy": constancy,
            "code": lambda: faces.codes.own.square().mean(1),
        }
        if batch.true_vertices is not None:
            terms |= self._truth_terms(faces, batch)
        return self.weigh(terms, image, mask)

    @property
    def _needs_face(self) -> bool:
        return bool(self.weights.keys() & {"pixel", "constancy"})

    def _truth_terms(self, faces: NonlinearFaces, batch: FaceBatch) -> Terms:
        shape, albedo = at_rest(self.model, batch), batch.true_albedo
        pairs = (("", faces.own), ("coded_", faces.coded), ("linear_", faces.linear))
        terms = {}
        for prefix, (vertices, colours) in pairs:
            far = lambda v=vertices: (self.skin * (v - shape).norm(dim=-1)).sum(1)  # noqa: E731
            off = lambda a=colours: (self.skin * (a - albedo).abs().mean(-1)).sum(1)  # noqa: E731
            terms |= {f"{prefix}shape": far, f"{prefix}albedo": off}
        return terms


def posed(
    model: MorphableModel,
    faces: NonlinearFaces,
    batch: FaceBatch,
    parts: tuple[Vertices, Vertices],
) -> Face:
    """A shape at rest and an albedo: the encoder's expression and pose, the photo's light."""
    c, (vertices, albedo) = faces.encoded, parts
    c = replace(c, lighting=light_from_photo(model, c, batch.image, batch.valid))
    moved = model.shape(torch.zeros_like(c.identity), c.expression) - model.mean
    return pose_and_light(model, vertices + moved, albedo, c)


class NonlinearStage(Stage):
    """Its predictions are NonlinearFaces. fixed: where PCA's numbers are, which no step changes."""

    settings: NonlinearSettings
    fixed: NonlinearModel
    load = staticmethod(load_nonlinear_model)

    def __init__(self, settings: NonlinearSettings, device: torch.device):
        super().__init__(settings, device)
        self.encoder = load_encoder(None, self.model, device).requires_grad_(False)
        self.sources["encoder"] = sha256_of(ENCODER_FILE.default_path())

    def save(self, path: Path, network: NonlinearModel, metadata: Mapping[str, str] = {}) -> None:
        facts = {"encoder_sha256": self.sources["encoder"]}
        save_nonlinear_model(path, network, {**metadata, **facts}, "float32")

    def _objective(
        self, weights: Mapping[str, float], recognition: FaceNetwork | None
    ) -> NonlinearObjective:
        return NonlinearObjective(self.model, weights, self.settings.render_size)

    def network(
        self, fabric, resumed: bool = False, allow_download: bool = False
    ) -> NonlinearModel:
        """With the linear model of the run's first faces, or as `init` has it.

        Raises NonlinearModelError for an `init` of other sizes, SettingsError for too few faces.
        """
        network = self.fixed = self._start(resumed)
        if "rendered" not in self.settings.parts(1):  # photos do not tell the linear model's codes
            network.rival.requires_grad_(False)
        return network

    def _start(self, resumed: bool) -> NonlinearModel:
        s, model = self.settings, self.model
        if s.init != "none" and not resumed:
            trained = load_nonlinear_model(Path(s.init), model)
            if trained.codes != s.codes:
                raise NonlinearModelError(
                    f"{s.init}: it has {trained.codes} codes, and {s.codes} are asked for"
                )
            return trained
        features = self.encoder.head.in_features
        known = model.sizes.identity + model.sizes.albedo
        sizes = (s.codes, len(model.mean), features, known)
        network = NonlinearModel(*sizes, part_boxes(model)).to(model.device)
        if not resumed:
            if s.linear_faces <= s.codes + 16:
                raise SettingsError(f"linear_faces {s.linear_faces}: take more than codes + 16")
            network.learn_linear(*self._first_faces(s.linear_faces), model)
        return network

    def _first_faces(self, count: int) -> tuple[Vertices, Vertices]:
        """The run's first faces at rest, and their albedo; of the smallest pictures there are."""
        s = self.settings
        faces = RenderedFaces(self.model, s.seed, s.family, wrinkles=s.wrinkles, size=8)

        def parts() -> Iterator[tuple[Vertices, Vertices]]:
            for indices in torch.arange(count).split(64):
                batch = faces.batch(indices)
                yield at_rest(self.model, batch), batch.true_albedo

        shapes, albedos = zip(*parts(), strict=True)
        return torch.cat(shapes), torch.cat(albedos)

    def predict(self, network: Callable, *parts: FaceBatch) -> list[NonlinearFaces]:
        model, fixed, faces = self.model, self.fixed, []
        with torch.no_grad():
            images = torch.cat([part.image for part in parts])
            features = self.encoder.pooled(images.contiguous(memory_format=torch.channels_last))
            encoded = self.encoder.decode(self.encoder.head(features))
        known = [part for part in parts if part.truth is not None]
        truths = [fixed.project(at_rest(model, part), part.true_albedo) for part in known]
        codes = torch.cat(truths) if truths else None
        read, maps = network(features, coefficients_of(encoded), codes)
        own, linear = fixed.on_mesh(maps, model), fixed.linear(read.linear)
        begin = len(images)
        for part, rows in zip(parts, rows_of(parts), strict=True):
            coded = None
            if part.truth is not None:
                coded = tuple(x[begin : begin + len(part)] for x in own)
                begin += len(part)
            cut = (type(x)(*(y[rows] for y in x)) for x in (read, maps))
            pairs = (tuple(y[rows] for y in x) for x in (own, linear))
            faces.append(NonlinearFaces(encoded[rows], *cut, *pairs, coded))
        return faces

    @torch.no_grad()
    def errors(self, prediction: NonlinearFaces, batch: FaceBatch) -> dict[str, PerFace]:
        """Of the nonlinear model, as linear_... of the linear one, as base_... of the shipped
        encoder's face: vertex_mm, mean distance of skin at rest after similarity alignment;
        albedo_rgb, of the skin's colours. Nothing where the truth is not known."""
        if batch.true_vertices is None:
            return {}
        model, c, errors = self.model, prediction.encoded, {}
        skin, truth = skin_weights(model), at_rest(model, batch)
        base = model.shape(c.identity), model.albedo(c.albedo)
        faces = {"": prediction.own, "linear_": prediction.linear, "base_": base}
        for prefix, (vertices, albedo) in faces.items():
            far = vertex_error_mm(vertices, truth)
            errors[f"{prefix}vertex_mm"] = (far * skin).sum(1) / skin.sum()
            errors[f"{prefix}albedo_rgb"] = albedo_error(albedo, batch.true_albedo, skin)["rgb"]
        return errors

    def summary(self, numbers: Mapping) -> str:
        if "vertex_mm" not in numbers:
            return f"loss {numbers['loss']:.4g}"
        words = "{} {:.3f} (linear {:.3f}, base {:.3f})"
        rows = (("shape mm", "vertex_mm"), ("albedo", "albedo_rgb"))
        parts = [
            words.format(name, *(numbers[f"{p}{key}"] for p in ("", "linear_", "base_")))
            for name, key in rows
        ]
        return ", ".join([*parts, f"loss {numbers['loss']:.4g}"])

    @torch.no_grad()
    def rows(
        self, prediction: NonlinearFaces, batch: FaceBatch, objective: Objective
    ) -> Float[Tensor, "3 rows columns"]:
        """Photo, the face of both models, and the maps, where grey is zero."""
        images = [batch.image]
        for parts in (prediction.own, prediction.linear):
            images.append(posed(self.model, prediction, batch, parts).render(near=None)[0])
        maps = (0.5 + prediction.maps.albedo, 0.5 + prediction.maps.shape / 8)
        return tiled([*images, *(F.interpolate(x, images[0].shape[2:]) for x in maps)])
