"""Options of a command that are too many for a signature: a dataclass of them."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints


def spelled_out(options: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command gets its `options` as one dataclass, and typer sees its fields one by one.

    Args:
        options: a dataclass whose fields are annotated with `typer.Option` and have defaults.
    """

    def _decorate(command: Callable[..., None]) -> Callable[..., None]:
        names = {field.name for field in fields(options)}
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
        kinds = get_type_hints(command, include_extras=True) | get_type_hints(options, include_extras=True)

        def spelled(**given: Any) -> None:
            chosen = options(**{name: given.pop(name) for name in names})
            command(**given, options=chosen)

        added = [
            inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=kinds[f.name]
            )
            for f in fields(options)
        ]
        shown = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kinds[p.name]) for p in own]
        spelled.__signature__ = inspect.Signature([*shown, *added])  # type: ignore[attr-defined]
        spelled.__annotations__ = {p.name: kinds[p.name] for p in (*shown, *added)}
        spelled.__name__, spelled.__doc__ = command.__name__, command.__doc__
        return spelled

    return _decorate
