"""Faces rendered on the fly, with everything about them known: photos that cost nothing.

    faces = RenderedFaces(model, seed=3)
    batch = faces.batch(torch.arange(64))                # a FaceBatch, with .truth and .tone

Face number i of a seed is always the same face. Faces vary as photos do, from identity to JPEG
quality; their landmarks cut them to the crop, as `photos.crop.align` cuts a photo. There are two
families of light and background: one to train an encoder, one to judge it.
Notebook 06, section 2.1.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ...face.batch import FaceBatch
from ...face.camera import (
    CROP_SIZE,
    DEFAULT_FOV,
    axis_angle_to_matrix,
    ndc_to_pixels,
    pose,
    project_ndc,
)
from ...face.coefficients import FaceCoefficients
from ...face.colour import skin_tone_group
from ...face.gaze import Gaze
from ...face.lighting import sh_basis, shade
from ...face.mesh import vertex_normals
from ...face.morphable_model import MorphableModel
from ...face.shapes import Vertices, expect
from ...rendering.renderer import render
from ...rendering.synthesis import landmark_vertices, shape
from . import scenes
from .camera_effects import blur, jpeg, tone_curve
from .counted_random import CountedRandom
from .random_faces import random_coefficients, relief
from .skin_details import DetailAtlas
from .skin_residuals import skin_residuals

CATCHLIGHT = 150  # power of the cosine: of some 10 degrees of the eyeball
LID_HEIGHT, LID_SHADOW = 6.0, 0.6  # mm over the middle of the eye; share of the light
CROP_MARGIN = 1.3  # of photos.crop.align
PHOTO_SIZE, PHOTO_MARGIN = 512, 1.8  # of a photo that detectors find the face in


@dataclass(eq=False)
class RenderedFaces:
    """An endless collection of faces of `model`, on its device.

    family: "train" or "held-out", of light and background. clean: the face alone on grey, without
    camera effects. wrinkles: also bumps, marks and make-up that the bases lack (`skin_details`):
    `truth` holds the bases' part of the face, `true_vertices` and `true_albedo` all of it.
    frames: faces of a person follow each other: identity and skin are the person's, the rest is the
    frame's. people: after so many they come again, in other frames, in groups of their own; None:
    no end.
    size: of the picture, pixels, a multiple of 8; margin: it spans that many times the landmarks'
    box. Other values than the crop's give photos to cut crops from.
    Raises ValueError for an unknown family and an invalid size, margin or number.
    """

    model: MorphableModel
    seed: int
    family: str = "train"
    clean: bool = False
    wrinkles: bool = False
    size: int = CROP_SIZE
    margin: float = CROP_MARGIN
    frames: int = 1
    people: int | None = None

    def __post_init__(self) -> None:
        if self.frames < 1 or (self.people is not None and self.people < 1):
            raise ValueError(f"frames {self.frames}, people {self.people}: expected 1 or more")
        if self.family not in scenes.FAMILIES:
            raise ValueError(f"family {self.family!r}: expected {' or '.join(scenes.FAMILIES)}")
        if self.size < 8 or self.size % 8:
            raise ValueError(f"size {self.size}: expected a multiple of 8, more than 0")
        if not self.margin > 0:
            raise ValueError(f"margin {self.margin}: expected more than 0")
        self.points = self.model.landmark_model()
        marks = torch.cat([self.model.landmarks, self.model.contour_bands.reshape(-1)])
        self.point_rows = marks.unique()  # the vertices of `points`
        self.atlas = DetailAtlas(self.model) if self.wrinkles else None
        self.residuals = None if self.clean else skin_residuals(self.model)
        self.eyes = self.model.regions["eyeballs"]
        self.lids = lid_shadow(self.model)
        # numbers: the length of an index by mask is read back from the GPU at every call
        self.skin = (self.model.regions["skin"] > 0.5).nonzero()[:, 0]

    @torch.no_grad()
    def batch(
        self,
        indices: Int[Tensor, " batch"],
        rotation: Float[Tensor, "batch 3"] | None = None,
        gaze: Gaze | None = None,
    ) -> FaceBatch:
        """The faces of these numbers. rotation: axis-angle in radians, in place of their own. gaze:
        in place of eyes at rest.

        Raises ValueError for no number, negative ones, and rotations or gazes of another
        shape.
        """
        if indices.ndim != 1 or not len(indices) or int(indices.min()) < 0:
            expected = "one face number or more, in one row and each 0 or more"
            raise ValueError(f"indices: expected {expected}, got {indices.tolist()}")
        numbers = CountedRandom(self.seed, indices.to(self.model.device, non_blocking=True))
        c = random_coefficients(self.model, numbers, self.family)
        person, people = None, numbers
        if self.frames > 1 or self.people is not None:
            group = indices // self.frames
            person = group if self.people is None else group % self.people
            people = CountedRandom(self.seed, person.to(self.model.device, non_blocking=True))
            own = random_coefficients(self.model, people, self.family)
            c.identity, c.albedo, c.scale = own.identity, own.albedo, own.scale
            pairs = zip(person.tolist(), group.tolist(), strict=True)
            person = [f"seed {self.seed} person {p} of group {g}" for p, g in pairs]
        if rotation is not None:
            expect("rotation", rotation, "batch 3", batch=len(indices))
            c.rotation = rotation.to(c.rotation)
        flat = relief(numbers)
        c.gaze = None if gaze is None else gaze.to(c.rotation)
        vertices = shape(self.model, c)
        albedo = self.model.albedo(c.albedo)
        if self.atlas is not None:
            details = self.atlas.draw(people)
            vertices = details.raise_skin(vertices, self.model.faces)
            albedo = details.colour_skin(albedo)
        landmarks = self._place(c, numbers, flat, vertices[:, self.point_rows])
        image, valid, albedo = self._photograph(c, numbers, people, flat, vertices, albedo)
        tone = skin_tone_group(albedo[:, self.skin].mean(1).clamp(0, 1))
        names = [f"seed {self.seed} face {i}" for i in indices.tolist()]
        truth = dict(truth=c, tone=tone, true_vertices=vertices, true_albedo=albedo, flatness=flat)
        truth["person"] = person
        return FaceBatch(image, valid, landmarks, "2d", names, **truth)

    def _place(
        self, c: FaceCoefficients, numbers: CountedRandom, flat: Tensor, vertices: Vertices
    ) -> Float[Tensor, "batch 68 2"]:
        """Move the faces to where `align` would put them; return a detector's landmarks."""
        noise = numbers.normal("landmark noise", 68, 2, sd=0.9)
        noise[:, :17] *= 2  # the jaw is the detector's guess
        target = self.size / self.margin * (1 + numbers.normal("crop size", sd=0.025))
        middle = self.size / 2 + numbers.normal("crop shift", 2, sd=2.0)
        per_pixel = 2 * math.tan(math.radians(DEFAULT_FOV / 2)) / self.size

        def landmarks() -> Tensor:
            v_camera = flattened(pose(vertices, c.rotation, c.scale, c.translation), c, flat)
            index = landmark_vertices(self.points, v_camera, c.rotation, "2d")
            marks = v_camera.gather(1, index[..., None].expand(-1, -1, 3))
            return ndc_to_pixels(project_ndc(marks), self.size) + noise

        for _ in range(2):  # moving a face turns it a little towards or from the viewer
            low, high = torch.aminmax(landmarks(), dim=1)
            beside, depth = c.translation.split((2, 1), 1)
            off = (low + high) / 2 - middle  # pixels; +x left and +y up in the camera's frame
            nearer = depth * (high - low).amax(1, keepdim=True) / target[:, None]
            c.translation = torch.cat([beside + off * per_pixel * depth, nearer], 1)
        return landmarks()

    def _photograph(
        self,
        c: FaceCoefficients,
        numbers: CountedRandom,
        people: CountedRandom,
        flat: Tensor,
        vertices: Vertices,
        albedo: Vertices,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Image, where it is free of other things, and the true albedo (with wrinkles: as lit)."""
        model = self.model
        normals = vertex_normals(vertices, model.faces)
        lit_albedo = albedo
        if not self.clean:
            bumps = 0.03 if self.wrinkles else 0.08  # of normals alone: no truth has them
            normals, lit_albedo = skin_texture(model, people, normals, albedo, bumps)
            if self.residuals is not None:
                z = people.normal("skin residuals", len(self.residuals))
                lit_albedo = lit_albedo * (z @ self.residuals.flatten(1)).exp().view_as(albedo)
        if self.wrinkles:
            albedo = lit_albedo
        if not self.clean:
            shadow = numbers.uniform("lid shadow", low=0.3, high=1.0)[:, None] * self.lids
            lit_albedo = lit_albedo * (1 - shadow[..., None])
        normals = normals @ axis_angle_to_matrix(c.rotation).transpose(1, 2)
        colours = shade(lit_albedo, normals, c.lighting)
        if not self.clean:
            colours = colours + shine(numbers, normals, c.lighting, self.eyes)
        v_camera = flattened(pose(vertices, c.rotation, c.scale, c.translation), c, flat)
        image, mask = render(v_camera, model.faces, colours.clamp(0, 1), self.size, near=None)
        if self.clean:
            return torch.where(mask > 0, image, 0.5), torch.ones_like(mask), albedo
        skin = (albedo * model.regions["skin"][:, None]).sum(1) / model.regions["skin"].sum()
        level = (sh_basis(numbers.fixed((0.0, 0.0, 1.0))) @ c.lighting)[:, 0]
        frame = scenes.head_frame(c, self.size)
        scene = scenes.background(numbers, self.size, self.family)
        strands = scenes.hair_strands(numbers, frame)
        hair = scenes.hair_colour(numbers)[..., None, None] + 0.08 * strands
        scene = scenes.behind_face(numbers, frame, scene, (skin * level).clamp(0, 1), hair)
        soft = blur(mask, torch.full_like(flat, 0.7), reach=2) * mask  # no cut-out edge
        image, free = scenes.before_face(numbers, frame, torch.lerp(scene, image, soft), hair)
        return self._expose(image, numbers), (free > 0.5).float(), albedo

    def _expose(self, image: Tensor, numbers: CountedRandom) -> Tensor:
        gamma = numbers.normal("gamma", sd=0.12).exp()
        grey = numbers.chance("black and white", 0.04)
        saturation = (1.0 + numbers.normal("saturation", sd=0.18)) * (1 - grey)
        image = tone_curve(image, gamma, saturation.clamp(min=0))
        soft = numbers.chance("soft", 0.6) * numbers.uniform("blur", high=2.2)
        image = blur(image, soft)
        grain = numbers.uniform("grain", high=0.04)[:, None, None, None]
        image.addcmul_(grain, numbers.normal("grain of a pixel", *image.shape[1:])).clamp_(0, 1)
        return jpeg(image, numbers.uniform("jpeg", low=25, high=100))


# What the model lacks ---------------------------------------------------------------------------


def flattened(v_camera: Vertices, c: FaceCoefficients, keep: Float[Tensor, " batch"]) -> Vertices:
    """Vertices whose depth relative to the translation is `keep` times what it was."""
    middle = c.translation[:, None, 2]
    depth = middle + keep[:, None] * (v_camera[..., 2] - middle)
    return torch.cat([v_camera[..., :2], depth[..., None]], -1)


def skin_texture(
    model: MorphableModel, numbers: CountedRandom, normals: Tensor, albedo: Tensor, bumps: float
) -> tuple[Tensor, Tensor]:
    """Normals with bumps and skin with spots that the bases lack: waves in 3D."""
    count = 8
    fine = numbers.uniform("wave length", count, low=4.0, high=30.0)  # mm
    direction = F.normalize(numbers.normal("wave", count, 3), dim=-1)
    k = direction * (2 * math.pi / fine)[..., None]
    phase = numbers.uniform("wave phase", count, high=2 * math.pi)
    angle = torch.einsum("vi,bwi->bvw", model.mean, k) + phase[:, None]
    bump = numbers.uniform("bumps", high=bumps)[:, None, None]
    normals = normals + bump * torch.einsum("bvw,bwi->bvi", angle.cos(), direction)
    spots = numbers.uniform("spots", high=0.04)[:, None]
    skin = model.regions["skin"] * spots * angle.sin().mean(-1) * count**0.5
    return F.normalize(normals, dim=-1), albedo * (1 + skin[..., None])


def lid_shadow(model: MorphableModel) -> Float[Tensor, " vertex"]:
    """How dark the upper lid makes an eyeball: nothing below its middle, most at the lid's edge."""
    shadow = torch.zeros_like(model.mean[:, 0])
    for rows in model.eyeballs:
        height = model.mean[rows, 1]
        shadow[rows] = ((height - height.mean()) / LID_HEIGHT).clamp(0, 1) * LID_SHADOW
    return shadow


def shine(
    numbers: CountedRandom, normals: Tensor, lighting: Tensor, eyes: Float[Tensor, " vertex"]
) -> Float[Tensor, "batch vertex 1"]:
    """Highlights of the main light, by Blinn and Phong: broad on skin, small and bright on `eyes`.

    The viewer looks along -z.
    """
    grey = lighting.mean(-1)
    main = F.normalize(torch.stack([grey[:, 3], grey[:, 1], grey[:, 2]], -1), dim=-1)
    half = F.normalize(main + numbers.fixed(0.0, 0.0, 1.0), dim=-1)
    power = numbers.uniform("shine width", low=6, high=40)[:, None]
    strength = numbers.uniform("shine", low=-0.1, high=0.25).clamp(min=0)[:, None]
    cosine = (normals * half[:, None]).sum(-1).clamp(min=0)
    wet = numbers.uniform("catchlight", high=0.9)[:, None] * cosine**CATCHLIGHT
    return torch.lerp(strength * cosine**power, wet, eyes)[..., None]
