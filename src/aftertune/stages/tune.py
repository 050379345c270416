"""Tune: one checkpoint for each recipe and seed, each in a folder whose name carries all that made it.

A training that is interrupted starts again from its seed; one that ended is never repeated, unless it failed
or the bytes of its checkpoint changed since.
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aftertune.data import TuningData, load_conversations
from aftertune.engines.served import served_checkpoints
from aftertune.errors import ModelError, StoreError
from aftertune.records import Checkpoint, CheckpointStatus, Progress
from aftertune.store import RunDirectory, content_key, publish_directory
from aftertune.study import SERVING, CommandRecipe, FinishedRecipe, Study, TuneRecipe
from aftertune.tuning.batches import plan_steps
from aftertune.tuning.checkpoints import checkpoint_sha256, linear_shapes
from aftertune.tuning.command import command_files
from aftertune.tuning.finished import finished_of
from aftertune.tuning.held_out import HeldOutLoss, held_out_key, held_out_loss, hold_out
from aftertune.tuning.self_answers import answer_by_base, ask_base
from aftertune.tuning.streams import drawn_rows
from aftertune.tuning.training import Group, OwnTrainers, Trainers, Training

if TYPE_CHECKING:
    from aftertune.engines.transformers import TransformersEngine

log = logging.getLogger(__name__)

_SCRATCH = ".training-"


def alone(trainers: OwnTrainers) -> Trainers:
    """Train in this process."""
    return trainers


def tune(
    run: RunDirectory,
    *,
    open_engine: Callable[[], "TransformersEngine"],
    progress: Progress,
    pooled: Callable[[OwnTrainers], Trainers] = alone,
) -> None:
    """Train what is missing and write down the study's checkpoints, the base first.

    Args:
        run: a prepared run directory.
        open_engine: gives the engine whose base model all trainings share.
        pooled: gives others that do the work of this process's trainers, in other processes.
        progress: told (stage, done, total), in optimizer steps; one for a run of the user's own trainer.

    Raises:
        AftertuneError: the data or a recipe cannot be trained on. A failed or diverged training is a status.
    """
    study = run.study
    if isinstance(study.engine, SERVING):
        served = served_checkpoints(study, study.engine)
        _warn_of_twins(served)
        run.write_json(run.checkpoint_list, [asdict(checkpoint) for checkpoint in served])
        run.held_out.unlink(missing_ok=True)  # of an earlier version of the study
        return
    model = run.model
    base = Checkpoint("base", None, "base", CheckpointStatus.OK, "", model.path, model.sha256)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    for left in run.checkpoints.glob(f"{_SCRATCH}*"):  # by a process that was killed
        shutil.rmtree(left)
    trainings = _trainings(run, study, base, open_engine=open_engine, progress=progress)
    trainers = pooled(OwnTrainers(base, study.root_seed, run.study_folder, open_engine))
    ready = _ready(run, study, trainings, trainers, progress)
    made = _compared(run, study, [ready[training.key] for training in trainings], open_engine)
    made += [
        found.as_checkpoint(name, seed)
        for name, finished in finished_of(study).items()
        for seed, found in zip(study.seeds_of(name), finished, strict=True)
    ]
    order = list(study.recipes)
    checkpoints = [base, *sorted(made, key=lambda checkpoint: order.index(checkpoint.model))]
    _warn_of_twins(checkpoints)
    run.write_json(run.checkpoint_list, [asdict(checkpoint) for checkpoint in checkpoints])
    _measure_held_out(run, study, checkpoints, open_engine=open_engine, progress=progress)


def _compared(
    run: RunDirectory, study: Study, made: list[Checkpoint], open_engine: Callable[[], "TransformersEngine"]
) -> list[Checkpoint]:
    """The checkpoints; one that a command left and that cannot be compared with the base has failed."""
    commands = {name for name, recipe in study.recipes.items() if isinstance(recipe, CommandRecipe)}
    if not any(checkpoint.model in commands and checkpoint.path is not None for checkpoint in made):
        return made
    from aftertune.tuning.arms import as_arm

    engine = open_engine()
    linear = linear_shapes(engine.source.path)
    systems = {decoding.system_prompt for decoding in study.decodings.values()}
    prompts = [(prompt, system) for prompt in run.read_table(run.items)["prompt"] for system in systems]
    compared: list[Checkpoint] = []
    for checkpoint in made:
        if checkpoint.model in commands:
            checkpoint = as_arm(checkpoint, engine, linear=linear, prompts=prompts)
            if checkpoint.status is CheckpointStatus.FAILED:
                log.warning("checkpoint %s failed: %s", checkpoint.label, checkpoint.reason)
        compared.append(checkpoint)
    return compared


def take_checkpoints(run: RunDirectory) -> None:
    """For a variation that changes nothing of the training: its checkpoints are those of the study."""
    assert run.main is not None
    run.write_json(run.checkpoint_list, run.read_json(run.main.checkpoint_list))


def _measure_held_out(
    run: RunDirectory,
    study: Study,
    checkpoints: list[Checkpoint],
    *,
    open_engine: Callable[[], "TransformersEngine"],
    progress: Progress,
) -> None:
    """Write the loss of the base and of a recipe's checkpoints on the rows that it holds out.

    A loss that is there under its key is not computed again.
    """
    wanted = [
        (name, recipe, held, checkpoint)
        for name, recipe in study.recipes.items()
        if isinstance(recipe, TuneRecipe) and (held := _rows(study, name, recipe)[1]) is not None
        for checkpoint in checkpoints
        if checkpoint.model in ("base", name)
    ]
    if not wanted:
        run.held_out.unlink(missing_ok=True)  # of an earlier version of the study
        return
    engine, base = open_engine(), checkpoints[0]
    kept = run.read_json(run.held_out) if run.held_out.is_file() else []
    there = {entry["key"]: entry for entry in kept if entry["loss"] is not None}
    answered: dict[str, TuningData] = {}
    entries: list[dict[str, Any]] = []
    for n_done, (name, recipe, held, checkpoint) in enumerate(wanted, start=1):
        if recipe.answers == "self":
            if name not in answered:
                asked = ask_base(engine, base, held, max_tokens=recipe.self_max_tokens)
                everyone = range(len(held.conversations))
                answered[name] = answer_by_base(
                    run, engine, held, asked=asked, rows=everyone, progress=progress
                )
            held = answered[name]
        key = held_out_key(engine, checkpoint, held, max_length=recipe.max_length)
        found = there.get(key) or asdict(_held_out_loss(engine, checkpoint, held, recipe))
        cell = {"recipe": name, "model": checkpoint.model, "seed": checkpoint.seed, "key": key}
        entries.append({**found, **cell, "data": held.source})
        progress("held out", n_done, len(wanted))
    run.write_json(run.held_out, entries)


def _held_out_loss(
    engine: "TransformersEngine", checkpoint: Checkpoint, held: TuningData, recipe: TuneRecipe
) -> HeldOutLoss:
    from aftertune.tuning.encode import encode_all

    if checkpoint.path is None:
        why = checkpoint.reason or "its weights were dropped before this loss was asked for"
        return HeldOutLoss(None, f"the checkpoint is {checkpoint.status.value}: {why}", 0, 0)
    return held_out_loss(engine, checkpoint, encode_all(held, engine.tokenizer, max_length=recipe.max_length))


def _trainings(
    run: RunDirectory,
    study: Study,
    base: Checkpoint,
    *,
    open_engine: Callable[[], "TransformersEngine"],
    progress: Progress,
) -> list[Training]:
    """Every recipe with every seed, and the key of all that decides what comes of it."""
    trainings: list[Training] = []
    for name, recipe in study.recipes.items():
        if isinstance(recipe, FinishedRecipe):
            continue
        content: dict[str, Any] = {"recipe": recipe.model_dump(), "name": name, "base": base.sha256}
        data, n_steps = None, 1
        if isinstance(recipe, TuneRecipe):
            from aftertune.tuning.encode import encoding_identity
            from aftertune.tuning.trainer import trainer_identity

            data, _ = _rows(study, name, recipe)
            content |= encoding_identity(data, open_engine().tokenizer)
            if recipe.answers == "self":
                engine = open_engine()
                asked = ask_base(engine, base, data, max_tokens=recipe.self_max_tokens)
                rows = drawn_rows(study, name, n_rows=len(data.conversations))
                data = answer_by_base(run, engine, data, asked=asked, rows=rows, progress=progress)
            content |= {"data": data.sha256, "trainer": trainer_identity(open_engine(), recipe)}
            n_steps = _count_steps(recipe, len(data.conversations))
        else:
            assert isinstance(recipe, CommandRecipe)  # one that is served stands beside an endpoint alone
            content |= {"files": command_files(recipe.command, run.study_folder)}
        for seed in study.seed_list:
            key = content_key({**content, "seed": seed, "root_seed": study.root_seed})
            trainings.append(Training(name, recipe, seed, data, key, n_steps))
    return trainings


def _rows(study: Study, name: str, recipe: TuneRecipe) -> tuple[TuningData, TuningData | None]:
    loaded = load_conversations(recipe.data)
    return hold_out(loaded, recipe.held_out, recipe=name, root_seed=study.root_seed)


def _ready(
    run: RunDirectory, study: Study, trainings: list[Training], trainers: Trainers, progress: Progress
) -> dict[str, Checkpoint]:
    """The checkpoint of every training by its key; those that are missing are made."""
    ready: dict[str, Checkpoint] = {}
    missing: dict[str, Training] = {}
    for training in trainings:
        found = _found(run, training, may_be_dropped=study.keep_checkpoints != "all")
        if found is not None:
            ready[training.key] = found
        else:
            missing[training.key] = training
    total = sum(training.n_steps for training in trainings)
    done = total - sum(training.n_steps for training in missing.values())
    within = 0
    progress("tune", done, total)

    def on_step() -> None:
        nonlocal within
        within += 1
        progress("tune", min(done + within, total), total)

    for made in _made(run, trainers.grouped(list(missing.values())), trainers, on_step):
        ready |= made
        done += sum(missing[key].n_steps for key in made)
        within = 0
        progress("tune", done, total)
    return ready


def _made(
    run: RunDirectory,
    grouped: list[tuple[Training, ...]],
    trainers: Trainers,
    on_step: Callable[[], None],
) -> Iterator[dict[str, Checkpoint]]:
    """Train in scratch folders, which get their names only when they are whole; gives a group at a time."""
    groups = [
        Group(same, tuple(Path(tempfile.mkdtemp(dir=run.checkpoints, prefix=_SCRATCH)) for _ in same))
        for same in grouped
    ]
    try:
        for place, checkpoints in trainers.train(groups, on_step):
            group = groups[place]
            yield {
                training.key: _published(run, training, scratch, checkpoint)
                for training, scratch, checkpoint in zip(
                    group.trainings, group.folders, checkpoints, strict=True
                )
            }
    except OSError as error:
        raise StoreError(
            f"cannot write a checkpoint in {run.checkpoints}: {error.strerror}",
            "free some space and run the same command again: all that was finished is kept",
        ) from error
    finally:
        for scratch in (folder for group in groups for folder in group.folders):
            shutil.rmtree(scratch, ignore_errors=True)


def _published(run: RunDirectory, training: Training, scratch: Path, checkpoint: Checkpoint) -> Checkpoint:
    """Give a finished training's folder its name."""
    scratch.chmod(0o755)
    folder = _folder(run, training)
    (scratch / "checkpoint.json").write_text(json.dumps(asdict(checkpoint), indent=2), encoding="utf-8")
    folder.parent.mkdir(parents=True, exist_ok=True)
    publish_directory(scratch, folder)
    placed = _placed(checkpoint, folder)
    run.tell("training", stage="tune", model=placed.model, seed=placed.seed, status=placed.status.value)
    if placed.status is not CheckpointStatus.OK:
        log.warning("training %s %s: %s", placed.label, placed.status.value, placed.reason)
    return placed


