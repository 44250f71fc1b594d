"""What tests of importers share: the model that ships, which made-up files hold."""

import pytest

from facerecon_lib.face.morphable_model import MorphableModel


@pytest.fixture(scope="session")
def shipped(model: MorphableModel) -> MorphableModel:
    return model
