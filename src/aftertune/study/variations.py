"""What a variation makes of its study: the same study with some keys changed, and nothing else."""

import copy
from typing import Any

from aftertune.errors import StudyError, nearest
from aftertune.study.grammar import Study, Variation

# What a variation is compared by, and what names it: to change these is another study.
_FIXED = ("name", "variations", "analysis", "keep_checkpoints", "budget_hours")
_OF_NUMERICS = ("engine", "numerics", "seeds")  # fewer seeds draw less anew


def variants_of(study: Study) -> dict[str, Study]:
    """Each variation's study, by its name; without variations of its own."""
    return {
        variation.name: Study.model_validate(changed_content(study, variation))
        for variation in study.variations
    }


def changed_content(study: Study, variation: Variation) -> dict[str, Any]:
    """The content of the study file that the variation stands for.

    Raises:
        StudyError: it changes a key that the study does not have, or one that no variation may change.
    """
    content = copy.deepcopy(study.model_dump(mode="json", by_alias=True, exclude={"variations"}))
    for dotted, value in variation.change.items():
        _refuse_fixed(variation, dotted)
        place, last = _place(content, dotted, variation.name)
        place[last] = value
    return content


def settled(variation: Variation, variant: Study) -> Variation:
    """The variation with its values as the checked variant has them: paths absolute, numbers as floats."""
    content = variant.model_dump(mode="json", by_alias=True)
    change: dict[str, Any] = {}
    for dotted in variation.change:
        place, last = _place(content, dotted, variation.name)
        change[dotted] = place[last]
    return variation.model_copy(update={"change": change})


def refuse_same(study: Study, variants: dict[str, Study], *, source: str) -> None:
    """Refuse a variation that changes nothing, and two that change the same.

    Raises:
        StudyError: names the variation, or both.
    """
    seen = {_fingerprint(study): "the study itself"}
    for name, variant in variants.items():
        twin = seen.setdefault(_fingerprint(variant), name)
        if twin != name:
            what = "changes nothing" if twin == "the study itself" else f"is the same as {twin}"
            raise StudyError(
                f"{source}: variation {name} {what}: every key has that value already",
                "write another value, or leave the variation out",
            )


def same_checkpoints(study: Study, variant: Study) -> bool:
    """Whether a variant asks the study's own checkpoints, so that nothing is to be trained for it."""
    keys = ("model", "revision", "root_seed", "recipes", "seeds")
    return all(getattr(study, key) == getattr(variant, key) for key in keys)


def _fingerprint(study: Study) -> str:
    return study.model_dump_json(by_alias=True, exclude={"variations"})


def _refuse_fixed(variation: Variation, dotted: str) -> None:
    first = dotted.split(".")[0]
    if first in _FIXED:
        raise StudyError(
            f"variation {variation.name} changes {dotted!r}, which decides nothing that is measured",
            "change the model, recipes, seeds, tasks, decodings, judges or the engine",
        )
    if variation.kind == "numerics" and first not in _OF_NUMERICS:
        raise StudyError(
            f"variation {variation.name} is of class numerics and changes {dotted!r}",
            "numerics are engine.…, numerics and fewer seeds; write class: procedure or design for other keys",
        )


def _place(content: dict[str, Any], dotted: str, name: str) -> tuple[dict[str, Any], str]:
    """The table that holds the key, and the key's last part; a list is gone into by its entries' names.

    Recipes, decodings, tasks and judges must be there already, and so must their keys, except those of a
    task, of which the study keeps only what was written.
    """
    *path, last = dotted.split(".")
    place: Any = content
    for depth, part in enumerate(path):
        place = _entries(place)
        if part not in place or not isinstance(place[part], dict | list):
            at = ".".join(path[:depth]) or "the study"
            raise StudyError(
                f"variation {name} changes {dotted!r}, and {at} has no {part!r}", nearest(part, sorted(place))
            )
        place = place[part]
    if isinstance(place, list):
        raise StudyError(
            f"variation {name} changes {dotted!r}, an entry of a list",
            "change the whole list, or a key of it",
        )
    if last not in place and path[:1] != ["tasks"]:
        at = ".".join(path) or "the study"
        raise StudyError(
            f"variation {name} changes {dotted!r}, and {at} has no {last!r}", nearest(last, sorted(place))
        )
    return place, last


def _entries(place: dict[str, Any] | list[Any]) -> dict[str, Any]:
    if isinstance(place, dict):
        return place
    return {entry["name"]: entry for entry in place if isinstance(entry, dict) and "name" in entry}
