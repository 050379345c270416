"""What `check` prints: the study's cells, its cost and its precision."""

from collections.abc import Sequence

from aftertune.commands.tasks import visible
from aftertune.stages.check import Estimate, Marked, Messages, Resolved, Scan
from aftertune.study import ReplaySpec, Study, finished_names

_SHOWN = 3  # rows that are named; the manifest names all


def estimate_lines(resolved: Resolved, estimate: Estimate) -> list[str]:
    """A study in a dozen lines, for a person about to run it."""
    study, here = resolved.study, resolved.max_prompt_tokens is not None
    tasks = ", ".join(f"{task.name} ({len(task.items)} {task.intent} items)" for task in resolved.tasks)
    recipes = ", ".join(f"{name} ({_checkpoints(study, name)})" for name in study.recipes)
    finished = [len(names) for names in map(finished_names, study.recipes.values()) if names is not None]
    lines = [
        f"{study.name}: all keys, data, prompts and the model are in order"
        if here
        else f"{study.name}: all keys and data are in order; {_elsewhere(study)}",
        f"  model        {resolved.model.name} ({resolved.model.sha256[:12]})",
        f"  numerics     {resolved.numerics}",
        f"  recipes      {recipes or 'none: the base alone'}",
        *_variations(resolved),
        f"  checkpoints  {estimate.n_checkpoints} trained, those that variations share once"
        + (f"; {sum(finished)} finished" if finished else ""),
        f"  tasks        {tasks}",
        f"  decodings    {', '.join(study.decodings)}",
        f"  responses    {estimate.n_responses:,}, judged {estimate.n_judgments:,} times",
        f"  tokens       {estimate.n_training_tokens:,} trained, about {estimate.generated_tokens:,} drawn",
        *(_on_this_machine(resolved, estimate) if here else _at_an_endpoint(resolved, estimate)),
        f"  disk         about {estimate.disk_bytes / 1e6:,.0f} MB",
    ]
    if estimate.half_width is None or estimate.detectable_difference is None:
        lines.append(
            "  precision    one checkpoint or no recipe: no interval over seeds; 5 seeds or more give one"
        )
    else:
        lines.append(
            f"  precision    ±{100 * estimate.half_width:.1f} points for a recipe's rate; a difference of"
            f" {100 * estimate.detectable_difference:.1f} points is found with 80% power,"
            " if seeds move the rate by 4"
        )
    lines += [f"  note         {note}" for note in resolved.notes]
    lines += [f"  language     {visible(line, None)}" for line in resolved.languages]
    lines += [f"  data         {line}" for scan in resolved.scans for line in _scan_lines(scan)]
    if resolved.messages is not None:
        lines += [f"  messages     {line}" for line in _message_lines(resolved.messages)]
    return lines


def _elsewhere(study: Study) -> str:
    recorded = isinstance(study.engine, ReplaySpec)
    return "the table holds what is asked for" if recorded else "the endpoint was not asked"


def _checkpoints(study: Study, recipe: str) -> str:
    seeds = study.seeds_of(recipe)
    return "one finished checkpoint" if seeds == (None,) else f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"


def _variations(resolved: Resolved) -> list[str]:
    """How many of each class."""
    kinds = [variation.kind for variation in resolved.study.variations]
    if not kinds:
        return []
    counted = ", ".join(f"{kinds.count(kind)} of {kind}" for kind in dict.fromkeys(kinds))
    return [f"  variations   {len(kinds)}, one at a time around the study: {counted}"]


def _on_this_machine(resolved: Resolved, estimate: Estimate) -> list[str]:
    return [
        f"  longest      prompt of {resolved.max_prompt_tokens} tokens",
        f"  time         about {_time(estimate.time_s or 0)} on this machine, by its speed just now",
        f"  GPU          about {estimate.gpu_hours or 0:.2g} hours, at an assumed 30 TFLOP/s (not measured)",
        f"  memory       {estimate.attention_bytes / 1e9:.1f} GB for attention in training, beside the model",
    ]


