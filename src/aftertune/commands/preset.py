"""`aftertune preset`: the study files that come with aftertune, to be changed and run."""

from importlib.resources import files
from pathlib import Path

from aftertune.errors import StoreError, StudyError, nearest
from aftertune.store import put_if_absent


def list_presets() -> list[dict[str, str]]:
    """Each preset's name and what it is, in the first words of its file."""
    return [{"name": name, "about": _about(text)} for name, text in _texts().items()]


def write_preset(name: str, out: Path | None = None) -> Path:
    """Write a packaged study file with its comments; returns where.

    Args:
        name: one of `list_presets`.
        out: the file; NAME.yaml in the working directory by default.

    Raises:
        StudyError: there is no such preset.
        StoreError: a file stands there already, or it cannot be written.
    """
    texts = _texts()
    if name not in texts:
        raise StudyError(f"there is no preset called {name!r}", nearest(name, texts))
    path = out or Path(f"{name}.yaml")
    if not put_if_absent(path, texts[name].encode()):
        raise StoreError(f"{path} is there already", "give another file with --out; nothing was written over")
    return path


def _texts() -> dict[str, str]:
    found = (files("aftertune.commands") / "studies").iterdir()
    texts = {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in found}
    return dict(sorted(texts.items()))


def _about(text: str) -> str:
    """The comment at the top, up to its first full stop or question mark that ends a line."""
    lines: list[str] = []
    for line in text.splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or not words:
            break
        lines.append(words)
        if words.endswith((".", "?")):
            break
    return " ".join(lines)
