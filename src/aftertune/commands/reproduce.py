"""`aftertune reproduce`: a run's study is run anew, and held against it to the byte or within noise."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aftertune.commands.compare import CellChange, Comparison, compare
from aftertune.commands.first_difference import FirstDifference, Matched, match_runs
from aftertune.commands.made_of import Changed, changed, flattened, makings_changed
from aftertune.errors import AftertuneError, StoreError, StudyError
from aftertune.pipeline import no_progress, run_study
from aftertune.records import BASELINE, Progress
from aftertune.stages.check.machine import hardware, versions
from aftertune.stages.check.resolve import resolve_all
from aftertune.store import RunDirectory, replace, run_at
from aftertune.study import CommandRecipe

log = logging.getLogger(__name__)

Outcome = Literal["identical", "same texts", "within noise", "different"]

_MARK = "reproduces.json"
_PATHS = frozenset({"data", "path", "file", "data_dir", "weights", "rubric", "model", "calibration"})
_WORDS: dict[Outcome, str] = {
    "identical": "reproduced to the byte",
    "same texts": "every text, finish and judgment is the same; some responses have another key, "
    "because of what differs above",
    "within noise": "not the same to the byte, and no number differs beyond noise",
    "different": "not reproduced",
}


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A run and its reproduction held against each other.

    `made_of` is what differs between the two manifests and can change numbers, the run's value first.
    `matched` counts what is the same and names the first difference; `cells` are those whose numbers were
    compared, which is done where not all judgments are the same.
    """

    run: str
    out: str
    numerics: str
    outcome: Outcome
    made_of: tuple[Changed, ...]
    matched: Matched
    cells: tuple[CellChange, ...]

    @property
    def reproduced(self) -> bool:
        """Whether it came out again: to the byte, or where numerics are fast within noise."""
        return self.outcome != "different"

    @property
    def first(self) -> FirstDifference | None:
        """The first difference: of checkpoints, then of responses, then of judgments."""
        return self.matched.first


def reproduce(directory: Path, out: Path | None = None, *, progress: Progress = no_progress) -> Reproduction:
    """Run the study of a finished run anew, in a directory of its own, and compare the two.

    A reproduction that was interrupted goes on where it stopped. What differs here from what made the run is
    warned of before anything runs.

    Args:
        directory: the run.
        out: the new run directory; beside the run, its name with `-reproduced`, by default.
        progress: told (stage, done, total).

    Raises:
        StoreError: it is no finished run, or `out` holds something else.
        StudyError: what the study names has moved or changed.
    """
    run = run_at(directory)
    if not run.observations.is_file():
        raise StoreError(
            f"{directory} has no observations: it was not finished", "finish it with `aftertune run` first"
        )
    target = RunDirectory(out or directory.resolve().with_name(f"{directory.resolve().name}-reproduced"))
    mark = {"run": str(directory.resolve()), "study_sha256": run.read_manifest().study_sha256}
    _refuse_taken(target, mark)
    study_file = _study_file(run)
    _refuse_changed(run)
    for entry in here_changed(run):
        log.warning("made with another %s (the run's, and here)", entry.in_words())
    target.write_json(target.root / _MARK, mark)
    if run.judges_added.is_file():
        replace(target.judges_added, run.judges_added.read_bytes())
    run_study(study_file, target.root, progress=progress)
    return _held_against(run, target)


def here_changed(run: RunDirectory) -> tuple[Changed, ...]:
    """The versions and the hardware that differ here from a run's manifest, the run's value first."""
    manifest = run.read_manifest()
    there = {"versions": manifest.versions or {}, "hardware": manifest.hardware or {}}
    return changed(there, {"versions": versions(), "hardware": hardware()})


def reproduction_lines(found: Reproduction) -> list[str]:
    """The outcome in words."""
    matched = found.matched
    lines = [f"run: {found.run}", f"reproduction: {found.out} (numerics {found.numerics})"]
    lines += [f"made with another {entry.in_words()}" for entry in found.made_of]
    lines += [
        f"checkpoints with the same weights: {matched.n_same_checkpoints} of {matched.n_checkpoints}",
        f"responses identical: {matched.n_same_responses:,} of {matched.n_responses:,}",
        f"judgments identical: {matched.n_same_judgments:,} of {matched.n_judgments:,}",
    ]
    if found.first is not None:
        lines.append(f"first difference: {found.first.in_words()}")
    if found.cells:
        beyond = [cell.where for cell in found.cells if cell.beyond_noise]
        lines.append(f"cells that differ beyond noise: {len(beyond)} of {len(found.cells)}")
        lines += [f"  {where}" for where in beyond]
    return [*lines, f"{found.outcome}: {_WORDS[found.outcome]}"]


