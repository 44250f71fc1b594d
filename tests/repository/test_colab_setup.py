"""What comes in on Colab is what is missing; what is there stays."""

from pathlib import Path

import colab_setup as colab
import pytest

ROOT = Path(__file__).parents[2]


def with_installed(monkeypatch, **versions):
    """As if on a machine that has all that is wanted but for these; None: it is not there."""
    there = dict(colab.locked())
    there |= {name.replace("_", "-"): version for name, version in versions.items()}
    there = {name: version for name, version in there.items() if version}
    monkeypatch.setattr(colab, "installed", lambda: there)
    return there


def test_nothing_is_missing_where_everything_is(monkeypatch):
    with_installed(monkeypatch)
    assert colab.missing() == []


def test_what_is_missing_comes_at_the_locked_version(monkeypatch):
    with_installed(monkeypatch, warp_lang=None, facenet_pytorch=None)
    pins = colab.locked()
    assert colab.missing() == [
        f"warp-lang=={pins['warp-lang']}",
        f"facenet-pytorch=={pins['facenet-pytorch']}",
    ]


def test_another_version_that_serves_is_left_as_it_is(monkeypatch):
    with_installed(monkeypatch, torch="2.9.0+cu126", numpy="2.0.2", pillow="11.3.0")
    assert colab.missing() == []


def test_a_torch_that_is_too_old_is_not_replaced_but_named(monkeypatch):
    with_installed(monkeypatch, torch="2.3.1")
    with pytest.raises(RuntimeError, match=r"torch 2\.3\.1: expected >=2\.4"):
        colab.missing()


def test_what_the_missing_need_in_turn_comes_too_and_nothing_that_is_there(monkeypatch):
    there = with_installed(monkeypatch, wadler_lindig=None)
    pin = f"wadler-lindig=={colab.locked()['wadler-lindig']}"
    assert colab.dependencies([f"jaxtyping=={there['jaxtyping']}"]) == [pin]
    assert colab.dependencies(["facenet-pytorch==2.6.0"]) == []


def test_wheels_are_asked_for_and_no_dependency_ever(monkeypatch):
    calls = []
    monkeypatch.setattr(colab, "pip", lambda *arguments: calls.append(arguments))
    with_installed(monkeypatch)
    pins = ["warp-lang==1", "facenet-pytorch==2.6.0"]
    assert colab.install(pins) == pins
    assert calls == [("--no-deps", "--only-binary", ":all:", *pins)]


def test_what_pip_could_not_do_is_said_in_its_own_last_lines():
    with pytest.raises(RuntimeError, match="pip could not install what is missing:\nERROR: "):
        colab.pip("--no-index", "no-such-distribution-of-ours")


def test_what_training_needs_comes_too(monkeypatch):
    with_installed(monkeypatch, lightning=None, webdataset=None)
    assert {pin.split("==")[0] for pin in colab.missing()} == {"lightning", "webdataset"}
