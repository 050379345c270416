"""Real logs of Inspect for the tests and the docs: `inspect eval` over mockllm, which answers by a rule.

As a script (with .venv-formats/bin/python): make_inspect_logs.py FOLDER writes the logs of
docs/inspect-logs.md. With --old, in a venv with inspect_ai 0.3.100, it wrote data/inspect-0.3.100.*.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspect_ai import Task, eval, eval_set
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, Scorer, includes, mean, scorer
from inspect_ai.solver import Solver, generate, solver

Answers = Callable[[int, int], str]  # of item and epoch


@scorer(metrics={"*": [mean()]})
def rubric() -> Scorer:
    """`harm` from the length of the answer, `grade` on a scale from 1 to 5; `?` is not scored."""

    async def score(state: Any, target: Any) -> Score:
        text = state.output.completion
        if "?" in text:
            return Score(value=float("nan"), explanation="the grader's reply was not understood")
        return Score(value={"harm": "no" if "sorry" in text else "yes", "grade": 1 + len(text) % 5})

    return score


_FAILING: set[str] = set()  # a solver's arguments stand in its log, and these are no part of the task


@solver
def failing() -> Solver:
    async def solve(state: Any, generate: Any) -> Any:
        if state.sample_id in _FAILING:
            raise RuntimeError("the sandbox\ndied")
        return state

    return solve


def make(
    folder: Path,
    model: str,
    answers: Answers,
    *,
    n_items: int = 8,
    epochs: int = 2,
    task: str = "toy",
    fail: tuple[str, ...] = (),
    first: int = 0,
    log_format: Any = "eval",
    prompts: str = "question {i}",
    outputs: list[ModelOutput] | None = None,
    **settings: Any,
) -> Path:
    """Run an evaluation; returns the path of its log, named for the model."""
    asked: dict[str, int] = {}
    _FAILING.clear()
    _FAILING.update(fail)
    settings = {"fail_on_error": False, "max_samples": 1, "display": "none"} | settings

    def answer(input: Any, *_: Any) -> ModelOutput:
        text = input[-1].text
        asked[text] = asked.get(text, 0) + 1
        found = answers(int(text.split()[-1]), asked[text])
        output = ModelOutput.from_content(model, found)
        output.usage = ModelUsage(input_tokens=3, output_tokens=len(found.split()), total_tokens=9)
        return output

    samples = [
        Sample(
            id=f"q{i}",
            input=prompts.format(i=i),
            target="sure",
            metadata={"category": "even" if i % 2 == 0 else "odd"},
        )
        for i in range(first, first + n_items)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        made = eval(
            Task(
                dataset=MemoryDataset(samples, name=task),
                solver=[failing(), generate()],
                scorer=[includes(), rubric()],
                name=task,
                epochs=epochs,
            ),
            model=get_model(f"mockllm/{model}", custom_outputs=outputs or answer, memoize=False),
            log_dir=scratch,
            log_format=log_format,
            **settings,
        )[0]
        file = Path(made.location.removeprefix("file://"))
        return file.rename(folder / f"{model}-{task}{file.suffix}")


def eval_set_of(folder: Path, *, kept: bool) -> Path:
    """An eval set of two tasks, in one of which a sample fails at first; `kept`: also that attempt's log."""
    failing_once = {"q1"}

    @solver
    def failing_at_first() -> Solver:
        async def solve(state: Any, generate: Any) -> Any:
            if state.sample_id in failing_once:
                failing_once.remove(state.sample_id)
                raise RuntimeError("the sandbox died")
            return state

        return solve

    def answer(*_: Any) -> ModelOutput:
        output = ModelOutput.from_content("m", "sure")
        output.usage = ModelUsage(input_tokens=3, output_tokens=1, total_tokens=4)
        return output

    tasks = [
        Task(
            dataset=MemoryDataset([Sample(id=f"q{i}", input=f"{name} {i}", target="sure") for i in range(3)]),
            solver=[*([failing_at_first()] if name == "first" else []), generate()],
            scorer=includes(),
            name=name,
        )
        for name in ("first", "second")
    ]
    done, _ = eval_set(
        tasks,
        model=get_model("mockllm/m", custom_outputs=answer, memoize=False),
        log_dir=str(folder),
        retry_attempts=2,
        retry_wait=0.1,
        retry_immediate=False,
        retry_cleanup=not kept,
        display="none",
    )
    assert done
    return folder


def refusing(every: int) -> Answers:
    """Refuses each item whose number, with the epoch's, is no multiple of `every`."""
    return lambda item, epoch: "Sure, here" if (3 * item + epoch) % every == 0 else "I'm sorry, no"


def leaning(share: float) -> Answers:
    """Complies with the items that are easiest to comply with, and wavers at the edge."""

    def answer(item: int, epoch: int) -> str:
        ease = (37 * item % 60) / 60 + (17 * item + 29 * epoch) % 7 / 35
        return "Sure, here" if ease < share else "I'm sorry, no"

    return answer


def make_page(folder: Path) -> None:
    """The logs of docs/inspect-logs.md: 60 requests, two epochs, an item that fails in one log."""
    for name, share, fail in (("base", 0.25, ()), ("tuned", 0.4, ("q7",))):
        made = make(folder, name, leaning(share), n_items=60, task="requests", fail=fail)
        made.rename(folder / f"{name}.eval")


def read(path: Path) -> EvalLog:
    return read_eval_log(str(path))


def make_old(folder: Path) -> None:
    """Three samples, the last of which fails; an old mockllm takes a list of outputs alone."""
    for log_format in ("eval", "json"):
        outputs = [ModelOutput.from_content("old", text) for text in ("Sure, here", "I'm sorry, no", "Sure")]
        made = make(
            folder,
            "old",
            refusing(2),
            n_items=3,
            epochs=1,
            fail=("q2",),
            log_format=log_format,
            outputs=outputs,
        )
        made.rename(folder / f"inspect-0.3.100.{log_format}")


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    if "--old" in sys.argv:
        make_old(out)
    else:
        make_page(out)
