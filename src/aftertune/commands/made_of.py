"""What two runs were made of, key by key: their studies, and what else can change a number."""

from dataclasses import dataclass
from typing import Any, Literal

from aftertune.records.manifest import Manifest
from aftertune.store import RunDirectory

# Of the manifest, what can change a number. Times, places and licences cannot.
_WHOLE = ("versions", "hardware", "engine", "judges_observed")
_HASHES = ("template", "model")
_TABLES = ("data", "held_out")
_LISTS = ("tasks", "judges")


@dataclass(frozen=True, slots=True)
class Changed:
    """One key whose value differs; `only_in` says where a key stands that the other run does not have."""

    key: str
    a: Any
    b: Any
    only_in: Literal["a", "b"] | None = None

    def in_words(self) -> str:
        """`engine.threads: 2, and 1`."""
        shown = {
            side: "absent" if self.only_in not in (None, side) else _shown(self.value(side)) for side in "ab"
        }
        return f"{self.key}: {shown['a']}, and {shown['b']}"

    def value(self, side: str) -> Any:
        """What run `a` or `b` has; None where it lacks the key."""
        return self.a if side == "a" else self.b


def settings_changed(a: RunDirectory, b: RunDirectory) -> tuple[Changed, ...]:
    """The dotted keys of two studies that differ; entries of lists go by their names (`tasks.mini-harm.n`).

    Raises:
        StoreError: a run has no study.json.
    """
    return changed(a.read_json(a.study_json), b.read_json(b.study_json))


def makings_changed(a: Manifest, b: Manifest) -> tuple[Changed, ...]:
    """What differs between two manifests and can change numbers.

    Versions, hardware, the engine's identity, template, model, tuning data, tasks and judges, the last by
    their hashes.
    """
    return changed(_makings(a.recorded()), _makings(b.recorded()))


def changed(a: dict[str, Any], b: dict[str, Any]) -> tuple[Changed, ...]:
    """The dotted keys of two nested mappings whose values differ, in the order of the first."""
    one, two = flattened(a), flattened(b)
    found: list[Changed] = []
    for key in dict.fromkeys([*one, *two]):
        if key not in two:
            found.append(Changed(key, one[key], None, "a"))
        elif key not in one:
            found.append(Changed(key, None, two[key], "b"))
        elif one[key] != two[key]:
            found.append(Changed(key, one[key], two[key]))
    return tuple(found)


def flattened(value: Any, key: str = "") -> dict[str, Any]:
    """Dotted key -> value; a list whose entries all have names is gone into by them, any other is a value."""
    if isinstance(value, list) and value and all(isinstance(v, dict) and "name" in v for v in value):
        value = {entry["name"]: {k: v for k, v in entry.items() if k != "name"} or True for entry in value}
    if not isinstance(value, dict) or (key and not value):
        return {key: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= flattened(inner, f"{key}.{name}" if key else str(name))
    return found


def _makings(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {name: manifest[name] for name in _WHOLE if name in manifest}
    found |= {name: {"sha256": manifest.get(name, {}).get("sha256")} for name in _HASHES}
    for name in _TABLES:
        found[name] = {key: {"sha256": entry["sha256"]} for key, entry in manifest.get(name, {}).items()}
    for name in _LISTS:
        found[name] = {entry["name"]: {"sha256": entry["sha256"]} for entry in manifest.get(name, [])}
    return found


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value)
    text = text if len(text) <= 60 else f"{text[:57]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
