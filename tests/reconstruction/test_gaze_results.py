"""Eyes of a result: irises lie where the photo's do, and result.json says where they look."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from small_faces import model

from facerecon_lib.face.camera import ndc_to_pixels, project_ndc
from facerecon_lib.face.gaze import eyeballs
from facerecon_lib.fitting.gaze import IRISES, Sight
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.photos.crop import crop_to_photo
from facerecon_lib.photos.detection import sample_photo
from facerecon_lib.reconstruction.reconstruct import encode_face
from facerecon_lib.reconstruction.result_files import result_dict


@lru_cache
def fitted():
    return encode_face(sample_photo(), model(), load_encoder(model=model()), dense=True)


def test_the_irises_of_the_mesh_lie_on_those_of_the_photo():
    done = fitted()
    pixels = ndc_to_pixels(project_ndc(done.face.v_camera, done.face.fov_deg))
    pixels = crop_to_photo(pixels, done.crop.matrix)[0]
    for eye, iris in zip(eyeballs(model(), done.fitted.coefficients.identity), IRISES, strict=True):
        pupil = eye.rows[(eye.points[0, :, 2] - eye.centre[0, 2]).argmax()]
        off = np.abs(pixels[pupil].numpy() - done.detection.points[iris])
        assert off.max() < 1  # of 512 px


def test_the_result_says_where_each_eye_looks():
    gaze = torch.tensor([[[0.2, -0.1], [0.3, 0.0]]])
    sight = Sight(gaze / 2, gaze, torch.tensor([[True, False]]))
    eyes = result_dict(replace(fitted(), sight=sight))["gaze"]
    assert eyes["right"] == {
        "yaw_deg": 11.46,
        "pitch_deg": -5.73,
        "seen": True,
        "mesh_deg": [5.73, -2.86],
    }
    assert (eyes["left"]["yaw_deg"], eyes["left"]["seen"]) == (17.19, False)


def test_closed_eyes_look_nowhere_and_a_model_without_eyeballs_has_no_gaze():
    closed = Sight(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.zeros(1, 2, dtype=torch.bool))
    eyes = result_dict(replace(fitted(), sight=closed))["gaze"]
    assert [eye["yaw_deg"] for eye in eyes.values()] == [None, None]
    assert eyes["left"]["mesh_deg"] == [0, 0]
    assert result_dict(replace(fitted(), sight=None))["gaze"] is None
