"""Stage two for `training/loop.py`: the augmented branch's step, its parts, and the bare U-Net."""

from __future__ import annotations

import torch
from timing import Stopwatch

from facerecon_lib.augmented.branch import augment, unet_inputs
from facerecon_lib.augmented.objective import AugmentedObjective
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import CROP_SIZE
from facerecon_lib.fitting.objective import Objective
from facerecon_lib.networks.unet import DoubleHeadUNet, OffsetMaps
from facerecon_lib.training.loop import open_stage
from facerecon_lib.training.processes import make_fabric
from facerecon_lib.training.settings import AugmentedSettings, loss_weights

LEARNING_RATE, CLIP_NORM = 3e-5, 10.0
PRECISION = {"bf16": "bf16-mixed", "fp32": "32-true"}


class AugmentedTraining:
    """The training step, without log and checkpoints.

    weights "report": Eq. 12 as printed, on faces without details; "rendered": with known truth, on
    faces with them.
    """

    def __init__(self, s, batch: int):
        self.s, self.batch, self.seen = s, batch, 0
        report = s.weights == "report"
        self.settings = AugmentedSettings(
            subdivision=s.subdivision,
            width=s.width,
            batch=batch,
            learning_rate=LEARNING_RATE,
            precision=PRECISION[s.precision],
            weights=loss_weights("augmented", s.weights, s.recognition),
            recognition=s.recognition,
            reduction="sum" if report else "mean",
            symmetry="image" if report else "mesh",
            smooth_on="face" if report else "offsets",
            wrinkles=not report,
        )
        self.fabric = make_fabric(s.device, precision=self.settings.precision)
        self.stage = open_stage(self.settings, self.fabric.device)
        self.stage.prepare(self.fabric)
        o = self.stage.objective
        plain = {name: w for name, w in o.weights.items() if name != "recognition"}
        choices = (o.reduction, None, o.symmetry, o.smooth_on)
        self.without_recognition = AugmentedObjective(o.model, plain, *choices)
        self.faces = RenderedFaces(self.stage.scenes, seed=0, wrinkles=self.settings.wrinkles)
        torch.manual_seed(0)
        self.network, self.adam = self._ready(self.stage.network(self.fabric))

    def _ready(self, unet: DoubleHeadUNet):
        unet.to(self.fabric.device, memory_format=torch.channels_last).train()
        adam = torch.optim.Adam(unet.parameters(), lr=LEARNING_RATE, fused=True)
        return self.fabric.setup(unet, adam)

    def data(self) -> FaceBatch:
        """The next faces; never the same ones twice."""
        start, self.seen = self.seen, self.seen + self.batch
        return self.faces.batch(torch.arange(start, start + self.batch))

    def clip(self, objective: Objective) -> None:
        """Clips the gradient, and waits to hear that all is finite, as training does."""
        norm = self.fabric.clip_gradients(
            self.network, self.adam, max_norm=CLIP_NORM, error_if_nonfinite=False
        )
        values = torch.stack([*objective.terms.values(), objective.loss, norm]).detach()
        if not torch.isfinite(values).all():
            raise FloatingPointError(f"not finite: {[*objective.terms]}, loss, norm: {values}")

    def descend(self) -> None:
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def step(self, batch: FaceBatch) -> None:
        objective = self.stage.objective(self.stage.predict(self.network, batch), batch)
        self.fabric.backward(objective.loss)
        self.clip(objective)
        self.descend()

    def bare(self) -> Bare:
        """What the ratios are to."""
        return Bare(self)

    def parts(self) -> dict[str, float]:
        """Seconds of the parts of one step.

        It is cut at the maps, the only way from the losses back into the U-Net. What recognition
        takes, and what the losses take beside the rendering, is the difference to the same without
        it, which is run in addition.
        """
        clock, s = Stopwatch(self.s.device), self.settings
        with clock("data"):
            batch = self.data()
        with clock("base branch"):
            base = self.stage.base_branch(batch)
        with clock("U-Net"):
            pair = unet_inputs(batch.image, base, s.space)
            seen = self.network(*(x.contiguous(memory_format=torch.channels_last) for x in pair))
        maps = OffsetMaps(*(value.detach().requires_grad_() for value in seen))
        with clock("augment"):
            found = augment(base, maps, s.sampling, s.space)
        with clock("render"):
            face = found.face
            trust = self.without_recognition.vertex_weights[None, :, None].expand(len(found), -1, 1)
            face.render(CROP_SIZE, attributes=torch.cat([face.colours, trust], -1), near=None)
        with clock("plain"):
            objective = self.without_recognition(found, batch)
        with clock("plain backward"):
            pulls = torch.autograd.grad(objective.loss, maps, retain_graph=True)
        with_it = self.s.recognition != "none"
        if with_it:
            with clock("full"):
                objective = self.stage.objective(found, batch)
            with clock("full backward"):
                pulls = torch.autograd.grad(objective.loss, maps)
        with clock("U-Net backward"):
            # Fabric wants to be the one who goes back through its network
            self.fabric.backward(sum((a * b).sum() for a, b in zip(seen, pulls, strict=True)))
        with clock("clip"):
            self.clip(objective)
        with clock("adam"):
            self.descend()
        t = clock.times
        parts = {
            "data": t["data"],
            "base branch, frozen": t["base branch"],
            "U-Net, forward": t["U-Net"],
            "sampling, normals, light, forward": t["augment"],
            "rendering, forward": t["render"],
            "other losses, forward": t["plain"] - t["render"],
            "all from the losses to the maps, backward": t["plain backward"],
            "U-Net, backward": t["U-Net backward"],
            "clipping and guard": t["clip"],
            "Adam": t["adam"],
        }
        if with_it:
            parts["recognition, forward"] = t["full"] - t["plain"]
            parts["recognition, backward"] = t["full backward"] - t["plain backward"]
        return parts


class Bare:
    """The U-Net and nothing else, on random pictures."""

    def __init__(self, training: AugmentedTraining):
        self.fabric = training.fabric
        unet = DoubleHeadUNet(training.s.width)
        self.network, self.adam = training._ready(unet)
        pair = torch.rand(2, training.batch, 3, CROP_SIZE, CROP_SIZE, device=self.fabric.device)
        self.pair = [x.contiguous(memory_format=torch.channels_last) for x in pair]

    def step(self, adam: bool) -> None:
        maps = self.network(*self.pair)
        self.fabric.backward(maps.texture.mean() + maps.displacement.mean())
        if adam:
            self.adam.step()
        self.adam.zero_grad(set_to_none=True)
