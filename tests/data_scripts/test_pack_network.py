"""Networks packed to ship: any that training writes, from its file or its run."""

import json

import pytest
import torch
import typer
from pack_network import main

from facerecon_lib.beyond.depth_network import DepthUNet, load_depth_unet, save_depth_unet
from facerecon_lib.beyond.learned_model import load_learned_model
from facerecon_lib.files.downloads import sha256_of
from facerecon_lib.files.weights import shipped_file
from facerecon_lib.training.profiles import DEPTH_PROFILES


def test_a_network_is_packed_by_its_file_s_format(tmp_path, capsys):
    out = tmp_path / "small.safetensors"
    main(shipped_file("learned_model.safetensors"), out)
    assert "more than 0.0e+00 of its length" in capsys.readouterr().out  # it is in 16 bits already
    whole, packed = load_learned_model(), load_learned_model(out)
    assert whole.metadata == packed.metadata
    assert torch.equal(whole.shape_nodes, packed.shape_nodes)


def test_a_run_gives_its_last_average_and_its_story_without_folders(tmp_path):
    step, network = tmp_path / "run/checkpoints/step-000007", DepthUNet(32, 8, 3)
    step.mkdir(parents=True)
    for name in ("depth_unet.safetensors", "ema.safetensors"):
        torch.nn.init.normal_(network.head.last.weight)
        save_depth_unet(step / name, network, store="float32")
    settings = DEPTH_PROFILES["smoke"].as_json() | {"init": "/home/me/start.safetensors"}
    state = dict(format="facerecon-checkpoint-1", step=7, settings=settings, validation={})
    state |= dict(face_model="0" * 64, sha256={p.name: sha256_of(p) for p in step.iterdir()})
    (step / "state.json").write_text(json.dumps(state))
    main(tmp_path / "run", tmp_path / "depth.safetensors")
    packed = load_depth_unet(tmp_path / "depth.safetensors")
    assert torch.equal(packed.head.last.weight, network.head.last.weight.half().float())
    assert (packed.metadata["steps"], packed.metadata["faces"]) == ("7", "28")
    assert json.loads(packed.metadata["settings"])["init"] == "start.safetensors"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("depth_unet.safetensors", {"store": "int8"}, "are for encoders"),
        ("face_model.safetensors", {}, "is no network of this project"),
        ("learned_model_study.json", {}, "cannot be read"),
        ("", {}, "holds no checkpoint"),
    ],
)
def test_what_cannot_be_packed_is_refused_in_a_line(tmp_path, capsys, name, options, words):
    with pytest.raises(typer.Exit):
        main(shipped_file(name), tmp_path / "out.safetensors", **options)
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()
