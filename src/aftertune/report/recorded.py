"""Values of the manifest and of study.json in words; an absent one is said to be not recorded."""

import json
from typing import Any, cast

from aftertune.foreign_text import visible
from aftertune.records.manifest import Section

NOT_RECORDED = "not recorded"
Record = dict[str, Any]


def look(record: Any, path: str) -> Any:
    """The value at a dotted path of nested dictionaries; None where any part of the way is absent."""
    for part in path.split("."):
        if not isinstance(record, dict):
            return None
        record = cast(Record, record).get(part)
    return record


def said(record: Any, path: str) -> str:
    """The value at a dotted path in words; an absent one as `not recorded`."""
    return text_of(look(record, path))


def entries(record: Any, path: str) -> list[Record]:
    """The list of dictionaries at a path; what is none is left out."""
    found = look(record, path)
    return (
        [cast(Record, e) for e in cast(list[Any], found) if isinstance(e, dict)]
        if isinstance(found, list)
        else []
    )


def named(record: Any, path: str) -> dict[str, Record]:
    """The dictionary of dictionaries at a path; what is none is left out."""
    found = look(record, path)
    if not isinstance(found, dict):
        return {}
    return {str(k): cast(Record, v) for k, v in cast(Record, found).items() if isinstance(v, dict)}


def recorded(section: Section) -> Record:
    """A section of the manifest as JSON has it."""
    return section.model_dump(mode="json", exclude_unset=True)


def text_of(value: Any) -> str:
    """A value of JSON in words, on one line; never blank."""
    if value is None or value == "":
        return NOT_RECORDED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return " ".join(value.split()) or NOT_RECORDED
    if isinstance(value, list):
        return ", ".join(map(_inside, cast(list[Any], value))) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k} = {_inside(v)}" for k, v in cast(Record, value).items()) or "none"
    return json.dumps(value, default=str)


def _inside(value: Any) -> str:
    """A value within another: what is not simple in brackets, so that its commas are its own."""
    return f"({text_of(value)})" if isinstance(value, list | dict) and value else text_of(value)


def pairs(record: Record) -> str:
    """A recipe's or decoding's settings in words: `rank 8, alpha not set, …`."""
    return ", ".join(
        f"{name.replace('_', ' ')} {'not set' if value is None else _setting(value)}"
        for name, value in record.items()
    )


def _setting(value: Any) -> str:
    spaced = isinstance(value, str) and " " in value
    return f"“{text_of(value)}”" if spaced else _inside(value)


def fixed(name: str, post_hoc: tuple[str, ...], study: Record) -> str:
    """When a setting of the analysis was chosen."""
    if name in post_hoc:
        return "post hoc: given with the analysis"
    if look(study, f"analysis.{name}") is not None:
        return "fixed beforehand, in the study file"
    return f"when it was chosen is {NOT_RECORDED}"


def shortened(sha256: str) -> str:
    """The first twelve characters of a hash, which name it."""
    return visible(sha256[:12])
