"""`facerecon model`: facts and a picture."""

from dataclasses import replace

from command_line import facerecon, refused, works
from PIL import Image

from facerecon_lib.cli.model import model_facts
from facerecon_lib.pictures.model_sheet import model_sheet


def test_model_info_and_show(tmp_path):
    result = works("model", "info")
    for word in ("CC0-1.0", "80 identity, 43 expression, 25 albedo", "jawOpen", "bound; offsets"):
        assert word in result.stdout
    assert "light, monk; by default monk" in result.stdout
    assert "89.1 mm between the outer eye corners" in result.stdout
    path = tmp_path / "model.png"
    shown = ["model", "show", "--subdivision", "0", "--out", path]
    works(*shown)
    assert Image.open(path).size[0] > 1000
    refused(facerecon("model", "info", "nowhere"))
    (tmp_path / "file").touch()
    for bad in (tmp_path / "model.txt", tmp_path / "file" / "model.png"):
        refused(facerecon(*shown[:-1], bad))


def test_the_sheet_of_a_model_shows_what_it_has_and_leaves_out_what_it_lacks(model):
    few = replace(
        model,
        identity_basis=model.identity_basis[:2],
        expression_basis=model.expression_basis[:0],
        controls={},
        dense=None,
        metadata=model.metadata | {"name": "bare", "notes": '["of a test"]', "mirror": "nearest"},
    )
    titles = [axis.get_title() for axis in model_sheet(few).axes]
    assert {"68 landmarks", "mode 2, +2 sd", "mode 4, −1 sd", "face 8"} <= set(titles)
    assert not {"mode 3, +2 sd", "jawOpen"} & set(titles)
    facts = dict(model_facts(few))
    assert "expression, unit" not in facts
    assert "bind_face_mesh.py" in facts["478 points"]
    assert facts["identity, one sd"].startswith("modes 1 to 2 move a vertex by 1.42, 0.69 mm")
    assert facts["note"] == "of a test"
    assert "not symmetric" in facts["mirror"]
