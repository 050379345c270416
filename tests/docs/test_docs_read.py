"""Every block of the documentation says what the code can do: commands, study files, Python."""

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from aftertune.cli import app
from aftertune.judges.rubric_file import parse_rubric
from aftertune.study import Study, parse_study, read_study
from docs_blocks import BLOCKS, INLINE_COMMANDS, PAGES, ROOT, Block, words_of

# What a fragment of a study file is put into where its page shows no whole one.
WHOLE = {
    "name": "whole",
    "model": "smollm2-guarded",
    "recipes": {"chat": {"data": "packaged:chat"}},
    "seeds": 5,
    "tasks": ["mini-harm"],
    "decodings": {
        "greedy": {"temperature": 0, "max_tokens": 96},
        "sampled": {"temperature": 0.7, "max_tokens": 96, "repeats": 3},
    },
    "judges": ["refusal-rules"],
}


def of_kind(*kinds: str) -> list[Any]:
    return [pytest.param(block, id=block.where) for block in BLOCKS if block.kind in kinds]


def parsed(words: list[str]) -> None:
    """Parse a call as the command would, and call nothing."""
    words = [word for word in words if word != "--debug"]  # main() takes it from any place
    command = get_command(app)
    context = command.make_context("aftertune", list(words))
    while rest := [*context._protected_args, *context.args]:
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "commands"):
            return


def test_there_are_blocks_of_every_kind():
    assert {"yaml", "python", ""} <= {block.kind for block in BLOCKS}
    assert len(PAGES) > 15 and len(INLINE_COMMANDS) > 30


@pytest.mark.parametrize("block", [pytest.param(b, id=b.where) for b in BLOCKS if b.commands])
def test_every_call_in_a_block_is_one_that_the_command_takes(block: Block):
    for words in block.commands:
        parsed(words)


@pytest.mark.parametrize(("page", "line"), sorted(set(INLINE_COMMANDS)))
def test_every_call_in_the_prose_names_a_command_and_its_options(page: str, line: str):
    line = line.replace("\\|", "|").partition(" || ")[0]
    variants = [line]
    first = line.split()[1].rstrip(",")
    if "|" in first:  # `aftertune tune|generate|judge STUDY`
        variants = [line.replace(first, name, 1) for name in first.split("|")]
    for variant in variants:
        words = [word for word in words_of(variant.replace("[", "").replace("]", "")) if word != "…"]
        command, known = get_command(app), []
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {option for p in command.params for option in p.opts} | {"--help", "--debug"}
        assert command is not get_command(app) or not words or words[0].startswith("-") or words[0].isupper()
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, page


def test_a_call_that_does_not_exist_is_found():
    for wrong in (["chekc", "a.yaml"], ["check"], ["plan", "--half"], ["tasks", "list"]):
        with pytest.raises(Exception, match=r"No such|Missing|unexpected"):
            parsed(wrong)


def study_of(content: dict[str, Any], page: Path) -> Study:
    """A whole study, or a fragment put into the page's first whole one."""
    if not content.keys() >= WHOLE.keys() - {"recipes", "seeds"}:
        own = [loaded(block) for block in BLOCKS if block.page == page and block.kind == "yaml"]
        whole = {**WHOLE, **next((study for study in own if {"name", "tasks"} <= study.keys()), {})}
        if content.keys() & {"tasks", "decodings", "judges"}:
            whole.pop("analysis", None)  # its contrast names what the fragment replaces
        content = {**whole, **content}
    return parse_study(content, source=page.name, folder=page.parent)


def loaded(block: Block) -> dict[str, Any]:
    content = yaml.safe_load(block.text)
    assert isinstance(content, dict), block.where
    return content


@pytest.mark.parametrize("block", of_kind("yaml"))
def test_every_yaml_block_is_a_study_a_rubric_or_a_workflow(block: Block):
    content = loaded(block)
    if "construct" in content:
        parse_rubric(block.text, source=block.where)
    elif "jobs" in content:
        assert block.commands, block.where
    else:
        unknown = content.keys() - Study.model_fields.keys()
        assert not unknown, f"{block.where}: {unknown} are no keys of a study file"
        study_of(content, block.page)


@pytest.mark.parametrize("block", of_kind("python"))
def test_every_python_block_imports_what_there_is(block: Block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names), block.where
        elif isinstance(node, ast.Import):
            assert all(importlib.import_module(alias.name) for alias in node.names)


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda file: file.name)
def test_every_example_is_a_study_file(file: Path):
    assert read_study(file).name
