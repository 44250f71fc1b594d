"""docs/FULL_TRAINING.md: its scripts parse, its commands exist, its files are there."""

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from facerecon_lib.cli import app as cli
from facerecon_lib.training.settings import AugmentedSettings, TrainSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "FULL_TRAINING.md").read_text()
BLOCKS = re.findall(r"^```(?:sh|bash)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line
    for block in [*BLOCKS, *re.findall(r"`([^`\n]+)`", TEXT)]
    for line in block.replace("\\\n", " ").splitlines()
]


def options(words: list[str]) -> set[str]:
    """Of a command of `facerecon`, as its own parser has them."""
    command, rest = typer.main.get_command(cli.app), list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_is_a_shell_script(block):
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_of_facerecon_has_the_options_that_it_is_given():
    seen = 0
    for command in COMMANDS:
        words = re.split(r"(?:^|\s)(?:facerecon_lib\.cli|facerecon) (?=train|evaluate)", command)
        if len(words) != 2:
            continue
        given = shlex.split(words[1], comments=True)
        known = options(given)
        assert {word for word in given if word.startswith("--")} <= known, command
        seen += 1
    assert seen >= 8


def test_every_setting_and_every_file_is_there():
    fields = TrainSettings.__dataclass_fields__.keys() | AugmentedSettings.__dataclass_fields__
    names = set(re.findall(r"--set (\w+)=", TEXT)) - {"NAME"}
    assert names
    assert names <= fields
    for path in re.findall(r"(?:data_scripts|facerecon_lib|tests)/[\w/]+\.py", TEXT):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"\]\(([\w/.]+)\)", TEXT):
        assert (ROOT / "docs" / path).exists(), path


def test_the_scripts_that_it_names_take_the_options_that_it_gives(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "data_scripts"))
    given: dict[str, set[str]] = {}
    for command in COMMANDS:
        found = re.search(r"data_scripts/(\w+\.py)(.*)", command.partition(" #")[0])
        if found:
            given.setdefault(found[1], set()).update(re.findall(r"--[\w-]+", found[2]))
    assert {"download_weights.py", "prepare_cacd.py"} <= given.keys()
    for script, wanted in given.items():
        module = importlib.import_module(script.removesuffix(".py"))
        assert "typer.run(main)" in (ROOT / "data_scripts" / script).read_text()
        app = typer.Typer()
        app.command()(module.main)
        parameters = typer.main.get_command(app).params
        assert wanted <= {option for p in parameters for option in p.opts} | {"--help"}, script
