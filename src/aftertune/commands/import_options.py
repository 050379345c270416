"""The options of `aftertune import`, apart from what reads logs: `--help` needs no more."""

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Which log is of which model, and what its scores mean; the logs themselves say the rest."""

    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="NAME=LOG,LOG: of one model; different checkpoints are its seeds. NAME/3=LOG: of seed 3.",
        ),
    ] = None
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="The model that others are compared with, by its name.")
    ] = None
    construct: Annotated[
        list[str] | None,
        typer.Option(
            "--construct",
            help="WORD or SCORER=WORD: what a score of 1 says of a response (correct, harmful, complied, "
            "refused, toxic, incoherent); not-WORD where it says the opposite.",
        ),
    ] = None
    intent: Annotated[
        list[str] | None,
        typer.Option("--intent", help="WORD or TASK=WORD: whether the items ask for harm: harmful, benign."),
    ] = None
    scorer: Annotated[
        list[str] | None, typer.Option("--scorer", help="Only this scorer's scores; may be repeated.")
    ] = None
    scale: Annotated[
        list[str] | None,
        typer.Option("--scale", help="SCORER=LOW:HIGH: the scores that are to be 0 and 1, as in grade=1:5."),
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="NAME=COLUMN: a table's COLUMN is our NAME, as in item=prompt_id."),
    ] = None
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="A table's column to leave out, as if it lacked it; may be repeated."),
    ] = None
    pair_by: Annotated[
        str, typer.Option("--pair-by", help="What names an item: id, or input where ids differ between logs.")
    ] = "id"
