"""Makes a Colab machine ready for the notebooks: what it has stays, what it lacks comes in.

    python data_scripts/colab_setup.py              # the set-up cell of a notebook runs this
    python data_scripts/colab_setup.py --dry-run    # say what would be installed

Installed packages keep their versions. A missing one comes at the version of requirements.lock, as
a wheel, and moves no other. Needs nothing but the standard library and pip. Serves the set-up cell
of every notebook.
"""

import argparse
import importlib
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# Too large, or too much depends on them, to be replaced in a running machine.
KEPT = {"torch", "torchvision", "numpy", "scipy", "pillow", "matplotlib", "ipykernel"}
NOTEBOOKS_NEED = ("ipywidgets", "ipykernel")  # of the extra `course`; JupyterLab is Colab's own


def wanted() -> list[Requirement]:
    """What the library and the notebooks ask for, as pyproject.toml has it."""
    file = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = file["project"]["optional-dependencies"]
    lines = file["project"]["dependencies"] + file["dependency-groups"]["no-deps"]
    lines += extras["train"]  # from notebook 06 on
    lines += [line for line in extras["course"] if Requirement(line).name in NOTEBOOKS_NEED]
    return [Requirement(line) for line in lines]


def installed() -> dict[str, str]:
    versions: dict[str, str] = {}
    for package in metadata.distributions():
        if package.metadata["Name"]:  # the first on the path is the one that is imported
            versions.setdefault(canonicalize_name(package.metadata["Name"]), package.version)
    return versions


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    return {canonicalize_name(p.name): str(p.specifier).removeprefix("==") for p in pins}


def missing() -> list[str]:
    """Pins of what is absent or too old. Raises RuntimeError where that must not be replaced."""
    versions, pins, needed = installed(), locked(), []
    for requirement in wanted():
        name = canonicalize_name(requirement.name)
        version = versions.get(name)
        if version and requirement.specifier.contains(version, prereleases=True):
            continue
        if name in KEPT:
            todo = "Take a newer runtime (Runtime > Change runtime type), or run the course with"
            todo += " `make lab` on your own machine"
            state = f"{name} {version or 'is not installed'}: expected {requirement.specifier}"
            raise RuntimeError(f"{state}. {todo}")
        needed.append(name)
    return [f"{name}=={pins[name]}" for name in needed]


def pip(*arguments: str) -> None:
    """Raises RuntimeError with pip's last lines when it fails."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()][-6:]
        raise RuntimeError("pip could not install what is missing:\n" + "\n".join(lines))


def dependencies(names: list[str]) -> list[str]:
    """Pins of what the given distributions ask for and is not there, once they are installed."""
    versions, pins, needed = installed(), locked(), []
    queue = [name.partition("==")[0] for name in names]
    while queue:
        for line in metadata.requires(queue.pop()) or []:
            asked = Requirement(line)
            name = canonicalize_name(asked.name)
            if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
                continue
            if name not in versions and name in pins and f"{name}=={pins[name]}" not in needed:
                needed.append(f"{name}=={pins[name]}")
    return needed


def install(needed: list[str]) -> list[str]:
    """Install the pins, then what they need and lack, round by round; all that was installed."""
    done: list[str] = []
    while needed:
        pip("--no-deps", "--only-binary", ":all:", *needed)
        importlib.invalidate_caches()
        done += needed
        needed = dependencies(needed)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="say what would be installed")
    # run by a notebook, the arguments are those of its kernel
    own = Path(sys.argv[0]).name == Path(__file__).name
    dry_run = parser.parse_args(None if own else []).dry_run
    started = time.perf_counter()
    before = installed()
    needed = missing()
    if dry_run:
        print("missing:", ", ".join(needed) or "nothing")
        return
    if needed:
        print("installing", ", ".join(pin.replace("==", " ") for pin in needed))
    install(needed)
    pip("--no-deps", str(ROOT))
    importlib.invalidate_caches()
    after = installed()
    unchanged = ", ".join(f"{name} {after[name]}" for name in ("torch", "torchvision", "numpy"))
    print(f"ready in {time.perf_counter() - started:.0f} s; kept {unchanged}")
    moved = {name for name, version in before.items() if after.get(name) != version}
    if moved := moved - {pin.split("==")[0] for pin in needed} - {"facerecon-lib"}:
        print("these changed their version, which they should not:", ", ".join(sorted(moved)))


if __name__ == "__main__":
    main()
