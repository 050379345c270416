"""Find all that a study names, and refuse what would fail later."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aftertune.data import TuningData, load_conversations
from aftertune.engines import open_engine, open_local_engine
from aftertune.engines.chat import template_text
from aftertune.engines.directory import read_config
from aftertune.engines.openai import address_of
from aftertune.engines.replay import ReplayEngine
from aftertune.engines.served import ServedModel, served_checkpoints, served_model
from aftertune.engines.source import ModelSource
from aftertune.errors import AftertuneError, StudyError, need_models
from aftertune.judges import get_judge, needs_reference
from aftertune.judges.base import Judge
from aftertune.judges.calibration import read_calibration
from aftertune.judges.detoxify import ToxicityJudge
from aftertune.judges.model_judge import ModelJudge
from aftertune.judges.rubric import RubricJudge
from aftertune.records import BASELINE, Checkpoint, Task, metrics_of
from aftertune.stages.check.languages import language_notes
from aftertune.stages.check.messages import (
    Messages,
    Prompts,
    check_prompts,
    refuse_same_prompts,
    scan_messages,
)
from aftertune.stages.check.recipes import check_memory, check_methods, check_recipe, token_limit
from aftertune.stages.check.scan import ItemIndex, Scan, scan
from aftertune.store import content_key
from aftertune.study import (
    SERVING,
    OpenAISpec,
    ReplaySpec,
    Study,
    TransformersSpec,
    TuneRecipe,
    variants_of,
)
from aftertune.tasks import load_task
from aftertune.tuning.checkpoints import linear_shapes
from aftertune.tuning.encode import encode_all
from aftertune.tuning.finished import Finished, finished_of
from aftertune.tuning.held_out import hold_out

if TYPE_CHECKING:
    from aftertune.engines.base import Engine
    from aftertune.engines.transformers import TransformersEngine


@dataclass(frozen=True, slots=True)
class Resolved:
    """A study with all that it names found and read.

    `linear` are the shapes of the model's weight matrices, by name, without embeddings and output layer. Of a
    model that an endpoint serves there are none, no template and no length of a prompt.
    """

    study: Study
    model: ModelSource | ServedModel
    chat_template: str | None
    linear: dict[str, tuple[int, int]]
    tasks: tuple[Task, ...]
    judges: tuple[Judge, ...]
    data: dict[str, TuningData]  # the rows that a recipe can train on
    held_out: dict[str, TuningData]  # those that it never does; only of recipes that hold rows out
    scans: tuple[Scan, ...]  # one a recipe that aftertune tunes itself
    max_prompt_tokens: int | None
    prompt_tokens: dict[tuple[str, str | None], int]  # by task and system prompt: of all its items
    prompts: Prompts | None
    numerics: str  # how responses are computed, in words
    messages: Messages | None
    training_tokens: dict[str, int]  # by recipe that aftertune tunes: of one seed, over all epochs
    finished: dict[str, tuple[Finished, ...]]  # by recipe, those that were made elsewhere
    languages: tuple[str, ...]  # what is in a language that a judge does not read, in sentences
    attention_bytes: int  # what attention keeps for the backward pass of the largest batch; 0 without one
    notes: tuple[str, ...] = ()  # what a table of recorded responses lacks, and what of it is not asked for


def resolve(study: Study) -> Resolved:
    """Find the model, tasks, judges and data of a study and check them against each other.

    Raises:
        AftertuneError: something that the study names is missing or wrong.
    """
    judges = tuple(get_judge(spec) for spec in study.judges)
    tasks = tuple(load_task(spec, root_seed=study.root_seed) for spec in study.tasks)
    _check_judges(judges)
    _check_references(tasks, judges)
    _check_primary(study, tasks, judges)
    if study.analysis.calibration is not None:
        read_calibration(Path(study.analysis.calibration))
    if isinstance(study.engine, SERVING):
        return _served(study, study.engine, tasks, judges)
    need_models()
    from aftertune.engines.loading import context_length, outline, resolve_model
    from aftertune.engines.own_attention import refuse_own_attention

    data, held_out = _data(study)
    model = resolve_model(study.model, study.revision)
    linear = linear_shapes(model.path)
    check_methods(study, linear)
    # Both refuse a device, a dtype or a promise that is not there; neither loads weights.
    engine = open_local_engine(study, model)
    drawing = open_engine(study, lambda: model, local=lambda: engine)
    outlined = outline(model.path)
    if isinstance(study.engine, TransformersSpec) and outlined is not None:
        refuse_own_attention(outlined)
    config = read_config(model.path)
    context = context_length(config)
    prompts = check_prompts(study, tasks, engine, context)
    rows = [check_recipe(study, name, found, engine, context=context) for name, found in data.items()]
    finished = _finished(study, tasks, engine, model, linear)
    kept = [
        check_memory(study, name, size, config) if engine.device == "cpu" else 0
        for name, size in zip(data, rows, strict=True)
    ]
    for name, held in held_out.items():
        encode_all(held, engine.tokenizer, max_length=token_limit(study, name, context))
    template = template_text(engine.tokenizer)
    attention = max(kept, default=0)
    return Resolved(
        study=study,
        model=model,
        chat_template=template,
        linear=linear,
        tasks=tasks,
        judges=judges,
        data=data,
        held_out=held_out,
        scans=_scans(study, tasks, data),
        max_prompt_tokens=prompts.longest,
        prompt_tokens=prompts.n_tokens,
        prompts=prompts,
        numerics=_numerics(drawing),
        messages=scan_messages(study, tasks, data, engine),
        training_tokens={name: size.n_tokens for name, size in zip(data, rows, strict=True)},
        finished=finished,
        languages=language_notes(study, tasks, recorded={}, data=data),
        attention_bytes=attention,
    )


def _numerics(engine: "Engine") -> str:
    """How an engine computes its responses; refuses exact numerics that cannot be promised here."""
    numerics, promised = engine.identity["numerics"], engine.reproducibility
    if "way" in promised:
        return f"{numerics}: {promised['way']}"
    return f"{numerics}: {promised['exact_refused']}" if "exact_refused" in promised else numerics


def resolve_all(study: Study) -> dict[str, Resolved]:
    """The baseline and every variation, by name, each resolved as a study of its own; the baseline first.

    Raises:
        AftertuneError: see `resolve`; of a variation under its name.
    """
    if not isinstance(study.engine, ReplaySpec):  # recorded under two names, they are two
        _refuse_same_decodings(study)  # a variation may make them the same
    found = {BASELINE: resolve(study)}
    for name, variant in variants_of(study).items():
        try:
            found[name] = resolve(variant)
            _refuse_idle(found[BASELINE], found[name])
        except AftertuneError as error:
            raise type(error)(f"variation {name}: {error.what}", error.remedy) from error
    return found


def _refuse_idle(baseline: Resolved, varied: Resolved) -> None:
    if baseline.prompts is not None and varied.prompts is not None:
        refuse_same_prompts(baseline.study, baseline.prompts, varied.study, varied.prompts)


def _served(
    study: Study, spec: OpenAISpec | ReplaySpec, tasks: tuple[Task, ...], judges: tuple[Judge, ...]
) -> Resolved:
    """A study of models out of sight: an endpoint's key or a table's models must be there, no more."""
    recorded: dict[str, list[str]] = {}
    notes: tuple[str, ...] = ()
    if isinstance(spec, OpenAISpec):
        address_of(spec).key()
    else:
        replay, checkpoints = ReplayEngine(study, spec), served_checkpoints(study, spec)
        notes = replay.check(checkpoints, tasks)
        recorded = {name: replay.texts(name, tasks) for name in (str(c.served) for c in checkpoints)}
    _refuse_same_models(served_checkpoints(study, spec))
    return Resolved(
        study=study,
        model=served_model(study, spec),
        chat_template=None,
        linear={},
        tasks=tasks,
        judges=judges,
        data={},
        held_out={},
        scans=(),
        max_prompt_tokens=None,
        prompt_tokens={},
        prompts=None,
        numerics="not known: the endpoint's" if isinstance(spec, OpenAISpec) else "as recorded",
        messages=None,
        training_tokens={},
        finished={},
        languages=language_notes(study, tasks, recorded=recorded, data={}),
        attention_bytes=0,
        notes=notes,
    )


def _refuse_same_decodings(study: Study) -> None:
    """Two decodings that ask for the same responses are one, and their difference would be none."""
    seen: dict[str, str] = {}
    for name, decoding in study.decodings.items():
        first = seen.setdefault(content_key(decoding.content()), name)
        if first != name:
            raise StudyError(
                f"decodings.{first} and decodings.{name} are the same, and so are their responses",
                "change one of them, or leave it out; `repeats` gives further responses of one decoding",
            )


def _refuse_same_models(checkpoints: list[Checkpoint]) -> None:
    seen: dict[str | None, str] = {}
    for checkpoint in checkpoints:
        first = seen.setdefault(checkpoint.served, checkpoint.label)
        if first != checkpoint.label:
            raise StudyError(
                f"{first} and {checkpoint.label} are one served model, {checkpoint.served!r}",
                "write the name of another, or leave one out: a copy is no second training",
            )


def _data(study: Study) -> tuple[dict[str, TuningData], dict[str, TuningData]]:
    """By recipe, the rows to train on and the rows held out."""
    data, held_out = dict[str, TuningData](), dict[str, TuningData]()
    for name, recipe in study.recipes.items():
        if isinstance(recipe, TuneRecipe):
            loaded = load_conversations(recipe.data)
            data[name], held = hold_out(loaded, recipe.held_out, recipe=name, root_seed=study.root_seed)
            if held is not None:
                held_out[name] = held
    return data, held_out


def _finished(
    study: Study,
    tasks: tuple[Task, ...],
    engine: "TransformersEngine",
    model: ModelSource,
    linear: dict[str, tuple[int, int]],
) -> dict[str, tuple[Finished, ...]]:
    """The checkpoints that were made elsewhere, each fit to stand beside the base and no two the same."""
    from aftertune.tuning.arms import refuse_copies, refuse_other_arm

    systems = {decoding.system_prompt for decoding in study.decodings.values()}
    prompts = [(item.prompt, system) for system in systems for task in tasks for item in task.items]
    found = finished_of(study)
    every = [one for of_recipe in found.values() for one in of_recipe]
    refuse_copies(every)
    for finished in every:
        refuse_other_arm(finished, engine, linear=linear, prompts=prompts)
    return found


def _scans(study: Study, tasks: tuple[Task, ...], data: dict[str, TuningData]) -> tuple[Scan, ...]:
    index = ItemIndex(tasks)
    recipes = study.recipes
    return tuple(
        scan(name, rows, index, answers=getattr(recipes[name], "answers", "data") == "data")
        for name, rows in data.items()
    )


def _check_judges(judges: tuple[Judge, ...]) -> None:
    """Find out now what a judge lacks: weights, a template, an endpoint's key, a rubric's wording."""
    asked: dict[str, str] = {}
    for judge in judges:
        if isinstance(judge, ModelJudge | ToxicityJudge):
            need_models()
        sha256 = judge.sha256  # raises where a file that decides its judgments is missing
        if isinstance(judge, RubricJudge):
            judge.ready()
            if (first := asked.setdefault(sha256, judge.name)) != judge.name:
                raise StudyError(
                    f"judges {first!r} and {judge.name!r} ask one model the same: they agree by construction",
                    "leave one out; `repeats` on a judge asks it again",
                )


def _check_references(tasks: tuple[Task, ...], judges: tuple[Judge, ...]) -> None:
    known = any(item.reference is not None for task in tasks for item in task.items)
    for judge in judges:
        if needs_reference(judge) and not known:
            raise StudyError(
                f"judge {judge.name!r} needs expected answers, and no task has any",
                "add a task with references (mini-numbers, gsm8k), or leave the judge out",
            )


def _check_primary(study: Study, tasks: tuple[Task, ...], judges: tuple[Judge, ...]) -> None:
    primary = study.analysis.primary
    if primary is None:
        return
    task = next(task for task in tasks if task.name == primary.task)
    judge = next(judge for judge in judges if judge.name == primary.judge)
    known = {metric.name for construct in judge.constructs for metric in metrics_of(task.intent, construct)}
    if primary.metric not in known:
        raise StudyError(
            f"analysis.primary.metric is {primary.metric!r}, "
            f"which {judge.name} does not give on {task.intent} items",
            f"write one of: {', '.join(sorted(known))}",
        )