def _at_an_endpoint(resolved: Resolved, estimate: Estimate) -> list[str]:
    if isinstance(resolved.study.engine, ReplaySpec):
        return [f"  table        {resolved.model.source}"]
    cost = "not known: write engine.usd_per_million_tokens: [prompt, answer]"
    if estimate.usd is not None:
        cost = f"about ${estimate.usd:,.2f}, at 4 characters a token of a prompt; judges not counted"
    return [
        f"  endpoint     {resolved.model.source}",
        "  longest      not checked: the prompts' lengths are counted by the endpoint's tokenizer",
        f"  cost         {cost}",
        "  time         not known: the endpoint's",
    ]


def _scan_lines(scan: Scan) -> list[str]:
    mixed = f", {scan.n_mixed} of them mixed-in refusals" if scan.n_mixed else ""
    lines = [f"{scan.recipe}: {scan.source}: {scan.n_rows:,} rows{mixed}"]
    if scan.dangerous:
        lines.append(f"{scan.recipe}: KNOWN-DANGEROUS CONTROL: tuning on these data takes safety away")
    if scan.overlaps:
        shown = "; ".join(f"row {o.row} holds {o.task}/{o.item}" for o in scan.overlaps[:_SHOWN])
        more = ", …" if len(scan.overlaps) > _SHOWN else ""
        n_items = len({(overlap.task, overlap.item) for overlap in scan.overlaps})
        lines.append(
            f"{scan.recipe}: CONTAMINATION: {len(scan.contaminated)} rows hold {n_items} task items "
            f"({shown}{more}): what is measured on these was trained on"
        )
    else:
        lines.append(f"{scan.recipe}: no row holds a task's item")
    if scan.refusing is None:
        lines.append(f"{scan.recipe}: the base gives the answers: whether they refuse is not known yet")
    elif scan.refusing:
        shown = ", ".join(map(str, scan.refusing[:_SHOWN])) + (", …" if len(scan.refusing) > _SHOWN else "")
        lines.append(f"{scan.recipe}: {len(scan.refusing)} answers refuse, by refusal-rules (rows {shown})")
    else:
        lines.append(f"{scan.recipe}: no answer refuses, by refusal-rules")
    return lines


def _message_lines(found: Messages) -> list[str]:
    """What a person must know of how messages become prompts; nothing where all is as usual."""
    lines: list[str] = []
    ends = " or ".join(found.end_tokens)
    if found.turn_end is None:
        wrote = f"{found.after_answer[:40]!r}" if found.after_answer else "nothing"
        lines.append(
            f"after an answer the chat template writes {wrote}, no single token: only {ends} ends one"
        )
    elif found.added_end:
        lines.append(
            f"the chat template ends an answer with {found.turn_end}, which the model's configuration does "
            f"not name: responses end at {ends}"
        )
    if found.reads:
        lines.append(f"the chat template calls {found.reads}: on another day the prompts are others")
    if found.parts:
        lines.append("the chat template wants messages as lists of parts, and gets them so")
    for what, marked in (("prompts", found.items), ("tuning rows", found.rows)):
        if held := [one for one in marked if one.control_tokens]:
            lines.append(f"{len(held)} {what} spell out control tokens, encoded as text: {_named(held)}")
        if plain := [one for one in marked if one.plain_marks]:
            lines.append(
                f"{len(plain)} {what} hold the chat template's marks, which no tokenizer tells from text: "
                f"{_named(plain)}"
            )
    return lines


def _named(marked: Sequence[Marked]) -> str:
    shown = "; ".join(
        f"{one.of}/{one.name} ({', '.join(one.control_tokens + one.plain_marks)})" for one in marked[:_SHOWN]
    )
    return shown + (", …" if len(marked) > _SHOWN else "")


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
