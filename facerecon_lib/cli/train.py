"""The command `facerecon train`.

facerecon train base --profile smoke --out runs/first
facerecon train base --out runs/first --resume                  # with the settings of its start
facerecon train augmented --encoder runs/first/encoder.safetensors --out runs/maps
torchrun --nproc_per_node 2 -m facerecon_lib.cli train base --profile colab --out runs/second
fabric run --devices 2 "$(which facerecon)" train base --profile colab --out runs/second

`fabric run` is Lightning's and wants the package click; torchrun needs nothing more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .train_run import chosen_settings, train, with_setting

__all__ = ["chosen_settings", "train_app", "with_setting"]

train_app = typer.Typer(no_args_is_help=True, help="Train the networks.")

Text, Whole, Number = str | None, int | None, float | None
Out = Annotated[Path, typer.Option(help="Folder of the run: checkpoints, logs, network.")]
Profile = Annotated[
    Text, typer.Option(help="smoke (default), colab, full (the report's), or shipped.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")]
Data = Annotated[Text, typer.Option(help="Shards of photos; without it, rendered faces.")]
Recognition = Annotated[Text, typer.Option(help="Network of Eq. 6: none, dlib or facenet.")]
Steps = Annotated[Whole, typer.Option(help="Steps in all.")]
Epochs = Annotated[Number, typer.Option(help="Instead of --steps.")]
Batch = Annotated[Whole, typer.Option(help="Faces a step, of all processes together.")]
Rate = Annotated[Number, typer.Option(help="Adam's.")]
Precision = Annotated[Text, typer.Option(help="32-true or bf16-mixed (the network only).")]
Split = Annotated[Text, typer.Option(help="Of photos: random or person.")]
Seed = Annotated[Whole, typer.Option(help="Another seed, other faces.")]
Workers = Annotated[Whole, typer.Option(help="Processes that read photos.")]
Model = Annotated[Path | None, typer.Option(help="A face model (.safetensors).")]
Other = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other setting of training/settings.py, or weights.TERM. May be repeated.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Devices = Annotated[Whole, typer.Option(help="Processes on this machine, one a device.")]
Nodes = Annotated[Whole, typer.Option(help="Machines.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch weights that are not here.")]


@train_app.command("base")
def train_base_command(
    out: Out,
    profile: Profile = None,
    resume: Resume = False,
    data: Data = None,
    backbone: Annotated[
        Text, typer.Option(help="resnet50, resnet18, mobilenet_v3_large, dlib_resnet29.")
    ] = None,
    norm: Annotated[Text, typer.Option(help="batch, group or frozen.")] = None,
    pretrained: Annotated[
        Text, typer.Option(help="none, imagenet, or faces (of dlib_resnet29).")
    ] = None,
    losses: Annotated[
        Text,
        typer.Option(
            help="report (Eq. 7, sums), balanced (means, priors), rendered (known truth)."
        ),
    ] = None,
    recognition: Recognition = None,
    steps: Steps = None,
    epochs: Epochs = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    precision: Precision = None,
    split: Split = None,
    seed: Seed = None,
    workers: Workers = None,
    model: Model = None,
    other: Other = None,
    device: Device = "auto",
    devices: Devices = None,
    num_nodes: Nodes = None,
    download: Download = False,
) -> None:
    """Train the encoder of the base branch, section 2.1 of the report."""
    train("base", **locals())


@train_app.command("augmented")
def train_augmented_command(
    out: Out,
    profile: Profile = None,
    resume: Resume = False,
    data: Data = None,
    encoder: Annotated[
        Path | None,
        typer.Option(help="The frozen encoder; default: $FACERECON_ENCODER, or the shipped one."),
    ] = None,
    illumination: Annotated[
        Text,
        typer.Option(help="Of the base face: photo, encoder, or solved for: free, grey, known."),
    ] = None,
    albedo: Annotated[
        Text,
        typer.Option(
            help="Basis of the base face, one of the model's; default: its own, and of the smoke "
            "profile light (tones 1 to 4 alone)."
        ),
    ] = None,
    width: Annotated[Whole, typer.Option(help="Channels of the U-Net at full resolution.")] = None,
    space: Annotated[Text, typer.Option(help="What the maps are laid out in: image or uv.")] = None,
    wrinkles: Annotated[
        bool | None,
        typer.Option("--wrinkles/--no-wrinkles", help="Rendered faces with wrinkles and marks."),
    ] = None,
    pretrained: Annotated[Text, typer.Option(help="none, or a U-Net's file to go on from.")] = None,
    losses: Annotated[
        Text,
        typer.Option(help="report (Eq. 12, sums), balanced (means), rendered (known truth)."),
    ] = None,
    recognition: Recognition = None,
    steps: Steps = None,
    epochs: Epochs = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    precision: Precision = None,
    split: Split = None,
    seed: Seed = None,
    workers: Workers = None,
    model: Model = None,
    other: Other = None,
    device: Device = "auto",
    devices: Devices = None,
    num_nodes: Nodes = None,
    download: Download = False,
) -> None:
    """Train the U-Net of the augmented branch on a frozen encoder, section 2.2 of the report."""
    train("augmented", **locals())