def _refuse_taken(target: RunDirectory, mark: dict[str, Any]) -> None:
    """Only an empty directory, or a reproduction of this very run, is written to."""
    if not target.root.exists() or (target.root.is_dir() and not any(target.root.iterdir())):
        return
    file = target.root / _MARK
    if not file.is_file():
        raise StoreError(f"{target.root} is not empty", "give another directory with --out")
    if (found := target.read_json(file)) != mark:
        raise StoreError(
            f"{target.root} reproduces another run, or this one before its study was changed: got {found}",
            "give another directory with --out, or remove it",
        )


def _study_file(run: RunDirectory) -> Path:
    """A file to run the study from: study.json, whose paths are absolute.

    A user's own trainer runs in the folder of the study file, so with one the file must stand there.

    Raises:
        StudyError: the trainer's folder has no file like the run's study.yaml.
    """
    if not any(isinstance(recipe, CommandRecipe) for recipe in run.study.recipes.values()):
        return run.study_json
    folder, text = run.study_folder, run.study_file.read_bytes()
    files = sorted(file for file in folder.glob("*") if file.is_file() and file.stat().st_size == len(text))
    for file in files:
        if file.read_bytes() == text:
            return file
    raise StudyError(
        f"the study has a trainer of its own, which runs in {folder}, and no file there is {run.study_file}",
        f"put a copy of {run.study_file} into that folder, with the trainer's files beside it",
    )


def _refuse_changed(run: RunDirectory) -> None:
    """Refuse before hours of work what cannot be a reproduction: other data, items or another model.

    Raises:
        StudyError: a file has moved, or what the study names is not what it was.
    """
    study = run.study
    for key, value in flattened(run.read_json(run.study_json)).items():
        named = isinstance(value, str) and key.rpartition(".")[2] in _PATHS and Path(value).is_absolute()
        if named and not Path(value).exists():
            raise StudyError(
                f"{key} of {run.root} was {value}, and nothing stands there now", "put it back there"
            )
    try:
        resolved = resolve_all(study)
    except AftertuneError as error:
        raise type(error)(f"{run.root} cannot be run here: {error.what}", error.remedy) from error
    for name, one in resolved.items():
        part = run if name == BASELINE else run.of_variation(name, draws_anew=False)
        manifest = part.read_manifest()
        then = {
            "model": None if manifest.model is None else manifest.model.sha256,
            **{f"data of {key}": entry.sha256 for key, entry in manifest.data.items()},
            **{f"task {entry.name}": entry.sha256 for entry in manifest.tasks},
            **{f"checkpoint {f.name}": f.sha256 for found in manifest.finished.values() for f in found},
        }
        now = {
            "model": one.model.sha256,
            **{f"data of {key}": data.sha256 for key, data in one.data.items()},
            **{f"task {task.name}": task.sha256 for task in one.tasks},
            **{f"checkpoint {f.name}": f.sha256 for found in one.finished.values() for f in found},
        }
        for what, sha256 in then.items():
            if now.get(what) != sha256:
                raise StudyError(
                    f"the {what} is not what {part.root} was made with: "
                    f"its SHA-256 was {sha256}, and is {now.get(what)} now",
                    "put it back; to see what a change does, run the study and `aftertune compare` the two",
                )


def _held_against(run: RunDirectory, target: RunDirectory) -> Reproduction:
    matched = match_runs(run, target)
    engines = [one.read_manifest().engine for one in (run, target)]
    exact = all(engine is not None and engine.numerics == "exact" for engine in engines)
    numerics = "exact" if exact else "fast"
    compared: Comparison | None = None
    if not matched.same_judgments:
        compared = compare(run.root, target.root)
    return Reproduction(
        run=str(run.root),
        out=str(target.root),
        numerics=numerics,
        outcome=_outcome(matched, compared, exact=numerics == "exact"),
        made_of=makings_changed(run.read_manifest(), target.read_manifest()),
        matched=matched,
        cells=compared.cells if compared else (),
    )


def _outcome(matched: Matched, compared: Comparison | None, *, exact: bool) -> Outcome:
    if matched.first is None:
        return "same texts" if matched.n_other_keys else "identical"
    if exact or matched.n_responses != matched.n_found_responses:
        return "different"
    return "different" if compared is not None and compared.beyond_noise else "within noise"
