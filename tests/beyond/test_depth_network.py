"""The depth network: its start, its file, what it refuses."""

import pytest
import torch

from facerecon_lib.beyond.depth_network import (
    DepthError,
    DepthUNet,
    load_depth_unet,
    save_depth_unet,
)
from facerecon_lib.networks.unet import UNetError, load_unet


def test_a_new_network_draws_nothing_and_one_of_the_unet_its_displacement():
    picture = torch.rand(1, 6, 64, 64, generator=torch.Generator().manual_seed(1))
    photo, rendering = picture.split(3, 1)
    network, unet = DepthUNet(64), load_unet()
    with torch.no_grad():
        assert not network(photo, rendering).any()
        network.take(unet)
        expected = unet(photo, rendering).displacement[:, 2:]
        torch.testing.assert_close(network.eval()(photo, rendering), expected)


def test_a_file_gives_the_network_back(tmp_path):
    network = DepthUNet(32, 8, 3)
    torch.nn.init.normal_(network.head.last.weight)
    save_depth_unet(tmp_path / "n.safetensors", network, store="float32")
    again = load_depth_unet(tmp_path / "n.safetensors")
    photo = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(again(photo, photo), network.eval()(photo, photo))
    assert again.pixels == 32


def test_sizes_that_do_not_halve_and_missing_files_are_refused(tmp_path):
    with pytest.raises(DepthError, match="multiple of 16"):
        DepthUNet(100)
    with pytest.raises(UNetError, match="width"):
        DepthUNet(64, width=3)
    with pytest.raises(DepthError, match="facerecon train depth"):
        load_depth_unet(tmp_path / "none.safetensors")
