"""Options of a command, made of a dataclass of settings: a field is declared and explained once.

    @app.command("base")
    @options_of(TrainSettings, unset=True)
    def train_base(out: Out, **settings) -> None: ...

A field `batch: int = setting(8, "faces per step")` becomes `--batch`, a whole number.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import typer


def options_of(
    settings: type,
    unset: bool = False,
    names: Mapping[str, str] = {},
    arguments: tuple[str, ...] = (),
) -> Callable:
    """A decorator: the command takes a keyword per field of `settings` as well as its own.

    unset: options that are not given are None. names: of options that differ from their field's.
    arguments: the fields that are no options, but arguments.
    """
    kinds, parameters = get_type_hints(settings), []
    for field in fields(settings):
        kind, choices = _plain(kinds[field.name])
        if kind not in (str, int, float, bool, Path):  # a table of weights
            continue
        flag = field.name.replace("_", "-")
        option = names.get(field.name, f"--{flag}")
        if kind is bool and (unset or field.default):
            option += f"/--no-{flag}"
        text = field.metadata["help"] + f" ({', '.join(choices)})" * bool(choices)
        about = typer.Option(option, help=f"{text}.")
        if field.name in arguments:
            about = typer.Argument(help=f"{text}.")
        default = None if unset else field.default
        kind = kind | None if default is None else kind
        more = dict(default=default, annotation=Annotated[kind, about])
        parameters.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, **more))

    def decorate(command: Callable) -> Callable:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]  # **settings
        command.__signature__ = inspect.Signature([*own, *parameters])
        command.__annotations__ = {p.name: p.annotation for p in (*own, *parameters)}
        return command

    return decorate


def _plain(kind) -> tuple[type, tuple[str, ...]]:
    """str, int, float, bool or Path, of a type that says more; and the choices of a Literal."""
    if get_origin(kind) is Literal:
        return str, get_args(kind)
    alternatives = [one for one in get_args(kind) if one is not type(None)]
    return _plain(alternatives[0]) if len(alternatives) == 1 else (kind, ())