def _found(run: RunDirectory, training: Training, *, may_be_dropped: bool) -> Checkpoint | None:
    """The checkpoint of a training that ended; what stands in its place and is not whole is removed."""
    folder = _folder(run, training)
    record = folder / "checkpoint.json"
    if not folder.is_dir():
        return None
    checkpoint = _recorded(run, record)
    if checkpoint is not None:
        checkpoint = _placed(checkpoint, folder)
        if checkpoint.status is CheckpointStatus.DIVERGED:
            return checkpoint  # it would diverge again
        if checkpoint.path is not None:
            if _is_whole(Path(checkpoint.path), checkpoint.sha256):
                return checkpoint
            log.warning("checkpoint %s changed since it was trained: it is trained again", checkpoint.label)
        elif checkpoint.status is CheckpointStatus.OK and may_be_dropped:
            return checkpoint  # dropped on purpose, its responses are kept
    # Under another name first: killed halfway, a half folder must not pass for a checkpoint.
    rest = Path(tempfile.mkdtemp(dir=run.checkpoints, prefix=_SCRATCH))
    folder.rename(rest)
    shutil.rmtree(rest)
    return None


def _recorded(run: RunDirectory, record: Path) -> Checkpoint | None:
    """What a training's record says; None where there is none that can be read."""
    if not record.is_file():
        return None
    try:
        return Checkpoint.from_json(run.read_json(record))
    except (StoreError, KeyError, TypeError, ValueError):
        log.warning("%s is damaged: it is trained again", record)
        return None


