"""The options of `aftertune plan`, apart from its work, so that `aftertune --help` loads no statistics."""

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What is assumed and what is wanted; shares, not percent. A pilot run gives what is not said here."""

    model: Annotated[
        str | None,
        typer.Option("--model", help="The pilot's recipe; by default the one whose seeds differ most."),
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="NAME=COLUMN: the pilot is a table, whose COLUMN is our NAME."),
    ] = None
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="A column of the pilot's table to leave out; may be repeated."),
    ] = None
    seed_sd: Annotated[
        float | None, typer.Option("--seed-sd", help="SD of a recipe's rate over training seeds, as 0.04.")
    ] = None
    seed_item_sd: Annotated[
        float | None, typer.Option("--seed-item-sd", help="SD of what a seed does to an item, as 0.17.")
    ] = None
    repeat_sd: Annotated[
        float | None, typer.Option("--repeat-sd", help="SD of repeated answers to one item, as 0.17.")
    ] = None
    items: Annotated[int | None, typer.Option("--items", min=1, help="Items; the pilot's, or 100.")] = None
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Draws of an item.")] = 1
    wanted: Annotated[
        float | None, typer.Option("--half-width", help="The half-width of the interval wanted, as 0.05.")
    ] = None
    difference: Annotated[
        float | None, typer.Option("--difference", help="The difference to be found, as 0.10.")
    ] = None
    power: Annotated[float, typer.Option("--power", help="The probability to find it.")] = 0.8
    level: Annotated[float, typer.Option("--level", help="Of the intervals.")] = 0.95
    budget_hours: Annotated[
        float | None, typer.Option("--budget-hours", help="Split this among seeds and repeats.")
    ] = None
    train_s: Annotated[float | None, typer.Option("--train-s", help="Seconds of one training.")] = None
    response_s: Annotated[
        float | None, typer.Option("--response-s", help="Seconds of one response with its judgments.")
    ] = None
