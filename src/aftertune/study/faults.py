"""What pydantic says of a wrong study, in the words of the study file."""

import json
from typing import Any

from pydantic import BaseModel

from aftertune.errors import nearest
from aftertune.records.analysis import Primary
from aftertune.study.engines import ENGINES, engine_name
from aftertune.study.grammar import AnalysisSpec, Decoding, JudgeSpec, Study, TaskSpec, Variation
from aftertune.study.recipes import RECIPE_KEYS, Columns, DataSpec, TuneRecipe
from aftertune.study.strict import is_tag

_TABLE = "expected keys and values"
_EXPECTED = {
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "tuple_type": "expected a list",
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "invalid_key": "expected text as key",
    "literal_error": "expected {expected}",
    "enum": "expected {expected}",
    "too_short": "expected at least {min_length} entry",
    "string_too_short": "expected some text",
    "string_pattern_mismatch": "expected up to 64 letters, digits and . _ -, a letter or digit first",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected at most {le}",
}
_SHOWN = 200  # characters of a value
_TABLES: dict[str, type[BaseModel]] = {
    "tasks": TaskSpec,
    "decodings": Decoding,
    "judges": JudgeSpec,
    "variations": Variation,
    "analysis": AnalysisSpec,
}


def fault(error: Any, content: dict[str, Any]) -> str:
    """One fault in words: the key, what is wrong with it, the value got.

    Args:
        error: one of `ValidationError.errors()`.
        content: the study that was read.
    """
    kind, got = error["type"], error["input"]
    *inside, last = error["loc"] or ("",)
    location = [str(part) for part in inside if part != "[key]" and not is_tag(part)]
    if kind == "extra_forbidden" or not (last in ("", "[key]") or is_tag(last)):  # a key may look like a tag
        location.append(str(last))
    where = ".".join(location)
    if kind == "extra_forbidden":
        return f"{where}: unknown key; {nearest(location[-1], _known_keys(location, content))}"
    if kind == "missing":
        return f"{where}: missing; write this key"
    if kind == "value_error":  # one of our own sentences, which names the value
        return f"{where}: {error['ctx']['error']}" if where else str(error["ctx"]["error"])
    if kind == "string_pattern_mismatch" and location[-1] == "revision":
        return f"{where}: expected a commit, its 40 hexadecimal digits, got {_shown(got)}"
    expected = str(_EXPECTED.get(kind) or error["msg"]).format(**(error.get("ctx") or {}))
    other = next((f" {part[1:-1]}" for part in error["loc"] if is_tag(part) and part.startswith("<or ")), "")
    hint = (
        ": put it in quotes"
        if kind in ("string_type", "invalid_key") and isinstance(got, int | float)
        else ""
    )
    return f"{where}: {expected}{other}, got {_shown(got)}{hint}"


def _shown(got: Any) -> str:
    if isinstance(got, dict | list | tuple) and not got:
        return "none"
    if isinstance(got, dict):
        return "keys and values"
    if isinstance(got, list | tuple):
        return f"a list of {len(got)}"
    shown = json.dumps(got, default=str, ensure_ascii=False)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _known_keys(location: list[str], content: dict[str, Any]) -> list[str]:
    """The keys that are legal beside the unknown one at `location`."""
    models: tuple[type[BaseModel], ...]
    if len(location) == 1:
        models = (Study,)
    elif location[0] == "recipes" and len(location) > 3:
        models = (Columns,) if location[3:-1] == ["columns"] else (DataSpec,)
    elif location[0] == "recipes":
        recipe = content["recipes"][location[1]]
        named = [kind for key, kind in RECIPE_KEYS.items() if key in recipe]
        models = tuple(named[:1]) or (TuneRecipe, *RECIPE_KEYS.values())
    elif location[0] == "engine":
        models = (ENGINES[engine_name(content["engine"])],)
    elif location[:2] == ["analysis", "primary"] and len(location) > 2:
        models = (Primary,)
    else:
        models = (_TABLES[location[0]],)
    return [field.alias or name for model in models for name, field in model.model_fields.items()]
