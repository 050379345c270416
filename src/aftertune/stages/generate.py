"""Generate: every response that the study asks for and the run directory does not have."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from aftertune.engines.base import Engine, Prompt, make_request
from aftertune.engines.draw import Draw, draw_into
from aftertune.engines.openai import OpenAIEngine
from aftertune.errors import EngineError, StoreError
from aftertune.records import (
    REQUEST_COLUMNS,
    RESPONSE_COLUMNS,
    SERVED_COLUMNS,
    Checkpoint,
    CheckpointStatus,
    Progress,
    ResponseStatus,
)
from aftertune.store import RunDirectory, content_key, read_shards, replace, shard_told, write_shard
from aftertune.store.shards import parquet_bytes
from aftertune.study import Study

log = logging.getLogger(__name__)

_PROMPT_COLUMNS = {"prompt_sha256": str, "text": str}


def generate(run: RunDirectory, *, open_engine: Callable[[], Engine], progress: Progress) -> None:
    """Draw the responses that are missing; finished ones are never drawn again.

    Args:
        run: a run directory whose trainings are done.
        open_engine: called once; loads a model only when a response is missing.
        progress: told (stage, done, total).

    Raises:
        StoreError: the disk is full, or a checkpoint that is needed again was dropped.
        EngineError: an endpoint is down or refuses every request of a kind, or every response failed; what
            was answered before is kept.
    """
    study = run.study
    checkpoints = run.listed_checkpoints()
    engine = open_engine()
    run.update_manifest(engine=engine.identity)
    draws = list(_draws(study, checkpoints, run.read_table(run.items), engine))
    done = _done(run, engine)
    if isinstance(engine, OpenAIEngine) and _accepted(run, engine, draws, done):
        draws = list(_draws(study, checkpoints, run.read_table(run.items), engine))
    replace(run.requests, parquet_bytes([_row(draw) for draw in draws], REQUEST_COLUMNS))
    _keep_prompts(run, {draw.request.prompt for draw in draws})
    keys = {draw.request.key for draw in draws}  # two decodings of one content share their responses
    n_done = len(keys & done)
    progress("generate", n_done, len(keys))
    missing = {draw.request.key: draw for draw in draws if draw.request.key not in done}
    _refuse_dropped(missing.values())
    _draw(run, engine, missing, lambda n_drawn: progress("generate", n_done + n_drawn, len(keys)))
    run.update_manifest(reproducibility=engine.reproducibility)
    _refuse_all_failed(run, keys)


def drop_checkpoints(run: RunDirectory) -> None:
    """Remove the weights that the study does not keep, once no variation draws from them any more."""
    study = run.study
    kept = {"all": set(study.seed_list), "last": {study.seed_list[-1]}, "none": set[int]()}
    for checkpoint in run.listed_checkpoints():
        ours = checkpoint.path is not None and Path(checkpoint.path).is_relative_to(run.checkpoints.resolve())
        if ours and checkpoint.seed not in kept[study.keep_checkpoints]:
            _drop(run, checkpoint)


def _done(run: RunDirectory, engine: Engine) -> set[str]:
    """The keys that are not drawn again; an endpoint is asked once more for what it never answered."""
    responses = read_shards(run.responses, RESPONSE_COLUMNS, aside=run.aside)
    if isinstance(engine, OpenAIEngine):
        answered = read_shards(run.served, SERVED_COLUMNS, aside=run.aside)["key"].implode()
        responses = responses.filter(
            (pl.col("status") != ResponseStatus.FAILED) | pl.col("key").is_in(answered)
        )
    return set(responses["key"])


def _accepted(run: RunDirectory, engine: OpenAIEngine, draws: list[Draw], done: set[str]) -> bool:
    """See that the endpoint takes what is missing; whether that changes the keys of the responses."""
    recorded = run.read_manifest().endpoint_requests
    engine.accepted |= recorded or {}
    served = {str(draw.request.checkpoint.served) for draw in draws}
    missing = [draw.request for draw in draws if draw.request.key not in done]
    if missing:
        engine.probe(missing, in_key=recorded is not None or not done)
        found = {model: entry for model, entry in engine.accepted.items() if model in served}
        run.update_manifest(endpoint_requests=found)
    return any(engine.identity_for(model) != engine.identity for model in served)


def _refuse_all_failed(run: RunDirectory, keys: set[str]) -> None:
    """Stop where there is no response to judge; warn of a model without one."""
    found = read_shards(run.responses, RESPONSE_COLUMNS, aside=run.aside).filter(pl.col("key").is_in(keys))
    good = set(found.filter(pl.col("status") != ResponseStatus.FAILED)["key"])
    failed = found.filter(~pl.col("key").is_in(good)).unique("key")
    answered = set(found.filter(pl.col("key").is_in(good))["checkpoint"])
    for (checkpoint,), lost in failed.group_by("checkpoint", maintain_order=True):
        reason, n = Counter(lost["reason"]).most_common(1)[0]
        if not answered:
            raise EngineError(
                f"every one of the {failed.height} responses failed, {n} of {checkpoint}: {reason}",
                "there is nothing to judge: remove the cause, and run the same command again",
            )
        if checkpoint not in answered:
            log.warning(
                "every response of %s failed (%d): nothing can be said of it; %d: %s",
                *(checkpoint, lost.height, n, reason),
            )


def _draw(
    run: RunDirectory, engine: Engine, missing: dict[str, Draw], on_drawn: Callable[[int], None]
) -> None:
    served = isinstance(engine, OpenAIEngine)
    sampled = next((draw for draw in missing.values() if draw.request.decoding.temperature > 0), None)
    if served and sampled is not None and not _seed_known(run):
        run.update_manifest(endpoint_seed=engine.probe_seed(str(sampled.request.checkpoint.served)))
    try:
        for n_drawn in draw_into(
            run.responses, engine, missing, served=run.served, on_shard=partial(shard_told, run, "generate")
        ):
            on_drawn(n_drawn)
    finally:
        if served:
            said = read_shards(run.served, SERVED_COLUMNS, aside=run.aside)
            run.update_manifest(served=engine.summary(said))


def _seed_known(run: RunDirectory) -> bool:
    found = run.read_manifest().endpoint_seed
    return found is not None and not found.finding.startswith("not known")


def _draws(
    study: Study, checkpoints: list[Checkpoint], items: pl.DataFrame, engine: Engine
) -> Iterator[Draw]:
    """The study's responses: one prompt's requests stand together, so that they share its prefill."""
    prompts: dict[tuple[str, str | None], Prompt] = {}
    contents = {
        name: (decoding, content_key(decoding.content())) for name, decoding in study.decodings.items()
    }
    for checkpoint in checkpoints:
        if checkpoint.status is not CheckpointStatus.OK:
            continue
        served = isinstance(engine, OpenAIEngine)
        identity = engine.identity_for(str(checkpoint.served)) if served else engine.identity
        for item in items.iter_rows(named=True):
            for name, (decoding, content) in contents.items():
                asked = (item["prompt"], decoding.system_prompt)
                prompt = prompts.get(asked) or prompts.setdefault(asked, engine.render(*asked))
                for repeat in range(1, decoding.repeats_of(checkpoint.label) + 1):
                    stream = (str(checkpoint.sha256), item["task"], item["item"], content, repeat)
                    request = make_request(
                        checkpoint,
                        prompt,
                        decoding,
                        root_seed=study.root_seed,
                        stream=stream,
                        engine=identity,
                    )
                    yield Draw(item["task"], item["item"], name, repeat, request)


def _row(draw: Draw) -> dict[str, Any]:
    return {
        "key": draw.request.key,
        "model": draw.request.checkpoint.model,
        "seed": draw.request.checkpoint.seed,
        "checkpoint": draw.request.checkpoint.label,
        "task": draw.task,
        "item": draw.item,
        "decoding": draw.decoding,
        "repeat": draw.repeat,
    }


def _keep_prompts(run: RunDirectory, prompts: set[Prompt]) -> None:
    known = set(read_shards(run.prompts, _PROMPT_COLUMNS, aside=run.aside)["prompt_sha256"])
    new = sorted((prompt for prompt in prompts if prompt.sha256 not in known), key=lambda p: p.sha256)
    if new:
        write_shard(run.prompts, [{"prompt_sha256": p.sha256, "text": p.text} for p in new], _PROMPT_COLUMNS)


def _drop(run: RunDirectory, checkpoint: Checkpoint) -> None:
    """Remove a checkpoint's weights once its responses are there; its record and training log stay."""
    if checkpoint.path is None:
        return
    for file in Path(checkpoint.path).rglob("*.safetensors"):
        file.unlink()
    listed = run.listed_checkpoints()
    dropped = [changed(entry, path=None) if entry.label == checkpoint.label else entry for entry in listed]
    run.write_json(run.checkpoint_list, [asdict(entry) for entry in dropped])


def _refuse_dropped(missing: Iterable[Draw]) -> None:
    dropped = Counter(
        draw.request.checkpoint.label
        for draw in missing
        if draw.request.checkpoint.path is None and draw.request.checkpoint.served is None
    )
    for label, n_missing in dropped.items():
        raise StoreError(
            f"checkpoint {label} was dropped (keep_checkpoints), "
            f"and {n_missing} of its responses are missing",
            "write `keep_checkpoints: all` and run again: it is then trained anew",
        )
