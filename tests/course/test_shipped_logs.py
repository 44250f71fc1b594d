"""What notebooks 06 and 09 plot of the shipped networks' training is what the logs say."""

import json
from pathlib import Path

import pytest

from facerecon_lib.course.nb06_base_branch.training_figures import shipped_log
from facerecon_lib.course.nb09_comparison.figures import SHIPPED_LOG
from facerecon_lib.training.logs import read_log

LOGS = Path(__file__).parents[2] / "docs/model_cards"


@pytest.mark.parametrize(
    ("run", "log"), [("first run", "base_encoder_log"), ("third run", "people_encoder_log")]
)
def test_the_thinned_log_of_the_encoder_has_the_log_s_numbers(run, log):
    lines = (LOGS / f"{log}.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    train = {r["faces"]: r["loss"] for r in records if r["kind"] == "train"}
    held_out = [r for r in records if r["kind"] == "validation"]
    shown = shipped_log()[run]
    for seen, loss in zip(shown["train"]["faces"], shown["train"]["loss"], strict=True):
        assert loss == pytest.approx(train[seen], abs=0.006)
    assert shown["train"]["faces"][-1] == max(train)
    for name, key in (("loss", "loss"), ("mm", "vertex_mm")):
        assert shown["held_out"][name] == pytest.approx([r[key] for r in held_out], abs=0.006)
    assert shown["held_out"]["count"] == held_out[0]["faces"]


def test_the_log_of_the_u_net_ships_and_has_its_steps():
    assert SHIPPED_LOG.parent.name == "assets"  # docs/ is not installed
    assert max(record["step"] for record in read_log(SHIPPED_LOG)) >= 3950
