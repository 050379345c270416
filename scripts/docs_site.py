"""The generated part of the docs site: the commands, the keys of a study file, and the public Python names.

An mkdocs hook (mkdocs.yml names it). The pages are made of the code as it is now, so they cannot say less or
other than it does.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "aftertune"
# What a page links to beside docs/ goes into the site too, so that the links hold there.
BESIDE = re.compile(r"\]\(\.\./(examples/[^)#]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated and the numbered pages to the navigation."""
    for entry in config.nav or ():
        if "Reference" in entry:
            entry["Reference"].append({"Python": [{title: page} for title, page, _ in python_pages()]})
        if "Decisions" in entry:
            pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
            entry["Decisions"] += [f"decisions/{page.name}" for page in pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the files beside docs/ that pages link to."""
    texts = {"commands.md": commands_page(), "study-file.md": study_page()}
    texts |= {page: text for _, page, text in python_pages()}
    for name, text in texts.items():
        files.append(File.generated(config, name, content=text))
    linked = {name for page in files.documentation_pages() for name in BESIDE.findall(page.content_string)}
    for name in sorted(linked):
        files.append(File.generated(config, name, content=(ROOT / name).read_bytes()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files beside docs/ point to their copies in the site."""
    return BESIDE.sub(r"](\1)", markdown)


def commands_page() -> str:
    """All commands, with their arguments and options, in the order of `aftertune --help`."""
    import typer

    from aftertune.cli import app

    lines = [
        "# Commands",
        "",
        "Written from the command itself; `aftertune COMMAND --help` says the same.",
        "",
    ]
    for words, command in walk(typer.main.get_command(app)):
        lines += command_section(words, command)
    return "\n".join(lines)


def walk(command: Any, words: tuple[str, ...] = ("aftertune",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and all below it, each with the words that call it."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*words, name))


def command_section(words: tuple[str, ...], command: Any) -> list[str]:
    """A command's heading, what it does, how it is called, and its parameters."""
    context = command.context_class(command, info_name=" ".join(words))
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = [f"## `{' '.join(words)}`", "", _cell(command.help or ""), "", "```text", usage, "```", ""]
    for kind in ("argument", "option"):
        shown = [p.get_help_record(context) for p in command.params if p.param_type_name == kind]
        lines += _table((kind, ""), [(f"`{called}`", _cell(about)) for called, about in filter(None, shown)])
    return lines


def study_page() -> str:
    """The keys of a study file: from its grammar, with the comments that stand beside them there."""
    from aftertune.study import study_schema

    schema = study_schema()
    kinds = {"Study": schema, **schema["$defs"]}
    lines = [
        "# The study file",
        "",
        "Written from the grammar; `aftertune schema` prints it for an editor.",
        "",
    ]
    for name, kind in kinds.items():
        if "properties" in kind:
            about = kind.get("description", "").replace("\n\n", "\n").replace("\n", " ")
            lines += [f"## {name}", "", _cell(about), ""]
            lines += _table(("key", "is", "default", ""), list(_keys(name, kind)))
    return "\n".join(lines)


def _keys(name: str, kind: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    comments = _comments()
    for key, value in kind["properties"].items():
        default = "" if key not in kind.get("required", ()) else "required"
        if value.get("default") is not None:
            shown = value["default"]
            default = "see below" if isinstance(shown, dict) and shown else f"`{_yaml(shown)}`"
        yield f"`{key}`", _kind(value), default, _cell(comments.get((name, key), ""))


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value)


def _kind(value: dict[str, Any]) -> str:
    """A type of the JSON Schema in a word or two."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if name != "Intent" else "harmful, benign"
    for key in ("anyOf", "oneOf"):
        if key in value:
            return " or ".join(dict.fromkeys(_kind(v) for v in value[key] if v.get("type") != "null"))
    if "enum" in value:
        return ", ".join(value["enum"])
    if "const" in value:
        return str(value["const"])
    if value.get("type") == "array":
        return f"a list of {_kind(value['items'])}" if "items" in value else "a list of two numbers"
    if value.get("type") == "object":
        inner = [*value.get("patternProperties", {}).values(), value.get("additionalProperties")]
        kinds = [_kind(v) for v in inner if isinstance(v, dict) and v]
        return "keys and values" + (f": {kinds[0]}" if kinds else "")
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true, false"}
    return words.get(value.get("type", ""), "any")


def _comments() -> dict[tuple[str, str], str]:
    """(class, key) → the comment on its line in the grammar's source."""
    found: dict[tuple[str, str], str] = {}
    files = [*sorted((PACKAGE / "study").glob("*.py")), PACKAGE / "records" / "analysis.py"]
    for file in files:
        text = file.read_text("utf-8")
        lines = text.splitlines()
        for node in (n for n in ast.parse(text).body if isinstance(n, ast.ClassDef)):
            for field in (f for f in node.body if isinstance(f, ast.AnnAssign)):
                commented = [line for line in lines[field.lineno - 1 : field.end_lineno] if "  # " in line]
                if commented:
                    key = ast.unparse(field.target)
                    found[node.name, key] = commented[-1].partition("  # ")[2]
    return found


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    listed = [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
    return [*listed, ""]


def _cell(words: str) -> str:
    """Words of the code as Markdown's: a bar, a bracket and a star are themselves, outside of backticks."""
    parts = " ".join(words.split()).split("`")
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([\\[\]*_])", r"\\\1", parts[i]).replace("<", "&lt;")
    return "`".join(parts).replace("|", "\\|")


def python_pages() -> list[tuple[str, str, str]]:
    """A title, a file name and the text of each page on public Python names, one for each room."""
    import aftertune

    first = [f"{aftertune._HOMES[name]}.{name}" for name in aftertune.__all__]
    pages = [_python_page("aftertune", "", [_home(name) for name in first])]
    for init in sorted(PACKAGE.rglob("__init__.py")):
        parts = init.parent.relative_to(PACKAGE).parts
        names = public_names(init)
        if parts and names and parts[0] != "cli":
            room = ".".join(parts)
            about = ast.get_docstring(ast.parse(init.read_text("utf-8"))) or ""
            pages.append(_python_page(room, about, [_home(f"aftertune.{room}.{name}") for name in names]))
    return pages


def _python_page(room: str, about: str, names: list[str]) -> tuple[str, str, str]:
    title = room if room == "aftertune" else f"aftertune.{room}"
    lines = [f"# {title}", "", about, "", *(line for name in names for line in (f"::: {name}", ""))]
    return room, f"python/{room.replace('.', '-')}.md", "\n".join(lines)


def public_names(init: Path) -> list[str]:
    """What a package's `__all__` spells, read and not run: some rooms would load torch."""
    for node in ast.parse(init.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return []


def _home(name: str) -> str:
    """Where a name is defined: a package may have a module of a name that it also spells."""
    module, _, last = name.rpartition(".")
    init = ROOT / "src" / Path(*module.split(".")) / "__init__.py"
    if init.is_file():
        for node in ast.parse(init.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == last:
                        return _home(f"{node.module}.{alias.name}")
    return name
