"""Judges that a run directory got after its study was written, and judges that a command names."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from aftertune.errors import StoreError, StudyError, nearest
from aftertune.judges import get_judge
from aftertune.store import RunDirectory
from aftertune.study import JudgeSpec, Study, read_study

log = logging.getLogger(__name__)

_LIST = TypeAdapter(tuple[JudgeSpec, ...])


def named_specs(names: Sequence[str], study_file: Path | None) -> tuple[JudgeSpec, ...]:
    """The judges of these names, with the settings that a study file gives them.

    Raises:
        StudyError: the study names no such judge, or without a study nobody knows the name.
    """
    if study_file is None:
        found = tuple(JudgeSpec(name=name) for name in dict.fromkeys(names))
    else:
        known = {spec.name: spec for spec in read_study(study_file).judges}
        for name in names:
            if name not in known:
                raise StudyError(f"{study_file} has no judge called {name!r}", nearest(name, known))
        found = tuple(known[name] for name in dict.fromkeys(names))
    for spec in found:
        get_judge(spec)  # raises where the name or the settings are wrong
    return found


def judges_of(run: RunDirectory, study: Study) -> tuple[JudgeSpec, ...]:
    """The study's judges, then those that were added to its run directory.

    Where the study has come to name an added judge itself, the study's own settings hold.
    """
    own = {spec.name: spec for spec in study.judges}
    added = read_added(run)
    for spec in added:
        if spec.name in own and own[spec.name] != spec:
            log.warning(
                "judge %s was added to %s with other settings than the study's: the study's hold",
                spec.name,
                run.root,
            )
    return (*study.judges, *(spec for spec in added if spec.name not in own))


def read_added(run: RunDirectory) -> tuple[JudgeSpec, ...]:
    """The judges that were added; none is the rule.

    Raises:
        StoreError: the file that holds them cannot be read.
    """
    if not run.judges_added.is_file():
        return ()
    try:
        return _LIST.validate_python(run.read_json(run.judges_added))
    except ValidationError as error:
        raise StoreError(
            f"{run.judges_added} is no list of judges: {error.errors()[0]['msg']}",
            "remove it and add the judges again with `aftertune judge DIR --judge NAME`",
        ) from error


def add_judges(run: RunDirectory, specs: Sequence[JudgeSpec]) -> None:
    """Remember judges, so that every later stage includes them; one added again unchanged is no fault.

    Raises:
        StudyError: the study, or an earlier addition with other settings, has the name.
    """
    study = run.study
    own, added = {spec.name for spec in study.judges}, {spec.name: spec for spec in read_added(run)}
    for spec in specs:
        if spec.name in own:
            raise StudyError(
                f"the study already has a judge called {spec.name!r}",
                "`aftertune judge DIR` without --judge judges what is missing; for other settings, give the"
                " judge another name in a study file and name that file with --from",
            )
        if added.setdefault(spec.name, spec) != spec:
            raise StudyError(
                f"a judge called {spec.name!r} was added before with other settings",
                f"take it away first with --drop {spec.name}, or give this one another name",
            )
    _write(run, list(added.values()))


def drop_judges(run: RunDirectory, names: Sequence[str]) -> None:
    """Take added judges out of all later stages; what they judged stays on disk.

    Raises:
        StudyError: no such judge was added.
    """
    added = {spec.name: spec for spec in read_added(run)}
    for name in names:
        if name not in added:
            raise StudyError(f"no judge called {name!r} was added to {run.root}", nearest(name, added))
        del added[name]
    _write(run, list(added.values()))


def _write(run: RunDirectory, specs: list[JudgeSpec]) -> None:
    run.write_json(run.judges_added, [spec.model_dump(mode="json", exclude_unset=True) for spec in specs])
