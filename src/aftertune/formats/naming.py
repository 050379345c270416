"""Which log is of which model, checkpoint and draw; and the same log twice is refused."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aftertune.errors import DataError
from aftertune.formats.logs import MOST, Log


@dataclass(frozen=True, slots=True)
class Given:
    """A log as it was given: under a model's name and seed, or under none."""

    log: Log
    model: str | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """A log with its model, seed (None for a lone checkpoint) and what its repeats are moved by."""

    log: Log
    model: str
    seed: int | None
    first_repeat: int

    @property
    def checkpoint(self) -> str:
        """`model`, or model/seed."""
        return self.model if self.seed is None else f"{self.model}/{self.seed}"


def named(given: Sequence[Given]) -> list[Named]:
    """Name the model and the checkpoint of every log, and number its draws on from those before it.

    Logs that name one model are of one model, and so are those that were given under one name. Within a
    model, logs of one checkpoint are one checkpoint drawn again: more repeats. Different ones are seeds, but
    only under a name that was given, since nobody else says that they are trainings of one recipe.

    Raises:
        DataError: a log is there twice, a log names no model, or one name stands for several checkpoints.
    """
    _refuse_twins([g.log for g in given])
    seeds = _seeds(given)
    found: list[Named] = []
    drawn: dict[tuple[object, ...], int] = {}
    for g in given:
        model, seed = _model(g), seeds[id(g)]
        cell = (model, seed, g.log.task, g.log.decoding, g.log.variation)
        before = drawn.get(cell, 0)
        found.append(Named(g.log, model, seed, before))
        drawn[cell] = before + max((s.repeat for s in g.log.samples), default=0)
        if drawn[cell] > MOST:
            raise DataError(
                f"{g.log.name}: its repeats go on from those of other logs, to more than 64 bits with a sign",
                "number the repeats 1, 2, 3, … in the column `repeat`",
            )
    return found


def last_attempts(given: Sequence[Given]) -> list[Given]:
    """Of several attempts at one evaluation the one that got furthest, with a note of those left out.

    Inspect tries again what failed and writes a new log each time: it has what the earlier ones got done.

    Raises:
        DataError: a log holds no samples, and neither does another attempt.
    """
    attempts: dict[str, dict[str, Given]] = {}
    for g in given:
        attempts.setdefault(g.log.series, {}).setdefault(g.log.identity, g)
    found: list[Given] = []
    for g in given:
        mine = list(attempts[g.log.series].values()) if g.log.series else [g]
        best = max(mine, key=_reached)
        if g.log.identity != best.log.identity:
            continue
        others = ", ".join(f"{o.log.name} ({o.log.status})" for o in mine if o is not best)
        if others:
            note = f"an attempt at what was tried more than once: {others} left out"
            g = replace(g, log=replace(g.log, notes=(*g.log.notes, note)))
        if not g.log.samples:
            raise DataError(
                f"{g.log.name} holds no samples (status {g.log.status})",
                "give a log that was made with samples (`inspect eval` without --no-log-samples)",
            )
        found.append(g)
    return found


def _reached(given: Given) -> tuple[bool, int, str]:
    log = given.log
    return log.status == "success", sum(sample.text is not None for sample in log.samples), log.created


def _model(given: Given) -> str:
    name = given.model or given.log.model
    if not name:
        raise DataError(
            f"{given.log.name} does not say which model it is of",
            f"name it: --model NAME={given.log.path}",
        )
    return name


def _seeds(given: Sequence[Given]) -> dict[int, int | None]:
    """The seed of each log, by the identity of its entry."""
    seeds: dict[int, int | None] = {}
    for model in dict.fromkeys(_model(g) for g in given):
        mine = [g for g in given if _model(g) == model]
        told = [g for g in mine if _told(g) is not None]
        if told and len(told) < len(mine) and any(g.model for g in mine):
            other = next(g for g in mine if _told(g) is None)
            raise DataError(
                f"{told[0].log.name} is given with a seed of {model!r}, {other.log.name} without one",
                f"give all of them one: --model {model}/1=LOG --model {model}/2=LOG",
            )
        checkpoints = list(dict.fromkeys(g.log.checkpoint for g in mine))
        if told or len(checkpoints) == 1:
            seeds |= {id(g): _told(g) for g in mine}
            continue
        if not all(g.model for g in mine):
            raise _several(model, mine)
        seeds |= {id(g): checkpoints.index(g.log.checkpoint) + 1 for g in mine}
    return seeds


def _told(given: Given) -> int | None:
    return given.seed if given.model else given.log.seed


def _several(model: str, given: Sequence[Given]) -> DataError:
    first = given[0].log
    other = next(g.log for g in given if g.log.checkpoint != first.checkpoint)
    return DataError(
        f"{first.name} ({first.checkpoint}) and {other.name} ({other.checkpoint}) both name the model "
        f"{model!r} and are not of the same checkpoint",
        f"if they are seeds of one recipe: --model NAME={first.path},{other.path}; "
        f"if they are two models: --model ONE={first.path} --model OTHER={other.path}",
    )


def _refuse_twins(logs: Sequence[Log]) -> None:
    files: dict[tuple[str, str], Log] = {}
    evaluations: dict[str, Log] = {}
    samples: dict[str, Log] = {}
    for log in logs:
        if (log.sha256, log.part) in files:
            raise _twice(files[log.sha256, log.part], log, "are the same file, byte for byte")
        if log.identity in evaluations:
            how = f"are the same evaluation ({log.identity}), one of them edited or scored again"
            raise _twice(evaluations[log.identity], log, how)
        files[log.sha256, log.part] = log
        if log.identity:
            evaluations[log.identity] = log
        for sample in log.samples:
            twin = samples.setdefault(sample.identity, log) if sample.identity else log
            if twin is not log:
                raise _twice(
                    twin, log, f"share the sample {sample.item}: one goes on from the other (a retry)"
                )


def _twice(a: Log, b: Log, how: str) -> DataError:
    return DataError(
        f"{a.path} and {b.path} {how}", "give one of them; counted twice, its items would look more certain"
    )
