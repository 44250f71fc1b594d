"""Preparing photos: none is lost, repeated or mixed, whatever the files, whenever killed."""

import errno
import functools
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

pytest.importorskip("webdataset")

import prepare_cacd
import render_photo_folder
from benchmarks import judge_prepared_faces
from photo_shards import preparation, rendered, report
from photo_shards import run as preparation_run
from photo_shards.folder import FolderError, Photo, PhotoFolder, find_meta, list_photos, read_meta
from photo_shards.preparation import Job, Settings, prepare_photo, prepare_share
from script_runs import run_script
from written_shards import ShardsWriter

from facerecon_lib.data.shards.files import ShardsError
from facerecon_lib.data.shards.reader import PhotoShards
from facerecon_lib.data.shards.samples import encode_photo, tar_bytes, write_shard
from facerecon_lib.files.errors import FacereconError
from facerecon_lib.files.locks import only_one
from facerecon_lib.photos import detection, face_mesh_network, face_search
from facerecon_lib.photos.crop import Crop, align
from facerecon_lib.photos.landmarks import landmarks_from
from facerecon_lib.photos.quality import FLAGS, Quality
from facerecon_lib.pictures.faces import to_uint8

NAMES = [f"{20 + i}_Some_Body_{i:04d}.jpg" for i in range(41)]
SETTINGS = Settings("face-mesh", photos_per_shard=7)


@functools.cache
def crop() -> Crop:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    return align(np.asarray(small.resize((200, 200))), rng.uniform(40, 160, (68, 2)))


@functools.cache
def sample() -> dict:
    return encode_photo("key", crop(), "2d", "Some_Body", "a.jpg")


def stand_in(photo: Photo, settings, device: str = "cpu"):
    """What `prepare_photo` gives, at once: a face, or for every fifth photo none."""
    row = {"photo": photo.name, "status": "face", "reason": "", "key": photo.key}
    row |= {"person": photo.person, "about": photo.about}
    if photo.about["age"] % 5 == 0:
        return row | {"status": "broken", "reason": "the file is empty"}, None
    row["quality"] = {"score": 1.0, "flags": []}
    return row, tar_bytes(sample() | {"__key__": photo.key})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "prepare_photo", stand_in)


def empty_files(folder: Path, names: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> PhotoFolder:
    return list_photos(empty_files(tmp_path / "photos", NAMES))


def prepare(
    out: Path, folder: PhotoFolder, world: int = 1, retry=False, **more
) -> dict[str, bytes]:
    """All of it, process after process; what then lies in the folder."""
    report.claim_output(out, report.description(SETTINGS, folder, None))
    job = Job(out, folder.photos, SETTINGS, retry=retry)
    for rank in range(world):
        prepare_share(job, rank, world, **more)
    assert report.write_report(job, []) is not None
    return contents(out)


def contents(out: Path) -> dict[str, bytes]:
    """By name; without what a process that was killed had not given its name yet."""
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    unnamed = re.compile(r"\.(index|preparation|report)\.(json|csv)\.\w+\.part")
    return {name: path.read_bytes() for name, path in files.items() if not unnamed.match(name)}


# The folder -------------------------------------------------------------------------------------


def test_names_say_who_it_is_and_how_old(tmp_path: Path):
    names = ["53_Robin_Williams_0001.jpg", "27_Zoë_Jr._0012.JPG", "me.png", "b/me.png"]
    names += ["Ann Other/1.jpg", "odd\nname.jpg", "readme.txt", ".hidden.jpg"]
    empty_files(tmp_path, names)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/not\xfftext.jpg")).write_bytes(b"")
    found = list_photos(tmp_path)
    people = {photo.name: photo.person for photo in found.photos}
    assert people == {
        "53_Robin_Williams_0001.jpg": "Robin_Williams",
        "27_Zoë_Jr._0012.JPG": "Zoë_Jr.",
        "me.png": "me",
        "b/me.png": "b",
        "Ann Other/1.jpg": "Ann_Other",
        "odd\\nname.jpg": "odd\\nname",
        "not\\xfftext.jpg": "not\\xfftext",
    }
    assert found.other_files == 2
    keys = {photo.name: photo.key for photo in found.photos}
    assert keys["53_Robin_Williams_0001.jpg"] == "53_Robin_Williams_0001"
    assert len(set(keys.values())) == 7  # `me` twice
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}", key) for key in keys.values())
    assert sorted(p.about["age"] for p in found.photos if "age" in p.about) == [27, 53]


