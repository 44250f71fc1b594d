"""The file of a trained network: found, read, checked against the face model, or one line why not.

    encoder = ENCODER_FILE.load(None, model, "cpu", build)    # the one that ships

Notebooks 06, 07 and 11 to 13: the encoder, the offset U-Net and others are such files.
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


@dataclass(frozen=True)
class NetworkFile:
    """What a network's files have in common."""

    format: str  # of the metadata
    shipped: str  # the file's name in the package
    variable: str  # the environment variable that names another file
    maker: str  # the command that makes one
    what: str  # for messages
    error: type[FacereconError]
    one_albedo: bool = False  # whether it needs the albedo basis that it was trained on

    def default_path(self) -> Path:
        """The file that the environment variable names; without it, the one that ships."""
        return named_file(self.variable) or shipped_file(self.shipped)

    def fits(self, model: MorphableModel) -> bool:
        """Whether the file that ships was trained for that model; True where another is named.

        Raises `error` when the one that ships is missing or damaged.
        """
        if named_file(self.variable):
            return True
        _, metadata = self._read(shipped_file(self.shipped))
        return not self._mismatch(metadata, model)

    def load(
        self,
        path: Path | None,
        model: MorphableModel | None,
        device: torch.device | str,
        build: Callable[[dict[str, Tensor], dict[str, str]], nn.Module],
    ) -> nn.Module:
        """The network that `build(state, metadata)` makes, in eval mode; None: `default_path()`.

        Raises `error` when the file is missing, damaged, of another kind, or trained for another
        face model; it names the variable where that named the file.
        """
        if path is None and named_file(self.variable):
            try:
                return self.load(self.default_path(), model, device, build)
            except self.error as error:
                raise self.error(f"${self.variable}: {error}") from None
        path = shipped_file(self.shipped) if path is None else Path(path)
        state, metadata = self._read(path)
        try:
            with torch.random.fork_rng([]):  # loading draws no random numbers
                network = build(state, metadata)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            reason = f"its parts do not fit ({one_line(error)[:200]})"
            raise self.error(f"{path.name}: {reason}; train it again") from None
        if model is not None:
            hint = f" and name it: ${self.variable}" if path == shipped_file(self.shipped) else ""
            if mismatch := self._mismatch(metadata, model):
                raise self.error(f"{path.name}: was trained {mismatch}{hint}")
        network.name, network.metadata = path.name, metadata
        return network.eval().to(device)

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
        return read_weights(path, self.format, self.error, self.maker, self.what)

    def _mismatch(self, metadata: dict[str, str], model: MorphableModel) -> str:
        """How the model of training differs in name, modes or albedo basis; "" if it does not."""
        name = model.metadata.get("name", model.metadata["file"])
        trained, modes = metadata.get("model", name), ["", ""]
        if "sizes" in metadata:
            sizes = json.loads(metadata["sizes"]), model.sizes
            modes = [f" ({', '.join(map(str, numbers))} modes)" for numbers in sizes]
        if trained != name or modes[0] != modes[1]:
            return f"for {trained}{modes[0]}, not for {name}{modes[1]}; train one with that model"
        albedo = model.metadata.get("albedo", "monk")
        if self.one_albedo and metadata.get("albedo", albedo) != albedo:
            basis = metadata["albedo"]
            return f"on the albedo basis {basis!r}, not on {albedo!r}; take another, or train one"
        return ""
