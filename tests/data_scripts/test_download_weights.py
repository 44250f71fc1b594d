"""The table of trained weights, and the script that fetches them. No network: a server of ours."""

import functools
import hashlib
import http.server
import os
import threading
from dataclasses import replace
from pathlib import Path

import download_weights
import pytest
import torch
from script_runs import run_script

from facerecon_lib.files.downloads import ROOM
from facerecon_lib.networks import face_networks as recognition_networks
from facerecon_lib.networks.backbones import BACKBONES, imagenet_file
from facerecon_lib.photos import landmarks


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "torch"


@pytest.fixture
def served(home, tmp_path, monkeypatch):
    """Three small files of the table on a server of ours; those the script knows of instead."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download_weights.fetch.__globals__["urllib"].request, "_opener", None)
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        known = []
        for one in download_weights.known_weights():
            if one.name not in ("resnet50", "facenet", "s3fd"):
                continue
            content = one.name.encode() * 1000
            (folder / one.path.name).write_bytes(content)
            url = f"http://127.0.0.1:{server.server_port}/{one.path.name}"
            digest = hashlib.sha256(content).hexdigest()[: len(one.sha256)]
            known.append(replace(one, url=url, sha256=digest, size=len(content)))
        monkeypatch.setattr(download_weights, "known_weights", lambda: known)
        yield folder
        server.shutdown()


def call(*arguments: str, code: int = 0):
    done = run_script(download_weights.main, *arguments)
    assert done.exit_code == code, done.output
    return done


def known_by_name() -> dict[str, download_weights.Weights]:
    return {one.name: one for one in download_weights.known_weights()}


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_every_place_is_the_one_where_the_library_looks(home):
    known = known_by_name()
    for backbone in {*BACKBONES} - {"dlib_resnet29"}:
        assert known[backbone].path == imagenet_file(backbone)
        assert known[backbone].url.endswith(known[backbone].path.name)
    assert known["facenet"].path == recognition_networks.facenet_file()
    for one in known.values():
        assert one.path.is_relative_to(home)
    fan = known["3dfan4"].path
    assert landmarks._face_alignment_weights() is None
    fan.parent.mkdir(parents=True)
    fan.touch()
    assert landmarks._face_alignment_weights() == fan


def test_the_addresses_of_face_alignment_are_its_own():
    api = pytest.importorskip("face_alignment.api")
    sfd = pytest.importorskip("face_alignment.detection.sfd.sfd_detector")
    theirs = {*api.models_urls.values(), *sfd.models_urls.values()}
    ours = {one.url for one in download_weights.known_weights()}
    assert {url for url in ours if url.startswith(download_weights.FACE_ALIGNMENT)} == theirs


def test_every_checksum_agrees_with_the_name_of_its_file():
    for one in download_weights.known_weights():
        if one.name != "facenet":  # whose name is a date
            digits = one.path.name.partition(".")[0].rpartition("-")[2]
            assert one.sha256.startswith(digits), one.name
        assert len(one.sha256) in (10, 64)
        assert all((one.terms, one.purpose, one.without))
        assert one.size > 20e6


def test_the_list_says_all_and_what_state_each_is_in(home, served):
    known = known_by_name()
    call("resnet50")
    known["facenet"].path.parent.mkdir(parents=True, exist_ok=True)
    known["facenet"].path.write_bytes(b"damaged")
    part = known["s3fd"].path.with_name(f".{known['s3fd'].path.name}.part")
    part.write_bytes(b"x" * 2_000_000)
    part.with_name(f"{part.name}.json").write_text("{}")
    rows = [line.split("│")[1:-1] for line in call("--list").stdout.splitlines()]
    columns = zip(*[cells for cells in rows if len(cells) == 3], strict=True)
    states, uses, facts = (" ".join(" ".join(column).split()) for column in columns)
    for state in ("resnet50 0 MB here", "facenet 0 MB damaged", "s3fd 0 MB begun, 2 MB are here"):
        assert state in states
    assert uses.count("without it:") == 3
    for one in known.values():
        for fact in (one.sha256, one.terms, one.path.relative_to(home)):
            assert str(fact).replace(" ", "") in facts.replace(" ", "")


def test_a_checksum_of_which_little_is_known_says_so():
    known = known_by_name()
    assert known["3dfan4"].checksum == "7835d9f11d... (its name ends in it; no more is known)"
    assert known["3dfan4"].megabytes == "about 95 MB"
    assert known["resnet50"].checksum == known["resnet50"].sha256


def test_all_is_what_the_library_reads(home, served):
    done = call("all")
    found = sorted(path.name for path in home.rglob("*") if path.is_file())
    assert found == ["20180402-114759-vggface2.pt", "resnet50-0676ba61.pth"]
    assert [line.partition(":")[0] for line in lines(done.stdout)] == ["resnet50", "facenet"]
    assert call("all").stdout.count("is here") == 2


def test_one_that_is_damaged_is_fetched_again(home, served):
    [one, *_] = download_weights.known_weights()
    one.path.parent.mkdir(parents=True)
    one.path.write_bytes(b"damaged")
    call("resnet50")
    assert one.state() == "here"


def test_a_dry_run_writes_nothing(home, served):
    done = call("resnet50", "s3fd", "--dry-run")
    assert len(lines(done.stdout)) == 2
    for one in download_weights.known_weights():
        if one.name != "facenet":
            assert f"from {one.url} to {one.path}; {one.terms}" in done.stdout
    assert not home.exists()


def test_one_that_fails_does_not_keep_the_others_from_coming(home, served):
    (served / "resnet50-0676ba61.pth").write_bytes(b"<html>")
    (served / "s3fd-619a316812.pth").unlink()
    done = call("resnet50", "s3fd", "facenet", code=2)
    wrong, missing = (line for line in lines(done.stderr) if line.startswith("download_weights: "))
    assert wrong.startswith("download_weights: resnet50: http")
    assert "thrown away; or fetch it elsewhere and put it at" in wrong
    assert missing.startswith("download_weights: s3fd: http")
    assert "answers 404" in missing
    [file] = (path for path in home.rglob("*") if path.is_file())
    assert file.name == "20180402-114759-vggface2.pt"


def test_what_is_wrong_is_one_line(home, served, monkeypatch):
    for arguments, message in (
        ((), "name what to fetch, or all; --list shows what there is"),
        (("resnet50", "vgg16"), "vgg16: is unknown; choose all, resnet50, facenet, s3fd"),
    ):
        assert call(*arguments, code=2).stderr == f"download_weights: {message}\n"
    usage = download_weights.shutil.disk_usage(home.parent)._replace(free=ROOM + 1)
    monkeypatch.setattr(download_weights.shutil, "disk_usage", lambda _: usage)
    [line] = lines(call("all", code=2).stderr)
    assert "make room, or set TORCH_HOME" in line
    assert not home.exists()


def test_a_place_that_cannot_be_written_is_said_before_anything_is_fetched(
    home, served, monkeypatch
):
    home.write_text("a file, and no folder")
    said = f"download_weights: {home}: cannot be written; set TORCH_HOME to a folder that can be\n"
    assert call("resnet50", code=2).stderr == said
    home.unlink()
    monkeypatch.setattr(download_weights.os, "access", lambda folder, mode: False)
    assert call("resnet50", code=2).stderr == said.replace(str(home), str(home.parent))


def test_ctrl_c_is_a_line_and_exit_130(home, served, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(download_weights, "fetch", stopped)
    said = call("resnet50", code=130).stderr
    assert said == "download_weights: resnet50: stopped; the same command resumes\n"


def test_disks_are_counted_apart(home, served, monkeypatch):
    """Two files that fit on two disks, and would not on one."""
    known = download_weights.known_weights()
    other = home.parent / "other"
    other.mkdir()
    known[1] = replace(known[1], path=other / "facenet.pt")
    usage = download_weights.shutil.disk_usage(home.parent)._replace(free=ROOM + 8500)
    monkeypatch.setattr(download_weights.shutil, "disk_usage", lambda _: usage)
    stat, second_disk = os.stat, {str(other)}

    def numbered(path, **more):
        on_it = str(path) in second_disk
        return os.stat_result([0o040755, 0, 2, *[0] * 7]) if on_it else stat(path, **more)

    monkeypatch.setattr(download_weights.os, "stat", numbered)
    download_weights.check_room(known[:2])
    second_disk.clear()
    with pytest.raises(download_weights.DownloadError, match="make room"):
        download_weights.check_room(known[:2])