def test_the_order_is_one_of_names_alone_and_mixes_ages(folder, tmp_path: Path, monkeypatch):
    other = empty_files(tmp_path / "elsewhere", NAMES)
    walk = os.walk

    def backwards(*arguments, **options):
        for place, folders, files in walk(*arguments, **options):
            yield place, folders, files[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    again = list_photos(other)
    assert [p.name for p in again.photos] == [p.name for p in folder.photos] != NAMES
    assert again.digest() == folder.digest()
    (other / "one_more.jpg").write_bytes(b"")
    assert list_photos(other).digest() != folder.digest()


def test_a_folder_without_photos_is_refused(tmp_path: Path):
    with pytest.raises(FolderError, match="holds no photo"):
        list_photos(tmp_path)
    with pytest.raises(FolderError, match="no such folder"):
        list_photos(tmp_path / "none")


IMAGE_NAMES = ["53_Zoë_Robin_0001.jpg", "30_Ann_0002.jpg"]
META = {
    "celebrityImageData": {
        "name": np.array(IMAGE_NAMES, object),
        "identity": np.array([2, 7]),
        "age": np.array([53, 30]),
        "year": np.array([2004, 2013]),
        "feature": np.zeros((2, 3)),
    },
    "celebrityData": {
        "name": np.array(["Ann Other", "Zoë Robin"], object),
        "identity": np.array([7, 2], np.uint16),
    },
}


def meta_matlab5(path: Path) -> Path:
    savemat(path, META, oned_as="column")
    return path


def meta_matlab73(path: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:

        def cell(text: str):
            place, codes = f"#refs#/{text}", [[ord(c)] for c in text]
            return file.create_dataset(place, data=codes, dtype=np.uint16).ref

        for struct, columns in META.items():
            for name, values in columns.items():
                texts = values.dtype == object
                kind, row = (h5py.ref_dtype, map(cell, values)) if texts else (float, values)
                file[f"{struct}/{name}"] = np.array([list(row)], kind)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    return path


@pytest.mark.parametrize("write", [meta_matlab5, meta_matlab73])
def test_the_table_of_cacd_says_who_it_is(tmp_path: Path, write):
    source = empty_files(tmp_path / "CACD2000", [*IMAGE_NAMES, "44_Not_There_0001.jpg"])
    table = write(tmp_path / "celebrity2000_meta.mat")
    assert find_meta(source) == table
    found = list_photos(source, read_meta(table)).photos
    facts = {photo.name: (photo.person, photo.about) for photo in found}
    assert facts == {
        "53_Zoë_Robin_0001.jpg": ("Zoë_Robin", {"age": 53, "identity": 2, "year": 2004}),
        "30_Ann_0002.jpg": ("Ann_Other", {"age": 30, "identity": 7, "year": 2013}),
        "44_Not_There_0001.jpg": ("Not_There", {"age": 44}),
    }


def test_a_table_that_is_none_is_refused_in_a_line(tmp_path: Path):
    whole = meta_matlab5(tmp_path / "a.mat").read_bytes()
    for data in (b"", b"text", whole[:200], whole[: len(whole) // 2], b"\x89HDF\r\n\x1a\n" * 20):
        (tmp_path / "b.mat").write_bytes(data)
        with pytest.raises(FolderError, match=r"^\S+b\.mat: [^\n]+$"):
            read_meta(tmp_path / "b.mat")
    savemat(tmp_path / "c.mat", {"celebrityImageData": {"age": 1}})
    with pytest.raises(FolderError, match="is not CACD2000's table"):
        read_meta(tmp_path / "c.mat")


# One photo --------------------------------------------------------------------------------------


def photo_at(path: Path) -> Photo:
    return Photo(path, path.name, "key", "Some_Body", {"age": 30})


def reason_of(photo: Photo, device: str = "cpu") -> str:
    """Why a photo is broken."""
    row, data = prepare_photo(photo, SETTINGS, device)
    assert (row["status"], data) == ("broken", None), photo.name
    return row["reason"]


def encoded(picture: Image.Image, kind: str) -> bytes:
    stream = BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def picture(tmp_path: Path) -> Photo:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    return photo_at(tmp_path / "a.png")


def test_a_file_that_is_no_photo_is_broken_and_stops_nothing(tmp_path: Path):
    whole = encoded(Image.fromarray(to_uint8(crop().image[0])), "JPEG")
    huge = encoded(Image.new("1", (20_000, 4_000)), "PNG")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    with (tmp_path / "film.jpg").open("wb") as film:
        film.truncate(preparation.MAX_FILE_BYTES + 1)
    for name, data, reason in (
        ("empty.jpg", b"", "empty"),
        ("cut.jpg", whole[: len(whole) // 2], "damaged or cut short"),
        ("text.jpg", b"<html>404</html>", "holds text"),
        ("huge.png", huge, "80.0 megapixels"),
        ("bytes.jpg", bytes(range(256)) * 9, "not an image"),
        ("pipe.jpg", None, "regular file"),
        ("link.jpg", None, "No such file"),
        ("film.jpg", None, "200 MB"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        said = reason_of(photo_at(tmp_path / name))
        assert reason in said
        assert str(tmp_path) not in said
        assert "\n" not in said


def raising(error: Exception) -> Callable:
    def fails(*arguments, **options):
        raise error

    return fails


def test_a_photo_that_may_not_be_read_is_broken(picture, monkeypatch):
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(picture.path))
    monkeypatch.setattr(Path, "read_bytes", raising(denied))
    assert reason_of(picture).startswith("permission to read it is denied")


def test_what_nobody_thought_of_is_a_row_and_a_broken_device_is_none(picture, monkeypatch):
    error = RuntimeError("CUDA error: out of memory\nmore")
    monkeypatch.setattr(preparation, "detect_each", raising(error))
    assert reason_of(picture) == "RuntimeError: CUDA error: out of memory more"
    with pytest.raises(ShardsError, match=r"^--device cuda: failed \(CUDA error: out of memory\);"):
        prepare_photo(picture, SETTINGS, "cuda")


def test_a_photo_that_only_its_own_error_stops_is_a_row_on_any_device(picture, monkeypatch):
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, device: ones(*size))  # a device that works
    monkeypatch.setattr(preparation, "detect_each", raising(RuntimeError("of this photo")))
    assert reason_of(picture, "cuda:1") == "RuntimeError: of this photo"
    monkeypatch.setattr(preparation, "detect_each", raising(torch.OutOfMemoryError("of this")))
    with pytest.raises(ShardsError, match="--device cuda:1: failed"):
        prepare_photo(picture, SETTINGS, "cuda:1")


@pytest.mark.usefixtures("ready")
def test_all_networks_are_on_the_device_that_is_asked_for(portraits: Path, monkeypatch):
    """On "meta", which holds no numbers, the first of them ends the run."""
    asked, made = [], face_mesh_network.load_networks

    def note(device: str):
        asked.append(device)
        networks = made(device)
        assert {p.device.type for network in networks for p in network.parameters()} == {device}
        return networks

    monkeypatch.setattr(face_search, "load_networks", note)
    with pytest.raises(ShardsError, match="--device meta: failed"):
        prepare_photo(photo_at(portraits / "38_Eileen_Collins_0001.jpg"), SETTINGS, "meta")
    assert set(asked) == {"meta"}


@pytest.mark.usefixtures("quick", "ready")
def test_each_process_takes_the_gpu_of_its_place_on_the_machine(folder, tmp_path, monkeypatch):
    """As far as that can be seen without one."""
    seen, checked, current = set(), [], []

    def noted(photo, settings, device: str = "cpu"):
        seen.add(device)
        return stand_in(photo, settings)

    monkeypatch.setattr(preparation, "prepare_photo", noted)
    monkeypatch.setattr(preparation_run, "check_device", checked.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    for place, gpu in (({}, "cuda:0"), ({"LOCAL_RANK": "1", "RANK": "4"}, "cuda:1"),
                       ({"SLURM_LOCALID": "1", "RANK": "2"}, "cuda:1"),
                       ({"RANK": "3"}, "cuda:1")):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setenv("WORLD_SIZE", "5" if place else "1")
            for name, value in place.items():
                patch.setenv(name, value)
            out = tmp_path / f"out{len(checked)}"
            options = ("--out", out, "--device", "cuda", "--photos-per-shard", 7)
            run(tmp_path / "photos", *options)
        assert (seen, checked[-1], current[-1]) == ({gpu}, gpu, gpu)
        seen.clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.usefixtures("ready")
def test_without_cuda_one_line_says_so(folder, tmp_path):
    for more in ((), ("--processes", 2)):
        options = ("--out", tmp_path / "o", "--device", "cuda", *more)
        said = run(tmp_path / "photos", *options, code=2)
        assert re.fullmatch(r"prepare_cacd: --device cuda: cannot be used here \(.*\)\n", said)
    assert not (tmp_path / "o").exists()


def test_settings_leave_faces_out_and_say_why():
    good = dict(score=0.999, others=0.0, face_px=150.0, blur=0.4, yaw=5.0, pitch=0.0, roll=0.0)
    good |= dict(outside=0.0, black=0.0, white=0.0, scatter=0.006, flat=0.0)
    reason = preparation.reason_against
    assert reason(Quality(**good), Settings("face-mesh", 0.99, 100, ("blurred", "turned"))) == ""
    turned = Quality(**good | {"yaw": -50.0, "blur": 0.9})
    assert turned.flags() == ("blurred", "turned")
    assert reason(turned, Settings("face-mesh", skip=("dark",))) == ""
    said = reason(turned, Settings("face-mesh", skip=("turned",)))
    assert "turned by more than 40 degrees to a side (-50)" in said
    assert "150 pixels is below --min-face 200" in reason(Quality(**good), Settings("d", 0, 200))
    assert "0.999 is below --min-score 1" in reason(Quality(**good), Settings("d", 1.0))


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photo; it small and turned on its side; a wall."""
    folder = tmp_path_factory.mktemp("portraits")
    whole = Image.fromarray(detection.sample_photo().pixels)
    whole.save(folder / "38_Eileen_Collins_0001.jpg", quality=95)
    side = whole.resize((300, 300)).rotate(90)
    side.save(folder / "38_Eileen_Collins_0002.png")
    Image.new("RGB", (200, 150), (90, 120, 90)).save(folder / "20_A_Wall_0001.jpg")
    (folder / "21_Nothing_0001.jpg").write_bytes(b"")
    return folder


@pytest.fixture
def prepare_small(tmp_path: Path, folder) -> Callable:
    """The command on the folder of empty files, seven to a shard."""
    options = ("--out", tmp_path / "out", "--photos-per-shard", 7)
    return lambda *more, code=0: run(tmp_path / "photos", *options, *more, code=code)


@pytest.fixture
def ready() -> None:
    pytest.importorskip("facenet_pytorch")


def run(*arguments: object, main: Callable = prepare_cacd.main, code: int = 0) -> str:
    """What was said. The script exits with this code."""
    result = run_script(main, *arguments)
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.usefixtures("ready")
def test_a_folder_becomes_shards_that_training_reads(portraits: Path, tmp_path: Path):
    out = tmp_path / "shards"
    said = run(portraits, "--out", out, "--dry-run")
    assert "4 photos of 3 people" in said
    assert "1 shards of up to 1,000" in said
    assert not out.exists()
    said = run(portraits, "--out", out)
    assert "2 faces of 1 people in 1 shards" in said
    batch = next(iter(PhotoShards(out, 2, complete=True)))
    assert batch.person == ["Eileen_Collins"] * 2
    assert batch.kind == "3d"
    sums = json.loads((out / "report.json").read_text())
    assert [sums[s] for s in ("photos", "face", "no face", "broken")] == [4, 2, 1, 1]
    assert sums["not used"]["no face"][0]["photo"] == "20_A_Wall_0001.jpg"
    assert "0 bytes" in sums["not used"]["broken"][0]["reason"]
    before = contents(out)
    said = run(portraits, "--out", out)
    assert "nothing to do, all 4 photos are prepared" in said
    assert contents(out) == before

    # the landmarks are those of the sample photo
    where = {name.rpartition("/")[2]: i for i, name in enumerate(batch.names)}
    i = where["38_Eileen_Collins_0001"]
    rows = Job(out, [], SETTINGS).rows(0)
    quality = {row["key"]: row.get("quality") for row in rows}
    stored = landmarks_from(detection.sample_detection().points)
    reference = align(detection.sample_photo().pixels, stored).landmarks[0]
    eyes = (reference[36] - reference[45]).norm()
    assert (batch.landmarks[i] - reference).norm(dim=-1).mean() < 0.03 * eyes
    upright, side = (quality[f"38_Eileen_Collins_000{n}"] for n in (1, 2))
    assert upright["score"] > 0.99
    assert abs(upright["roll"]) < 15 < 75 < abs(side["roll"]) < 105
    assert side["face_px"] == pytest.approx(upright["face_px"] * 300 / 512, rel=0.1)


# Killed, shared out, and resumed ----------------------------------------------------------------


def test_shards_are_those_of_webdataset(tmp_path: Path):
    import webdataset

    stream = BytesIO()
    with webdataset.TarWriter(stream, encoder=False, mtime=0) as tar:
        for key in ("a", "b", "c"):
            tar.write(sample() | {"__key__": key})
    write_shard(tmp_path / "a.tar", [tar_bytes(sample() | {"__key__": key}) for key in "abc"])
    assert (tmp_path / "a.tar").read_bytes() == stream.getvalue()


def _report(tell: int, leave: int, counts) -> None:
    """Tell of a photo, and wait for leave to go on: a busy machine may not run ahead."""
    os.write(tell, b".")
    os.read(leave, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("quick")
def test_killed_at_any_moment_it_resumes_and_loses_at_most_one_shards_work(folder, tmp_path: Path):
    whole = prepare(tmp_path / "whole", folder)
    out, rng, kills, status = tmp_path / "killed", random.Random(3), 0, None
    while status != 0:
        told, tell = os.pipe()
        leave, give = os.pipe()
        count = rng.randint(1, 13)
        os.write(give, bytes(count))
        child = os.fork()
        if child == 0:  # as a process that was started anew
            try:
                for end in (told, give):
                    os.close(end)
                prepare(out, folder, tell=functools.partial(_report, tell, leave))
                os._exit(0)
            finally:
                os._exit(1)
        os.close(tell)
        for _ in range(count):  # photos on, then at any moment
            os.read(told, 1)
        time.sleep(rng.choice((0, 0.001, 0.01)) * rng.random())
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        for end in (told, leave, give):
            os.close(end)
        assert status in (0, signal.SIGKILL)
        kills += status != 0
        assert kills < 100
    assert contents(out) == whole
    assert kills > 2
    shards = json.loads(whole["index.json"])["shards"]
    keys = [key for shard in shards for key, _ in shard["photos"]]
    assert sorted(keys) == sorted(p.key for p in folder.photos if p.about["age"] % 5)


@pytest.mark.usefixtures("quick")
def test_the_number_of_processes_changes_no_byte(folder, tmp_path: Path):
    one, two, nine = (prepare(tmp_path / str(n), folder, world=n) for n in (1, 2, 9))
    assert one == two == nine


@pytest.mark.usefixtures("quick")
def test_a_shard_that_was_removed_or_cut_is_made_again(folder, tmp_path: Path):
    """As a power cut may leave it, too; a part that a killed process left is removed."""
    whole = prepare(tmp_path / "out", folder)
    (tmp_path / "out/photos-00003.tar").unlink()
    (tmp_path / "out/photos-00001.tar").write_bytes(b"short")
    (tmp_path / "out/.photos-00001.tar.1f.part").write_bytes(b"short")
    (tmp_path / "out/.prepared/00002.jsonl").unlink()
    looked = []
    assert prepare(tmp_path / "out", folder, tell=looked.append) == whole
    assert len(looked) == 3 * 7


@pytest.mark.usefixtures("quick")
def test_a_full_disk_is_a_line_and_no_loss(folder, tmp_path: Path, monkeypatch):
    whole = prepare(tmp_path / "whole", folder)
    room = itertools.count()

    def full(path: Path, samples) -> None:
        def cut():
            yield next(samples)[:700]  # what still went in
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        write_shard(path, cut() if next(room) == 2 else samples)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_shard", full)
        message = r"cannot be written \(No space left on device\); once"
        with pytest.raises(ShardsError, match=message):
            prepare(out, folder)
    assert prepare(out, folder) == whole


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
@pytest.mark.usefixtures("quick")
def test_two_runs_at_once_are_refused(folder, tmp_path: Path):
    out = tmp_path / "out"
    report.claim_output(out, report.description(SETTINGS, folder, None))
    lock = out / preparation.WORK / "0-of-1.lock"
    with only_one(lock), pytest.raises(FacereconError, match="another process is at"):
        prepare_share(Job(out, folder.photos, SETTINGS))
    prepare(out, folder)


@pytest.mark.usefixtures("quick", "ready")
def test_a_second_run_of_other_processes_is_refused_too(prepare_small, tmp_path: Path):
    """Their shares are others, and would be written over each other."""
    prepare_small()
    with only_one(tmp_path / "out" / preparation.WORK / "0.lock"):
        assert "another process is at it" in prepare_small("--processes", 2, code=2)
    assert "nothing to do" in prepare_small()


def test_other_settings_or_photos_are_refused_rather_than_mixed(folder, tmp_path: Path):
    out = tmp_path / "out"

    def claim(settings: Settings = SETTINGS, photos: list[Photo] = folder.photos, out=out) -> None:
        facts = report.description(settings, PhotoFolder(photos, 0, []), None)
        report.claim_output(out, facts)

    claim()
    claim()
    other = functools.partial(replace, SETTINGS)
    first, *others = folder.photos
    empty_files(tmp_path / "mine", ["holiday.tar"])
    for options, message in (
        (dict(settings=other(detector="other")), "detector = face-mesh, and now it is other"),
        (dict(settings=other(min_face=50.0)), "min_face = 0.0, and now it is 50.0"),
        (dict(settings=other(skip=("dark",))), "skip"),
        (dict(settings=other(photos_per_shard=8)), "photos_per_shard = 7, and now it is 8"),
        (dict(settings=other(crop=256)), "crop = 224"),
        (dict(photos=folder.photos[:-1]), "photos = 41, and now it is 40"),
        (dict(photos=[replace(first, person="Else"), *others]), "other people"),
        (dict(out=tmp_path / "mine"), r"holds holiday\.tar, which this script did not write"),
    ):
        with pytest.raises(ShardsError, match=message):
            claim(**options)


@pytest.mark.usefixtures("quick", "ready")
def test_sigterm_ends_a_run_as_ctrl_c_does(prepare_small, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):

        def stopped(photo, settings, device, number=number):
            os.kill(os.getpid(), number)
            return stand_in(photo, settings)

        monkeypatch.setattr(preparation, "prepare_photo", stopped)
        said = prepare_small(code=code)
        assert said.endswith("prepare_cacd: stopped; the same command resumes\n")
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_others_left_in_the_output_is_one_line(folder, tmp_path: Path):
    facts = report.description(SETTINGS, folder, None)
    for data in (b"[]", b'{"settings": 3}', b"{", b"\xff"):
        (tmp_path / "preparation.json").write_bytes(data)
        with pytest.raises(ShardsError, match=r"preparation\.json: cannot be read \([^\n]+\)"):
            report.check_output(tmp_path, facts)


@pytest.mark.usefixtures("ready")
def test_a_table_that_knows_none_of_the_photos_is_refused(folder, tmp_path: Path):
    table = meta_matlab5(tmp_path / "celebrity2000_meta.mat")  # found beside the photos
    said = run(tmp_path / "photos", "--out", tmp_path / "o", code=2)
    assert f"{table}: knows none of the 41 photos" in said
    assert "or leave it out with --meta none" in said
    assert not (tmp_path / "o").exists()


def test_the_flags_are_those_of_the_library():
    assert prepare_cacd.FLAGS == FLAGS


def test_an_impossible_command_is_one_line(folder, tmp_path: Path, monkeypatch):
    photos = tmp_path / "photos"
    (tmp_path / "file").write_bytes(b"")
    for arguments, message in (
        ((tmp_path / "none", "--out", tmp_path / "o"), "there is no such folder"),
        ((photos, "--out", tmp_path / "file"), "is a file"),
        ((photos, "--out", tmp_path / "o", "--skip", "ugly"), "ugly: is no flag"),
        ((photos, "--out", tmp_path / "o", "--device", "tpu"), "expected cpu, cuda"),
        ((photos, "--out", tmp_path / "o", "--meta", tmp_path / "no.mat"), "cannot be read"),
        ((photos, "--out", tmp_path / "o", "--detector", "eyes"), "'eyes' is unknown"),
        ((photos, "--out", "/proc/nowhere"), "cannot be written"),
    ):
        said = run(*arguments, code=2)
        last = said.strip().splitlines()[-1]
        assert message in last
        assert last.startswith("prepare_cacd: ")
        assert "Traceback" not in said
    assert not (tmp_path / "o").exists()
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "do not agree" in run(photos, "--out", tmp_path / "o", code=2)
    monkeypatch.setenv("RANK", "1")
    assert "leave it out" in run(photos, "--out", tmp_path / "o", "--processes", 2, code=2)


@pytest.mark.usefixtures("quick", "ready")
def test_the_last_of_torchrun_s_processes_writes_index_and_report(
    folder, tmp_path, monkeypatch, prepare_small
):
    out = tmp_path / "out"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    said = prepare_small()
    assert "process 2 of 2 is done; the last one writes index and report" in said
    assert not (out / "index.json").exists()
    assert {p.name for p in out.glob("*.tar")} == {f"photos-0000{n}.tar" for n in (1, 3, 5)}
    monkeypatch.setenv("RANK", "0")
    assert "photos/s" in prepare_small()
    assert contents(out) == prepare(tmp_path / "one", folder)


@pytest.mark.slow
@pytest.mark.usefixtures("ready")
def test_processes_of_its_own_do_the_same(portraits: Path, tmp_path: Path, monkeypatch):
    one, two, photos = tmp_path / "one", tmp_path / "two", tmp_path / "photos"
    options = ("--photos-per-shard", 2)
    run(portraits, "--out", one, *options)
    shutil.copytree(portraits, photos)
    late = photos / "38_Eileen_Collins_0002.png"
    late.write_bytes(late.read_bytes()[:5000])  # still being copied
    run(photos, "--out", two, *options, "--processes", 2)
    assert contents(one) != contents(two)
    shutil.copy(portraits / late.name, late)
    said = run(photos, "--out", two, *options, "--processes", 2, "--retry")
    assert "2 broken photos to look at again" in said
    assert contents(one) == contents(two)


# Broken photos that are mended ------------------------------------------------------------------


@pytest.fixture
def mended(monkeypatch) -> list[str]:
    """Of the photos that `quick` finds broken the even ones are good again; who is looked at."""
    looked = []

    def better(photo, settings, device: str = "cpu"):
        looked.append(photo.name)
        if photo.about["age"] % 10:
            return stand_in(photo, settings)
        row, data = stand_in(replace(photo, about={"age": 21}), settings)
        return row | {"about": photo.about}, data

    monkeypatch.setattr(preparation, "prepare_photo", better)
    return looked


@pytest.mark.usefixtures("ready")
def test_retry_looks_at_the_broken_alone_and_leaves_what_a_run_with_them_mended_does(
    folder, tmp_path: Path, monkeypatch, mended, prepare_small
):
    whole = prepare(tmp_path / "whole", folder)
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "prepare_photo", stand_in)
        prepare_small()
    before = contents(tmp_path / "out")
    assert before != whole
    mended.clear()
    said = prepare_small("--retry", "--dry-run")
    assert (mended, contents(tmp_path / "out")) == ([], before)
    assert "9 broken photos would be looked at again; nothing was written" in said
    said = prepare_small("--retry")
    assert "9 broken photos to look at again" in said
    assert "9 photos in" in said
    assert ": 5 face, 4 broken" in said
    assert sorted(mended) == sorted(p.name for p in folder.photos if p.about["age"] % 5 == 0)
    assert contents(tmp_path / "out") == whole
    mended.clear()
    prepare_small("--retry")  # four are broken still
    assert len(mended) == 4
    assert contents(tmp_path / "out") == whole


def test_a_shard_that_keeps_its_size_is_in_the_index_as_it_is_now(
    folder, tmp_path: Path, monkeypatch, mended
):
    grey = align(np.full((200, 200, 3), 90, np.uint8), crop().landmarks[0].numpy())
    small = encode_photo("key", grey, "2d", "Some_Body", "a.jpg")
    monkeypatch.setitem(globals(), "sample", lambda: small)
    whole = prepare(tmp_path / "whole", folder)
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "prepare_photo", stand_in)
        before = prepare(tmp_path / "out", folder)
    tars = [name for name in whole if name.endswith(".tar") and whole[name] != before[name]]
    assert any(len(whole[name]) == len(before[name]) for name in tars)
    assert prepare(tmp_path / "out", folder, retry=True) == whole


def test_a_retry_that_is_stopped_anywhere_is_resumed(folder, tmp_path: Path, monkeypatch, mended):
    """Before or after each change on the disk; by the next run, whether told to retry or not."""
    few = PhotoFolder(folder.photos[:14], 0, [])
    whole = prepare(tmp_path / "whole", few)
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "prepare_photo", stand_in)
        prepare(tmp_path / "before", few)
    steps = [(Path, "replace"), (Path, "unlink"), (preparation, "prepare_photo")]
    for turn in itertools.count():
        stop, late = divmod(turn, 2)
        out = tmp_path / f"out{stop}{late}"
        shutil.copytree(tmp_path / "before", out)
        done = itertools.count()

        def stopping(step, stop=stop, late=late, done=done):
            def stopped(*rest, **options):
                here = next(done) == stop
                if here and not late:
                    raise KeyboardInterrupt
                result = step(*rest, **options)
                if here:
                    raise KeyboardInterrupt
                return result

            return stopped

        with monkeypatch.context() as patch:
            for owner, name in steps:
                patch.setattr(owner, name, stopping(getattr(owner, name)))
            try:
                prepare(out, few, retry=True)
                break
            except KeyboardInterrupt:
                pass
        if stop % 2:
            prepare(out, few)
        assert prepare(out, few, retry=True) == whole, (stop, late)
        shutil.rmtree(out)
    assert stop > 12


@pytest.mark.usefixtures("quick", "ready")
def test_an_impossible_retry_is_refused_in_a_line(tmp_path: Path, monkeypatch, prepare_small):
    out = tmp_path / "out"

    def refused() -> str:
        return prepare_small("--retry", code=2).splitlines()[-1]

    assert f"--retry: nothing is prepared in {out} yet; leave it out" in refused()
    assert not out.exists()
    prepare_small()
    whole = contents(out)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "--retry: start it without torchrun; --processes shares it out" in refused()
    monkeypatch.delenv("WORLD_SIZE")
    (out / "photos-00003.tar").unlink()
    assert "1 of 6 shards are not done yet; run the same command without --retry" in refused()
    prepare_small()
    assert contents(out) == whole
    (out / ".prepared/00003.jsonl").write_bytes(b"{}\n")
    assert "00003.jsonl: is damaged; remove it, and the same command makes its shard" in refused()
    (out / ".prepared/00003.jsonl").unlink()
    prepare_small()
    assert contents(out) == whole
    shutil.rmtree(out / ".prepared")
    assert "/.prepared is gone, which says what is broken; without --retry all" in refused()
    assert not (out / ".prepared").exists()


# The folder to try it on ------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rendered_folder_has_the_landmarks_where_it_says(tmp_path: Path):
    rendered.write_folder(tmp_path / "rendered", photos=8, broken=7, seed=1)
    truth = json.loads((tmp_path / "rendered/truth.json").read_text())
    meta = read_meta(tmp_path / "rendered/celebrity2000_meta.mat")
    found = list_photos(tmp_path / "rendered/CACD2000", meta).photos
    assert len(found) == len(truth) == 15
    assert sum("identity" in photo.about for photo in found) == 8
    off = []
    for photo in found:
        row, _ = prepare_photo(photo, SETTINGS)
        if kind := truth[photo.name].get("broken"):
            assert row["status"] == ("no face" if kind == "no face" else "broken"), row
        elif row["status"] == "face":
            points = np.array(truth[photo.name]["landmarks"])
            assert row["quality"]["face_px"] == pytest.approx(np.ptp(points, 0).max(), rel=0.2)
            off.append(abs(row["quality"]["yaw"] - truth[photo.name]["yaw"]))
    assert len(off) >= 5
    assert np.median(off) < 8


def test_what_renders_and_judges_refuses_in_a_line_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for out in (tmp_path / "file", tmp_path / "file/x", tmp_path):
        said = run("--out", out, "--photos", 1, main=render_photo_folder.main, code=2)
        assert re.fullmatch(rf"render_photo_folder: {out}: .*; choose another --out\n", said)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    shards, rendered = tmp_path / "shards", tmp_path / "rendered"
    with ShardsWriter(shards) as writer:
        writer.write("a", crop(), "2d", "Some_Body", "a.jpg")
    (shards / "report.csv").write_text("photo,status\na.jpg,face\n")
    rendered.mkdir()
    for text, message in ((None, "truth.json: No such file"), ("[]", "is not that of"),
                          ("{", "Expecting"), ("{}", "a.jpg of photos-00000.tar is no rendered"),
                          ('{"a.jpg": {"broken": "x"}}', "no rendered face")):  # fmt: skip
        if text is not None:
            (rendered / "truth.json").write_text(text)
        said = run(shards, rendered, main=judge_prepared_faces.main, code=2)
        assert message in said
        assert len(said.splitlines()) == 1


def test_a_photo_s_cut_carries_its_points_along():
    pixels = np.zeros((384, 384, 3), np.uint8)
    points = np.array([[120.0, 140.0], [260.0, 150.0], [200.0, 250.0]])
    for x, y in points.astype(int):
        pixels[y - 4 : y + 4, x - 4 : x + 4] = 255
    for seed in range(5):
        rng = random.Random(seed)
        photo, moved = rendered.cut_out(Image.fromarray(pixels), points, rng)
        grey = torch.from_numpy(np.asarray(photo.convert("L"), dtype=np.float32))
        rows, columns = torch.nonzero(grey > 128).float().T + 0.5
        for x, y in moved:
            near = ((rows - y).hypot(columns - x)) < 0.06 * max(photo.size)
            assert abs(float(columns[near].mean()) - x) < 1.0
            assert abs(float(rows[near].mean()) - y) < 1.0
