"""Faces rendered on the fly, with everything about them known: photos that cost nothing.

    faces = RenderedFaces(model, seed=3)
    batch = faces.batch(torch.arange(64))                # a FaceBatch, with .truth and .tone

Face number i of a seed is always the same face. It varies in identity, expression, skin, pose,
distance, light, skin texture and shine, what stands around it and before it, focus, noise, tone
curve and JPEG quality; it is cut to the crop as `photo.align` cuts a photo, by its landmarks. Two
families of light and background make sure that an encoder is not judged on what it was trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .camera import DEFAULT_FOV, axis_angle_to_matrix, ndc_to_pixels, pose, project_ndc
from .camera_effects import blur, jpeg, tone_curve
from .coefficients import FaceCoefficients
from .counted_random import CountedRandom
from .evaluation import skin_tone_group
from .face_batch import FaceBatch
from .face_scenes import FAMILIES, background, before_face, behind_face, head_frame
from .lighting import sh_basis, shade
from .losses import light_level
from .mesh import vertex_normals
from .morphable_model import MorphableModel
from .renderer import render
from .synthesis import CROP_SIZE, landmark_vertices

CROP_MARGIN = 1.3  # of photo.align
LAMBERT = (math.pi, 2 * math.pi / 3, math.pi / 4)
"""What a matte surface keeps of bands 0, 1, 2 of its light (Ramamoorthi and Hanrahan, 2001)."""


@dataclass(eq=False)
class RenderedFaces:
    """An endless collection of faces of `model`, on its device.

    seed: another seed, other faces. family: "train" or "held-out", of light and background.
    clean: nothing around the face or before it, no camera effects, one grey background.
    Raises ValueError for an unknown family.
    """

    model: MorphableModel
    seed: int
    family: str = "train"
    clean: bool = False

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family {self.family!r}: expected {' or '.join(FAMILIES)}")
        self.points = self.model.landmark_model()

    @torch.no_grad()
    def batch(self, indices: Int[Tensor, " batch"]) -> FaceBatch:
        """The faces of these numbers (0 or more). Raises ValueError for negative ones."""
        if indices.ndim != 1 or (len(indices) and int(indices.min()) < 0):
            raise ValueError(f"indices: expected numbers of 0 or more in one row, got {indices}")
        names = [f"seed {self.seed} face {i}" for i in indices.tolist()]
        numbers = CountedRandom(self.seed, indices.to(self.model.device))
        c = random_coefficients(self.model, numbers, self.family)
        flat = relief(numbers)
        landmarks = self._place(c, numbers, flat)
        image, valid, albedo = self._photograph(c, numbers, flat)
        skin = self.model.regions["skin"] > 0.5
        tone = skin_tone_group(albedo[:, skin].mean(1).clamp(0, 1))
        return FaceBatch(image, valid, landmarks, "2d", names, c, tone)

    def _place(self, c: FaceCoefficients, numbers: CountedRandom, flat: Tensor) -> Tensor:
        """Moves the faces to where `align` would put them; returns what a detector would find."""
        noise = numbers.normal("landmark noise", 68, 2, sd=0.9)
        noise[:, :17] *= 2  # the jaw is the detector's guess
        target = CROP_SIZE / CROP_MARGIN * (1 + numbers.normal("crop size", sd=0.025))
        middle = CROP_SIZE / 2 + numbers.normal("crop shift", 2, sd=2.0)
        vertices = self.points.shape(c.identity, c.expression)
        per_pixel = 2 * math.tan(math.radians(DEFAULT_FOV / 2)) / CROP_SIZE
        for last in (False, False, True):
            v_camera = flattened(pose(vertices, c.rotation, c.scale, c.translation), c, flat)
            index = landmark_vertices(self.points, v_camera, c.rotation, "2d")
            seen = v_camera.gather(1, index[..., None].expand(-1, -1, 3))
            points = ndc_to_pixels(project_ndc(seen), CROP_SIZE) + noise
            if last:
                return points
            low, high = points.amin(1), points.amax(1)
            depth = c.translation[:, 2] * (high - low).amax(1) / target
            off = (low + high) / 2 - middle  # pixels; +x left and +y up in the camera's frame
            c.translation = torch.stack(
                [
                    (c.translation[:, 0] + off[:, 0] * per_pixel * c.translation[:, 2]),
                    (c.translation[:, 1] + off[:, 1] * per_pixel * c.translation[:, 2]),
                    depth,
                ],
                -1,
            )
        raise AssertionError

    def _photograph(self, c: FaceCoefficients, numbers: CountedRandom, flat: Tensor):
        """Image, where it is free of other things, and the true albedo."""
        model = self.model
        vertices = model.shape(c.identity, c.expression)
        albedo = model.albedo(c.albedo)
        turned = axis_angle_to_matrix(c.rotation)
        normals = vertex_normals(vertices, model.faces)
        seen_albedo = albedo
        if not self.clean:
            normals, seen_albedo = skin_texture(model, numbers, normals, albedo)
        normals = normals @ turned.transpose(1, 2)
        colours = shade(seen_albedo, normals, c.lighting)
        if not self.clean:
            colours = colours + shine(numbers, normals, c.lighting)
        v_camera = flattened(pose(vertices, c.rotation, c.scale, c.translation), c, flat)
        image, mask = render(v_camera, model.faces, colours.clamp(0, 1), CROP_SIZE)
        if self.clean:
            return torch.where(mask > 0, image, 0.5), torch.ones_like(mask), albedo
        skin = (albedo * model.regions["skin"][:, None]).sum(1) / model.regions["skin"].sum()
        level = (sh_basis(skin.new_tensor([[0.0, 0.0, 1.0]])) @ c.lighting)[:, 0]
        frame = head_frame(c, CROP_SIZE)
        scene = background(numbers, CROP_SIZE, self.family)
        scene = behind_face(numbers, frame, scene, (skin * level).clamp(0, 1))
        soft = blur(mask, torch.full_like(flat, 0.7), reach=2) * mask  # no cut-out edge
        image = scene + soft * (image - scene)
        image, free = before_face(numbers, frame, image)
        return self._expose(image, numbers), (free > 0.5).float(), albedo

    def _expose(self, image: Tensor, numbers: CountedRandom) -> Tensor:
        gamma = numbers.normal("gamma", sd=0.12).exp()
        grey = numbers.chance("black and white", 0.04)
        saturation = (1.1 + numbers.normal("saturation", sd=0.22)) * (1 - grey)
        image = tone_curve(image, gamma, saturation.clamp(min=0))
        soft = numbers.chance("soft", 0.6) * numbers.uniform("blur", high=2.2)
        image = blur(image, soft)
        grain = numbers.uniform("grain", high=0.04)[:, None, None, None]
        image = image + grain * numbers.normal("grain of a pixel", *image.shape[1:])
        return jpeg(image.clamp(0, 1), numbers.uniform("jpeg", low=25, high=100))


# What is drawn of a face ------------------------------------------------------------------------


def random_coefficients(
    model: MorphableModel, numbers: CountedRandom, family: str = "train"
) -> FaceCoefficients:
    """Shape, skin, pose and light; the translation is that of a face in the middle of the crop."""
    c = model.neutral(len(numbers.indices))
    c.identity = numbers.normal("identity", model.sizes.identity)
    c.expression = random_expression(model, numbers)
    chosen = numbers.integer("skin", len(model.albedo_samples))
    c.albedo = model.albedo_samples[chosen]
    c.albedo = c.albedo + numbers.normal("skin noise", model.sizes.albedo, sd=0.15)
    turned = numbers.normal("pose", 3)
    wide = numbers.chance("turned far", 0.25)
    yaw = torch.where(
        wide > 0, numbers.uniform("far yaw", low=-0.95, high=0.95), 0.3 * turned[:, 1]
    )
    c.rotation = torch.stack([0.17 * turned[:, 0], yaw, 0.12 * turned[:, 2]], -1)
    c.scale = numbers.normal("size", sd=0.02).exp()[:, None]
    c.lighting = random_light(numbers, family)
    return c


def random_expression(
    model: MorphableModel, numbers: CountedRandom
) -> Float[Tensor, "batch expression"]:
    """Some facial actions at a time, mostly alike on both sides; a third of the faces at rest."""
    controls = list(model.controls)
    if not controls:
        return numbers.normal("expression", model.sizes.expression)
    amount = numbers.uniform("action", len(controls)) * (
        numbers.uniform("acts", len(controls)) < 0.1
    )
    twin = [
        controls.index(name.replace("Right", "Left")) if name.endswith("Right") else i
        for i, name in enumerate(controls)
        if name.replace("Right", "Left") in controls
    ]
    if len(twin) == len(controls):
        alike = numbers.chance("alike", 0.75)[:, None]
        amount = alike * amount[:, twin] + (1 - alike) * amount
    awake = 1 - numbers.chance("at rest", 0.3)[:, None]
    for name, often in (("mouthSmileLeft", 0.3), ("jawOpen", 0.2)):
        if name in controls:
            more = numbers.chance(name, often) * numbers.uniform(f"{name} amount")
            for twin_name in {name, name.replace("Left", "Right")} & set(controls):
                i = controls.index(twin_name)
                amount[:, i] = torch.maximum(amount[:, i], more)
    return (amount * awake) @ model.control_matrix


def random_light(numbers: CountedRandom, family: str) -> Float[Tensor, "batch 9 3"]:
    """Lamps on a wall of ambient light; where held out, a sky, a ground and a sun.

    Both are exposed so that a lit white face would have a brightness of about 0.74.
    """
    device = numbers.indices.device
    bands = torch.tensor([LAMBERT[0]] + [LAMBERT[1]] * 3 + [LAMBERT[2]] * 5, device=device)

    def lobe(direction: Tensor, colour: Tensor) -> Tensor:
        """Directional light: its shading is the clamped cosine, in nine functions."""
        y = sh_basis(torch.nn.functional.normalize(direction, dim=-1))
        return (bands * y)[..., None] * colour[:, None]

    batch = len(numbers.indices)
    light = torch.zeros(batch, 9, 3, device=device)
    warm = numbers.normal("warmth", sd=0.09)[:, None] * torch.tensor(
        [1.0, 0.1, -1.2], device=device
    )
    warm = warm + torch.tensor([0.08, 0.0, -0.12], device=device)  # photos of people are warm
    if family == "train":
        light[:, 0] = numbers.uniform("ambient", low=0.35, high=1.2)[:, None] * math.sqrt(
            4 * math.pi
        )
        for i in range(3):
            spread = torch.tensor([1.0, 0.6, 0.5], device=device)
            side = numbers.normal(f"lamp {i}", 3) * spread
            direction = side + torch.tensor([0.0, 0.35, 0.8], device=device)
            strength = numbers.uniform(f"lamp {i} strength", high=(0.9, 0.5, 0.4)[i])
            tint = 1 + numbers.normal(f"lamp {i} tint", 3, sd=0.08)
            light = light + lobe(direction, strength[:, None] * tint)
    else:
        up = numbers.normal("sky up", 3) * 0.25 + torch.tensor([0.0, 1.0, 0.3], device=device)
        sky = 0.5 + 0.2 * numbers.uniform("sky", 3)
        ground = numbers.uniform("ground")[:, None] * torch.tensor([0.5, 0.45, 0.4], device=device)
        light[:, 0] = (sky + ground) / 2 * math.sqrt(4 * math.pi)
        y = sh_basis(torch.nn.functional.normalize(up, dim=-1))[:, 1:4]
        light[:, 1:4] = (2 * math.pi / 3) * y[..., None] * ((sky - ground) * 0.75)[:, None]
        sun = numbers.normal("sun", 3) * torch.tensor([1.0, 0.4, 0.4], device=device)
        sun = sun + torch.tensor([0.0, 0.6, 0.6], device=device)
        strength = numbers.uniform("sun strength", high=0.8)[:, None]
        light = light + lobe(sun, strength * torch.tensor([1.05, 1.0, 0.9], device=device))
    exposure = 0.74 * numbers.normal("exposure", sd=0.15).exp() / light_level(light).clamp(min=0.2)
    return light * exposure[:, None, None] * warm.exp()[:, None]


def relief(numbers: CountedRandom) -> Float[Tensor, " batch"]:
    """How much of its depth a face keeps in the picture: 1 at the crop's own 30 degrees.

    A photo taken from n times as far, with a lens n times as long, shows the face at the same size
    and 1 / n of its relief. Crops say nothing of the lens, so an encoder has to see all.
    """
    near = numbers.chance("near", 0.35)
    return near + (1 - near) * numbers.uniform("relief", low=0.15, high=1.0)


def flattened(
    v_camera: Float[Tensor, "batch vertex 3"], c: FaceCoefficients, keep: Float[Tensor, " batch"]
) -> Float[Tensor, "batch vertex 3"]:
    """Depths in the camera frame, drawn towards the translation so that `keep` of them stays."""
    middle = c.translation[:, None, 2]
    depth = middle + keep[:, None] * (v_camera[..., 2] - middle)
    return torch.cat([v_camera[..., :2], depth[..., None]], -1)


def skin_texture(
    model: MorphableModel, numbers: CountedRandom, normals: Tensor, albedo: Tensor
) -> tuple[Tensor, Tensor]:
    """Normals with bumps and skin with spots that the bases do not have: waves in 3D."""
    count = 8
    fine = numbers.uniform("wave length", count, low=4.0, high=30.0)  # mm
    direction = torch.nn.functional.normalize(numbers.normal("wave", count, 3), dim=-1)
    k = direction * (2 * math.pi / fine)[..., None]
    phase = numbers.uniform("wave phase", count, high=2 * math.pi)
    angle = torch.einsum("vi,bwi->bvw", model.mean, k) + phase[:, None]
    bump = numbers.uniform("bumps", high=0.08)[:, None, None]
    normals = normals + bump * torch.einsum("bvw,bwi->bvi", angle.cos(), direction)
    spots = numbers.uniform("spots", high=0.04)[:, None]
    skin = model.regions["skin"] * spots * angle.sin().mean(-1) * count**0.5
    return torch.nn.functional.normalize(normals, dim=-1), albedo * (1 + skin[..., None])


def shine(
    numbers: CountedRandom, normals: Tensor, lighting: Tensor
) -> Float[Tensor, "batch vertex 1"]:
    """A highlight of the main light, by Blinn and Phong; the viewer looks along -z."""
    grey = lighting.mean(-1)
    main = torch.nn.functional.normalize(grey[:, [3, 1, 2]], dim=-1)
    half = torch.nn.functional.normalize(main + main.new_tensor([0.0, 0.0, 1.0]), dim=-1)
    power = numbers.uniform("shine width", low=6, high=40)[:, None]
    strength = numbers.uniform("shine", low=-0.1, high=0.25).clamp(min=0)[:, None]
    cosine = (normals * half[:, None]).sum(-1).clamp(min=0)
    return (strength * cosine**power)[..., None]
