"""The skins of portraits without their light, whole, in all tones; and the bases learned of them.

    skins = Skins.of(portraits, model)                   # what the portraits show
    skins.in_all_tones(1200, seed=0), skins.light_skinned()

Colours are divided by the shape of the light (spherical harmonics of level one, per portrait) and
by the exposure (`exposure.py`); both sides of a face are joined. Hair, teeth, highlights and deep
shadow weigh nothing. Where hair or the photo's edge hides the skin of nearly all, it goes on from
where it is seen, as a membrane. Notebook 01, Eq. 2.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy.sparse.linalg import factorized
from torch import Tensor

from facerecon_lib.face.colour import SKIN_LIGHTNESS, lab_to_srgb, srgb_to_lab
from facerecon_lib.face.lighting import ambient_lighting, light_level, sh_basis, solve_lighting
from facerecon_lib.face.mesh import edges
from facerecon_lib.face.morphable_model import MorphableModel

from .completion import complete
from .exposure import exposure, same_person
from .observe import Portraits, from_log_opponents, log_opponents

LIGHT_SKIN = 67.0, 12.5, 16.5
"""CIELAB of the median of light skin: portraits tell colours up to a factor, so that one is set.

Its ITA is 46 degrees, the middle of what Chardon et al. (1991) call light, 41 to 55.
"""
RIMS = (range(-12, 24, 3), 0, 7, 0.30), (range(-33, -9, 3), 20, 42, 0.13)
"""Of glasses: heights of bands, mm from the eyes; mm beside the middle; how much darker."""
SHARP, GREY, SURE = 0.3, 0.05, 0.9  # quantile of sharpness; colourfulness; least score
LIGHT_RIDGE, LIGHT_ROUNDS = 2e-3, 3
DIM, BURNT, BLACK = 0.35, 0.985, 0.03  # shading; the largest channel of a pixel, at most and least
HAIR = 0.72  # of the skin's brightness, on the forehead and at the border
TEETH = 0.6  # of the redness of skin, where lips should be
TEETH_BRIGHT = 1.1  # of the mean brightness of skin: between the lips of the mean
TINT_KEPT = 0.6  # of a skin's red and blue beside those usual at its level: the rest is the lamp's
DARK_TONE = 7.0  # from here on fewer portraits stand for a tone
CANDIDATES = 60, 40  # portraits of the nearest tones, below and from DARK_TONE
LIGHT_TONES = 4  # of the basis of light skin


@dataclass
class Skins:
    """keys, people and whole skins (N, U, 3) on one side of the face; see `Skins.of`.

    both: of each of the V vertices, the row of its pair. seen: the share of portraits that show it.
    """

    model: MorphableModel
    keys: list[str]
    colours: Float[Tensor, "face half 3"]
    both: Int[Tensor, " vertex"]
    seen: Float[Tensor, " vertex"]
    facts: dict[str, str]

    @classmethod
    def of(cls, portraits: Portraits, model: MorphableModel) -> "Skins":
        """The skins of the sharp, coloured and well detected ones without glasses.

        Raises PortraitsError.
        """
        shading, skin = divide_light(portraits, model)
        gains, words = exposure(portraits.cues, skin, portraits.people)
        least = portraits.sharpness.quantile(SHARP)
        good = (portraits.sharpness > least) & (portraits.colourful > GREY)
        good = good & (portraits.score > SURE) & ~wears_glasses(portraits, model)
        rows = good.nonzero()[:, 0]
        people = [portraits.people[i] for i in rows]
        values, weights, both = _one_side(portraits[rows], shading[rows], gains[rows], model)
        seen = (weights > 0.05).float().mean(0)
        _, whole, noise = complete(values, weights)
        facts = {"exposure": words, "portraits": f"{len(rows)} of {len(portraits)}"}
        facts["noise"] = f"{noise:.3f}"
        skins = cls(model, [portraits.keys[i] for i in rows], whole, both, seen[both], facts)
        skins._level(people)
        return skins

    @property
    def _skin(self) -> Float[Tensor, " half"]:
        """Weights of the bare skin."""
        region, half = self.model.regions, first_of(self.both)
        weight = region["skin"] * (1 - region["border"]) * (region["forehead"] < 0.3)
        weight = (weight * (self.seen > 0.6))[half]
        return weight / weight.sum()

    def _mean(self, colours: Float[Tensor, "*any half 3"]) -> Float[Tensor, "*any 3"]:
        return (colours * self._skin[:, None]).sum(-2)

    def _level(self, people: list[str]) -> None:
        """One level and tint for each person, and the median of light skin as it is measured."""
        tone = log_opponents(self._mean(self.colours))
        goal = tone.clone()
        for group in same_person(people).values():
            goal[group] = tone[group].mean(0)
        level = torch.stack([torch.ones_like(goal[:, 0]), goal[:, 0]], 1)
        usual = level @ torch.linalg.lstsq(level, goal[:, 1:]).solution
        goal[:, 1:] = usual + TINT_KEPT * (goal[:, 1:] - usual)
        light = from_log_opponents(goal[goal[:, 0] > goal[:, 0].quantile(0.3)].median(0).values)
        gain = lab_to_srgb(torch.tensor(LIGHT_SKIN)) / light
        self.colours = self.colours * (from_log_opponents(goal - tone) * gain)[:, None]

    def lightness(self, colours: Tensor | None = None) -> Float[Tensor, " face"]:
        """L* of each skin, the portraits' own or others."""
        colours = self.colours if colours is None else colours
        return srgb_to_lab(self._mean(colours).clamp(0, 1))[:, 0]

    def light_skinned(self) -> Float[Tensor, "face half 3"]:
        """Those of the first LIGHT_TONES tones."""
        bound = sum(SKIN_LIGHTNESS[LIGHT_TONES - 1 : LIGHT_TONES + 1]) / 2
        return self.colours[self.lightness() > bound]

    def in_all_tones(self, count: int, seed: int) -> Float[Tensor, "count half 3"]:
        """Skins of tones uniform from 1 to 10: a portrait of about the tone, moved to it exactly.

        It moves as skins differ by tone: along the regression of the logarithm of each vertex'
        colour on that of the skin, in which all tones weigh alike. Lips, brows and shadows have
        slopes of their own.
        """
        log, lightness = self.colours.clamp(min=0.02).log(), self.lightness()
        level = self._mean(self.colours).log().mean(-1)
        tones = torch.tensor(SKIN_LIGHTNESS)
        group = (lightness[:, None] - tones).abs().argmin(1)
        weight = 1 / torch.bincount(group, minlength=len(tones))[group].clamp(min=8)
        weight = weight / weight.sum()
        away = level - weight @ level
        slope = torch.einsum(
            "n,nvc->vc", weight * away, log - torch.einsum("n,nvc->vc", weight, log)
        )
        slope = slope / (weight * away.square()).sum()
        rng, skins = np.random.default_rng(seed), []
        for tone in rng.uniform(1, len(tones), count):
            goal = float(np.interp(tone, np.arange(1, len(tones) + 1), SKIN_LIGHTNESS))
            near = (lightness - goal).abs().argsort()[: CANDIDATES[int(tone >= DARK_TONE)]]
            start, move = log[near[rng.integers(len(near))]], 0.0
            for _ in range(8):
                skin = (start + move * slope).exp()
                move += 0.022 * (goal - float(srgb_to_lab(self._mean(skin).clamp(0, 1))[0]))
            skins.append((start + move * slope).exp())
        return torch.stack(skins)

    def membrane(self, x: Float[Tensor, "face vertex 3"]) -> Float[Tensor, "face vertex 3"]:
        """Colours that go on where none were seen, blended in: the least over the mesh of
        trust (y - x)^2 + |grad y|^2 + 0.02 |laplacian y|^2. The first of x is the mean."""
        model = self.model
        region, height = model.regions, model.mean[:, 1]
        eyes = height[region["eyeballs"] > 0.5].mean()
        surface = region["skin"] + region["brows"] + region["lips"] > 0.3
        trust = self.seen * surface * (1 - region["border"])
        trust = (trust * torch.sigmoid((eyes + 58 - height) / 4)).double()
        bright, skin = x[0].mean(-1), region["skin"] > 0.7
        trust[(region["lips"] > 0.1) & (bright > TEETH_BRIGHT * bright[skin].mean())] = 0
        pairs = edges(model.faces).numpy()
        both = np.r_[pairs[:, 0], pairs[:, 1]], np.r_[pairs[:, 1], pairs[:, 0]]
        joined = sp.coo_matrix((np.ones(len(both[0])), both), shape=(len(trust),) * 2).tocsr()
        laplacian = sp.diags(np.asarray(joined.sum(1)).ravel()) - joined
        firm = 20 * trust.numpy() ** 2
        solve = factorized(
            (sp.diags(firm + 1e-6) + laplacian + 0.02 * laplacian @ laplacian).tocsc()
        )
        columns = x.movedim(1, 0).flatten(1).double().numpy()
        filled = np.stack([solve((firm + 1e-6) * column) for column in columns.T], -1)
        filled = torch.from_numpy(filled).float().unflatten(1, (len(x), 3)).movedim(0, 1)
        return torch.lerp(filled, x, ((trust - 0.25) / 0.5).clamp(0, 1).float()[:, None])


