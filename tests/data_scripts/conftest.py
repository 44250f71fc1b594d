"""What tests of importers share: the model that ships, which made-up files hold."""

import pytest

from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.weights import shipped_file


@pytest.fixture(scope="session")
def shipped() -> MorphableModel:
    return MorphableModel.load(shipped_file("face_model.safetensors"), subdivision=0)
