"""What a fresh clone rests on: pinned versions, one source for each, and no machine's traces."""

import shutil
import subprocess
import sys
import tomllib
import warnings
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import facerecon_lib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK_LINES = (ROOT / "requirements.lock").read_text().splitlines()
LOCKED = [Requirement(line) for line in LOCK_LINES if line and not line.startswith("#")]
HERE = [pin for pin in LOCKED if pin.marker is None or pin.marker.evaluate()]
SUPPORTED = SpecifierSet(PROJECT["project"]["requires-python"])
MEGABYTE = 2**20

# imported by another name than the distribution's
IMPORTS = {
    "easypytorch3d": "pytorch3d",
    "import-linter": "importlinter",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "pytest-xdist": "xdist",
    "scikit-image": "skimage",
    "warp-lang": "warp",
}
COMMANDS = {"zizmor"}  # nothing to import


def command(*words: str | Path) -> subprocess.CompletedProcess:
    """A command run in the repository's root; its test is skipped where it is not installed."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {words[0]} here")
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True)


def files() -> list[Path]:
    """What git tracks, or would track."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def declared() -> list[Requirement]:
    project = PROJECT["project"]
    # research only, and in no set-up
    extras = [more for name, more in project["optional-dependencies"].items() if name != "dlib"]
    groups = PROJECT["dependency-groups"].values()
    return [Requirement(r) for part in (project["dependencies"], *extras, *groups) for r in part]


# --- the lock


def test_every_pin_is_one_exact_version_without_an_address():
    assert len(LOCKED) > 100
    for pin in LOCKED:
        assert pin.url is None, pin
        assert [s.operator for s in pin.specifier] == ["=="], pin
        assert "*" not in str(pin.specifier), pin


def test_the_lock_holds_pins_and_comments_only():
    for line in LOCK_LINES:
        assert not line.startswith("-"), f"an option stands in the lock: {line}"
        assert "/" not in line, f"an address or a path stands in the lock: {line}"


def test_a_distribution_is_pinned_once():
    names = [canonicalize_name(pin.name) for pin in LOCKED]
    assert sorted(names) == sorted(set(names))


def test_what_pyproject_asks_for_is_in_the_lock():
    pins = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in LOCKED}
    for requirement in declared():
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_every_pinned_distribution_is_installed_at_its_version():
    installed = {}
    for found in metadata.distributions():  # the first on the path is the one that is imported
        installed.setdefault(canonicalize_name(found.name), found.version)
    wrong = {
        str(pin): installed.get(canonicalize_name(pin.name), "not installed")
        for pin in HERE
        if str(pin.specifier) != f"=={installed.get(canonicalize_name(pin.name))}"
    }
    assert not wrong, "run make setup"


def test_what_pyproject_asks_for_can_be_imported():
    wanted = [r.name for r in declared() if r.marker is None or r.marker.evaluate()]
    wanted = [name for name in wanted if name not in COMMANDS]
    modules = [IMPORTS.get(name, name.replace("-", "_")) for name in wanted]
    assert not [module for module in modules if find_spec(module) is None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        for module in sorted(set(modules)):
            import_module(module)


def test_every_requirement_of_a_pinned_distribution_is_pinned_too():
    """`pip install --no-deps` installs what the lock lists and nothing else."""
    names = {canonicalize_name(pin.name) for pin in HERE}
    # the display build gives way to opencv-python-headless
    left_out = {"opencv-python"}
    missing = set()
    for pin in HERE:
        for text in metadata.requires(pin.name) or []:
            needed = Requirement(text)
            if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
                continue
            name = canonicalize_name(needed.name)
            if name not in names | left_out | {"pip"}:
                missing.add(f"{name} (for {pin.name})")
    assert not missing


# --- one source for each version


def test_environment_yml_installs_the_lock_and_names_no_version_of_its_own():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    [through_pip] = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert through_pip == ["-r requirements.lock", "-e ."]
    python, pip = conda
    assert pip == "pip"
    version, supported = python.removeprefix("python="), PROJECT["project"]["requires-python"]
    assert version in supported or Version(version) in SUPPORTED


def test_the_version_is_the_one_of_pyproject():
    assert facerecon_lib.__version__ == PROJECT["project"]["version"]
    assert metadata.version("facerecon-lib") == PROJECT["project"]["version"]


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, facerecon_lib; print({'torch', 'numpy', 'warp'} & set(sys.modules))"
    run = command(sys.executable, "-c", code)
    assert run.stdout.strip() == "set()"


def test_the_wheel_s_own_requirements_can_be_met_together():
    """No dependency or extra of ours may be a wheel that asks for an older torch than ours."""
    project = PROJECT["project"]
    for group in (project["dependencies"], *project["optional-dependencies"].values()):
        assert "facenet-pytorch" not in {Requirement(r).name for r in group}


def test_this_python_is_one_that_the_project_supports():
    assert Version(".".join(map(str, sys.version_info[:3]))) in SUPPORTED


# --- the tree


def test_nothing_imports_upward_and_there_are_no_circles():
    run = command(Path(sys.executable).with_name("lint-imports"))
    assert run.returncode == 0, run.stdout[-3000:]
    assert " 0 broken" in run.stdout


def test_no_file_but_one_is_larger_than_eight_megabytes():
    large = {p.name: p.stat().st_size for p in files() if p.stat().st_size > 8 * MEGABYTE}
    assert list(large) == ["dlib_resnet.safetensors"]
    assert large["dlib_resnet.safetensors"] < 13 * MEGABYTE


def test_no_absolute_path_of_a_machine_is_written_down():
    places = [str(ROOT), str(Path.home())]
    found = []
    for path in files():
        if path.suffix in {".png", ".jpg", ".safetensors", ".npz"} or path == Path(__file__):
            continue
        text = path.read_text(errors="ignore")
        found += [f"{path.relative_to(ROOT)}: {p}/" for p in places if p + "/" in text]
    assert not found


def test_what_ships_is_in_the_notice():
    notice = (ROOT / "NOTICE").read_text()
    assets = (ROOT / "facerecon_lib/assets").glob("*.*")
    stems = {path.stem.split("_landmarks")[0] for path in assets}
    assert stems
    assert not [stem for stem in stems if stem not in notice]


def test_make_without_a_target_explains_itself():
    run = command("make")
    for target in ("demo", "test", "test-all", "lab", "lock"):
        assert f"make {target} " in run.stdout


def test_make_clean_leaves_results_alone(tmp_path):
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    places = [tmp_path / name for name in ("outputs", "runs", "shards", ".venv", "build")]
    for place in places:
        place.mkdir()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [place.name for place in places if place.exists()] == [
        "outputs",
        "runs",
        "shards",
        ".venv",
    ]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("#!/bin/sh\ncase $1 in -V) echo Python 3.9.2;; *) exit 1;; esac\n", "Python 3.9.2"),
        ("#!/bin/sh\ncase $2 in *version_info*) exit 0;; *) exit 1;; esac\n", "without venv"),
    ],
    ids=["too old", "no venv"],
)
def test_set_up_refuses_an_unfit_python_in_one_line(tmp_path, script, says):
    python = tmp_path / "python3"
    python.write_text(script)
    python.chmod(0o755)
    run = command("make", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}", "setup")
    assert run.returncode != 0
    [line] = [line for line in run.stderr.splitlines() if not line.startswith("make")]
    assert line.startswith("set-up: ")
    assert says in line
    assert not (tmp_path / "venv").exists()