def wears_glasses(portraits: Portraits, model: MorphableModel) -> Bool[Tensor, " photo"]:
    """Whether a band across the bridge of the nose, or below the eyes, is darker than the skin
    above and below it by more than a share of the skin's brightness: thick rims, mostly."""
    region, (x, y, z) = model.regions, model.mean.T
    eyes = model.mean[region["eyeballs"] > 0.5]
    near = (region["skin"] > 0.7) & (z > eyes[:, 2].max() - 25)
    up, bright = y - eyes[:, 1].mean(), portraits.colours.float().mean(-1)
    bare = near & (region["border"] < 0.3) & (region["forehead"] < 0.3)
    usual = bright[:, bare].mean(1)
    found = torch.zeros(len(portraits), dtype=torch.bool)
    for heights, left, right, depth in RIMS:
        beside = near & (x.abs() >= left) & (x.abs() < right)
        bands = [beside & (up > low) & (up < low + 3) for low in heights]
        band = torch.stack([bright[:, rows].mean(1) for rows in bands], 1) / usual[:, None]
        above, below = (part.cummax(1).values for part in (band.flip(1), band))
        rims = torch.minimum(above.flip(1)[:, 2:], below[:, :-2]) - band[:, 1:-1]
        found |= rims.amax(1) > depth
    return found


