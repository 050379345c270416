"""`aftertune label`: draw responses for people, or take their labels back."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aftertune.stages.label import Drawn, Taken
    from aftertune.store import RunDirectory


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """What is drawn, or from where labels are taken."""

    construct: Annotated[
        str, typer.Option("--construct", help="What people say of a response: refused, complied, harmful, …")
    ] = "refused"
    n: Annotated[int, typer.Option("--n", help="How many responses to draw, over all models.")] = 100
    task: Annotated[str | None, typer.Option("--task", help="Draw from this task alone.")] = None
    out: Annotated[Path, typer.Option("--out", help="The file for people; never written over.")] = Path(
        "labels.csv"
    )
    take: Annotated[
        Path | None, typer.Option("--take", help="Take the labels back from this file; draws nothing.")
    ] = None
    replace: Annotated[
        bool, typer.Option("--replace", help="With --take: the file's labels replace earlier, other ones.")
    ] = False


def draw_or_take(run: "RunDirectory", options: SampleOptions) -> "Drawn | Taken":
    """Draw a sample, or with `take` read people's labels.

    Raises:
        AftertuneError: there is nothing to draw, or the file is not one that was drawn.
    """
    from aftertune.stages.label import draw_sample, take_labels

    construct = options.construct
    with run.locked():
        if options.take is None:
            return draw_sample(run, n=options.n, construct=construct, task=options.task, out=options.out)
        return take_labels(run, options.take, construct=construct, replace_earlier=options.replace)
