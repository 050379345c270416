"""The options of `aftertune audit`, apart from what reads studies: `--help` needs no more."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What is asked of the arms; all that is not said is the packaged audit's or `--like`'s."""

    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="NAME=CHECKPOINT,CHECKPOINT,…: seeds of one recipe. May be repeated."),
    ] = None
    like: Annotated[
        Path | None,
        typer.Option("--like", help="A study file: tasks, decodings, judges, analysis and engine are its."),
    ] = None
    task: Annotated[
        list[str] | None, typer.Option("--task", help="A packaged task or a known benchmark; repeatable.")
    ] = None
    judge: Annotated[list[str] | None, typer.Option("--judge", help="A known judge; repeatable.")] = None
    n: Annotated[int | None, typer.Option("--n", min=1, help="So many items of each task.")] = None
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, help="Draws of each item where sampled.")
    ] = None
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Of a response.")] = None
    margin: Annotated[
        float | None, typer.Option("--margin", help="The loss called none, fixed now; 0.05 by default.")
    ] = None
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", help="Base URL of an OpenAI-compatible API that serves all arms by name."),
    ] = None
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", help="The environment variable with the API's key.")
    ] = None