def divide_light(
    portraits: Portraits, model: MorphableModel
) -> tuple[Float[Tensor, "photo vertex 3"], Float[Tensor, "photo 3"]]:
    """The shading of each vertex, of level one in each channel, and the mean colour of the skin.

    By turns: the light under which the usual pattern of skin, in the portrait's own colour, looks
    as it does, and the pattern, the median of all portraits over their shading.
    """
    rows = model.regions["skin"] * (1 - model.regions["border"])
    rows = ((rows * (1 - 0.5 * model.regions["forehead"])) > 0.7).nonzero()[:, 0]
    colour = portraits.colours[:, rows].float() / 255
    weight = portraits.weights[:, rows].float() / 255
    normals = F.normalize(portraits.normals[:, rows].float(), dim=-1)
    share = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
    skin, pattern = (colour * share[..., None]).sum(1), torch.ones(len(rows), 3)
    for _ in range(LIGHT_ROUNDS):
        albedo, prior = pattern * skin[:, None], ambient_lighting(1)
        light = solve_lighting(albedo, normals, colour, weight, prior=prior, ridge=LIGHT_RIDGE)
        level = [light_level(one.expand(-1, -1, 3)) for one in light.split(1, -1)]
        light = light / torch.stack(level, -1)[:, None]
        bare = colour / (sh_basis(normals) @ light).clamp(min=DIM / 2)
        skin = (bare * share[..., None]).sum(1)
        pattern = (bare / skin[:, None]).median(0).values
    parts = zip(portraits.normals.split(100), light.split(100), strict=True)
    shading = [sh_basis(F.normalize(n.float(), dim=-1)) @ one for n, one in parts]
    return torch.cat(shading).half(), skin


def first_of(both: Int[Tensor, " vertex"]) -> Int[Tensor, " half"]:
    """A vertex of each mirror pair."""
    first = torch.full((int(both.max()) + 1,), len(both))
    return first.scatter_reduce(0, both, torch.arange(len(both)), "amin")


def _one_side(
    portraits: Portraits, shading: Tensor, gains: Tensor, model: MorphableModel
) -> tuple[Float[Tensor, "face half 3"], Float[Tensor, "face half"], Int[Tensor, " vertex"]]:
    """Colours without light and exposure, both sides joined; weights; the row of each vertex."""
    pair, both = torch.minimum(torch.arange(len(model.mean)), model.mirror).unique(
        return_inverse=True
    )
    region, twin = model.regions, model.mirror[pair]
    inside = (region["eyeballs"] + region["mouth_interior"])[pair] > 0.5
    bare = (region["skin"] * (region["border"] < 0.3) * (region["forehead"] < 0.3))[pair] > 0.7
    lips = region["lips"][pair] > 0.1
    hairy = (region["forehead"] + region["border"])[pair] > 0.3
    values, weights = [], []
    for i in range(0, len(portraits), 100):
        some = slice(i, i + 100)
        photo = portraits.colours[some].float() / 255
        light = shading[some].float()
        colour = photo / light.clamp(min=DIM) / gains[some, None]
        weight = (portraits.weights[some].float() / 255) ** 1.5 * (light.mean(-1) > DIM)
        weight = weight * (photo.amax(-1) < BURNT) * (photo.amax(-1) > BLACK)
        sides = weight[:, pair], weight[:, twin]
        total = sum(sides)
        joined = sides[0][..., None] * colour[:, pair] + sides[1][..., None] * colour[:, twin]
        joined = joined / total.clamp(min=1e-6)[..., None]
        bright = joined.mean(-1)
        usual = (bright * total * bare).sum(1) / (total * bare).sum(1).clamp(min=1e-6)
        hair = hairy & (bright < HAIR * usual[:, None])
        red = log_opponents(joined)[..., 1]
        teeth = lips & (
            red < TEETH * ((red * total * bare).sum(1) / (total * bare).sum(1))[:, None]
        )
        values.append(joined)
        weights.append(total / 2 * ~(hair | teeth | inside))
    return torch.cat(values), torch.cat(weights), both
