"""Options of a command, made of a dataclass of settings: a field is declared and explained once.

    @app.command("base")
    @options_of(TrainSettings, unset=True)
    def train_base(out: Out, **settings) -> None: ...

A field `batch: int = 8` with the line "batch: faces per step" in the class's docstring becomes
`--batch`, a whole number, "faces per step."
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import typer


def options_of(
    settings: type,
    unset: bool = False,
    names: dict[str, str] | None = None,
    arguments: tuple[str, ...] = (),
) -> Callable:
    """A decorator: the command takes a keyword per field of `settings` as well as its own.

    unset: options that are not given are None. names: of options that differ from their field's.
    arguments: the fields that are no options, but arguments.
    """
    names, kinds, help_texts = names or {}, get_type_hints(settings), _help_texts(settings)
    parameters = []
    for field in fields(settings):
        kind = _plain(kinds[field.name])
        if kind not in (str, int, float, bool, Path):  # a table of weights
            continue
        option = names.get(field.name, f"--{field.name.replace('_', '-')}")
        if kind is bool and (unset or field.default):
            option += f"/--no-{field.name.replace('_', '-')}"
        text = help_texts[field.name]
        about = typer.Option(option, help=text)
        if field.name in arguments:
            about = typer.Argument(help=text)
        optional = unset or field.default is None
        parameters.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if unset else field.default,
                annotation=Annotated[kind | None if optional else kind, about],
            )
        )

    def decorate(command: Callable) -> Callable:
        own = list(inspect.signature(command, eval_str=True).parameters.values())
        *own, rest = own
        assert rest.kind is inspect.Parameter.VAR_KEYWORD
        command.__signature__ = inspect.Signature([*own, *parameters])
        command.__annotations__ = {p.name: p.annotation for p in (*own, *parameters)}
        return command

    return decorate


def _plain(kind) -> type:
    """str, int, float, bool or Path, of a type that says more."""
    if get_origin(kind) is Literal:
        return str
    alternatives = [one for one in get_args(kind) if one is not type(None)]
    return _plain(alternatives[0]) if len(alternatives) == 1 else kind


def _help_texts(settings: type) -> dict[str, str]:
    """The lines "field: what it means" of the docstrings, by field."""
    texts: dict[str, str] = {}
    for kind in reversed(settings.__mro__):
        for name, text in re.findall(r"^    (\w+): (.+)$", kind.__doc__ or "", re.MULTILINE):
            texts[name] = f"{text}."
    return texts
