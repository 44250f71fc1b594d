"""Messages on one line, and the one base of the library's errors."""

from pathlib import Path

import pytest

from facerecon_lib.data.shards.files import ShardsError
from facerecon_lib.face.model_file import ModelError
from facerecon_lib.files.downloads import DownloadError
from facerecon_lib.files.errors import FacereconError, one_line, readable_name
from facerecon_lib.networks.backbones import EncoderError
from facerecon_lib.networks.face_networks import RecognitionError
from facerecon_lib.networks.unet import UNetError
from facerecon_lib.photos.landmarks import DetectionError
from facerecon_lib.photos.reading import PhotoError
from facerecon_lib.reconstruction.output_folder import OutputError


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a\n  b\tc ", "a b c"),
        (ValueError("a\nb"), "a b"),
        (KeyError(), "KeyError"),
        ("", ""),
        (Path("caf\udce9/a.jpg"), "caf\ufffd/a.jpg"),
        ("caf\udcc3\udca9", "café"),
    ],
)
def test_a_message_is_one_line_of_text(message, line):
    assert one_line(message) == line


def test_a_file_name_is_readable():
    assert readable_name(Path("folder/my\nphoto\udcff.jpg")) == "my photo\ufffd.jpg"
    assert readable_name(Path("\n")) == "photo"


def test_errors_have_one_base():
    ours = (DetectionError, EncoderError, DownloadError, ModelError, OutputError, PhotoError)
    for error in (*ours, RecognitionError, ShardsError, UNetError):
        with pytest.raises(FacereconError, match=r"^a: is damaged$"):
            raise error("a: is damaged")
    assert issubclass(DownloadError, OSError)
