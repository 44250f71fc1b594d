"""The file of a trained network: found, read, checked against the face model, or one line why not.

    encoder = ENCODER_FILE.load(None, model, "cpu", build)    # the one that ships

Notebooks 06 and 07: the encoder and the offset U-Net are such files.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..face.morphable_model import MorphableModel
from ..files.errors import FacereconError, one_line
from ..files.weights import named_file, read_weights, shipped_file

State = dict[str, Tensor]


@dataclass(frozen=True)
class NetworkFile:
    """What a network's files have in common.

    format: of the metadata. shipped: the file's name in the package. variable: the environment
    variable that names another file. maker: the command that makes one. what, error: for messages.
    one_albedo: whether the network needs the albedo basis that it was trained on.
    """

    format: str
    shipped: str
    variable: str
    maker: str
    what: str
    error: type[FacereconError]
    one_albedo: bool = False

    def default_path(self) -> Path:
        """The file that the environment variable names; without it, the one that ships."""
        return named_file(self.variable) or shipped_file(self.shipped)

    def load(
        self,
        path: Path | None,
        model: MorphableModel | None,
        device: torch.device | str,
        build: Callable[[State, dict[str, str]], nn.Module],
    ) -> nn.Module:
        """The network that `build(state, metadata)` makes, in eval mode; None: `default_path()`.

        Raises `error`, one line, when the file is missing, damaged, of another kind, or trained for
        another face model; it names the variable where that named the file.
        """
        if path is None and named_file(self.variable):
            try:
                return self.load(self.default_path(), model, device, build)
            except self.error as error:
                raise self.error(f"${self.variable}: {error}") from None
        path = shipped_file(self.shipped) if path is None else Path(path)
        state, metadata = read_weights(path, self.format, self.error, self.maker, self.what)
        try:
            with torch.random.fork_rng([]):  # loading draws no random numbers
                network = build(state, metadata)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            reason = one_line(error)[:200]
            raise self.error(
                f"{path.name}: its parts do not fit ({reason}); train it again"
            ) from None
        if model is not None:
            self._check_model(path, metadata, model)
        network.name, network.metadata = path.name, metadata
        return network.eval().to(device)

    def _check_model(self, path: Path, metadata: dict[str, str], model: MorphableModel) -> None:
        """The name, the numbers of modes and the albedo basis, as far as they count, are equal."""
        name = model.metadata.get("name", model.metadata["file"])
        trained = metadata.get("model", name)
        sizes = json.loads(metadata["sizes"]) if "sizes" in metadata else list(model.sizes)
        if trained != name or sizes != list(model.sizes):
            modes = ["", ""]
            if "sizes" in metadata:
                modes = [f" ({', '.join(map(str, s))} modes)" for s in (sizes, model.sizes)]
            hint = f" and name it: ${self.variable}" if path == shipped_file(self.shipped) else ""
            raise self.error(
                f"{path.name}: was trained for {trained}{modes[0]}, not for {name}{modes[1]}; "
                f"train one with that model{hint}"
            )
        albedo = model.metadata.get("albedo", "monk")
        if self.one_albedo and metadata.get("albedo", albedo) != albedo:
            raise self.error(
                f"{path.name}: was trained on the albedo basis {metadata['albedo']!r}, not on "
                f"{albedo!r}; take another, or train one"
            )