def _is_whole(path: Path, sha256: str | None) -> bool:
    try:
        return checkpoint_sha256(path) == sha256
    except ModelError:
        return False


def _folder(run: RunDirectory, training: Training) -> Path:
    return run.checkpoints / training.name / f"seed-{training.seed}-{training.key[:12]}"


def _placed(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """The record with its path made absolute; None where the weights were dropped."""
    if checkpoint.path is None:
        return checkpoint
    path = (folder / checkpoint.path).resolve()
    there = path.is_dir() and any(path.glob("*.safetensors"))
    return changed(checkpoint, path=str(path) if there else None)


def _warn_of_twins(checkpoints: list[Checkpoint]) -> None:
    first: dict[str | None, Checkpoint] = {None: checkpoints[0]}
    for checkpoint in checkpoints:
        twin = first.setdefault(checkpoint.sha256, checkpoint)
        if checkpoint.sha256 is not None and twin is not checkpoint:
            log.warning(
                "checkpoints %s and %s are the same to the byte: does the trainer use its seed?",
                twin.label,
                checkpoint.label,
            )


def _count_steps(recipe: TuneRecipe, n_rows: int) -> int:
    plan = plan_steps(
        [1] * (recipe.n or n_rows),
        batch_size=recipe.batch_size,
        accumulation=recipe.accumulation,
        epochs=recipe.epochs,
        rng=np.random.Generator(np.random.Philox(0)),
    )
    return len(plan)
