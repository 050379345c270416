"""From a YAML file to a study; file names in it are taken relative to its folder."""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from aftertune.errors import StudyError
from aftertune.study.engines import SERVING, ReplaySpec
from aftertune.study.faults import fault
from aftertune.study.grammar import AnalysisSpec, Study
from aftertune.study.recipes import DataSpec, FinishedRecipe, Recipe, TuneRecipe
from aftertune.study.variations import changed_content, refuse_one_level, refuse_same, settled
from aftertune.study.yaml_text import load_yaml

_GRAMMAR = "mend these keys; `aftertune schema` prints the whole grammar"
_MERGE = "tag:yaml.org,2002:merge"


def read_study(path: Path) -> Study:
    """Read and check a study file; file names in it are taken relative to its folder.

    Raises:
        StudyError: with every fault found, one a line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StudyError(
            f"cannot read the study file {path}: {error.strerror}", "give the path of a YAML file"
        ) from error
    except UnicodeDecodeError as error:
        raise StudyError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}", "save it as UTF-8"
        ) from error
    try:
        content = load_yaml(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise StudyError(f"{path} is not YAML: {error}", "mend the line named above") from error
    if content is None:
        raise StudyError(f"{path} is empty", "write a study; `aftertune schema` prints the grammar")
    return parse_study(content, source=str(path), folder=path.resolve().parent)


def parse_study(content: object, *, source: str, folder: Path) -> Study:
    """Check the content of a study file; `source` is named in errors, `folder` resolves relative paths.

    Raises:
        StudyError: with every fault found, one a line.
    """
    if not isinstance(content, dict):
        raise StudyError(f"{source}: expected keys and values, got {type(content).__name__}", _GRAMMAR)
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        # A list whose entries are wrong also counts as too short; the entries' own faults say it.
        found = [e for e in error.errors(include_url=False) if e["type"] != "too_short" or not e["input"]]
        faults = [fault(entry, content) for entry in found]
        listed = f" {faults[0]}" if len(faults) == 1 else "\n  - " + "\n  - ".join(faults)
        raise StudyError(f"{source}:{listed}", _GRAMMAR) from error
    return _with_variations(_absolute(study, folder), source=source, folder=folder)


def _with_variations(study: Study, *, source: str, folder: Path) -> Study:
    """The study with every variation applied once, so that a wrong one is found now."""
    variants = {
        variation.name: parse_study(
            changed_content(study, variation), source=f"{source}: variation {variation.name}", folder=folder
        )
        for variation in study.variations
    }
    refuse_same(study, variants, source=source)
    refuse_one_level(study, variants, source=source)
    variations = tuple(settled(variation, variants[variation.name]) for variation in study.variations)
    return study.model_copy(update={"variations": variations})


def analysis_spec(given: Mapping[str, Any]) -> AnalysisSpec:
    """The part `analysis` of a study from values given elsewhere, with the same errors.

    Raises:
        StudyError: with every fault found, one a line.
    """
    try:
        return AnalysisSpec.model_validate(dict(given))
    except ValidationError as error:
        entries = [{**e, "loc": ("analysis", *e["loc"])} for e in error.errors(include_url=False)]
        faults = [fault(entry, {}).removeprefix("analysis.") for entry in entries]
        remedy = (
            "level, margin and max_missing are shares (0.05 is five points); "
            "primary names task, decoding, judge, metric and target"
        )
        raise StudyError("; ".join(faults), remedy) from error


def study_schema() -> dict[str, Any]:
    """The JSON Schema of a study file, for editors."""
    schema = Study.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    # A task and a judge may be written as the name alone.
    for key in ("tasks", "judges"):
        entries = schema["properties"][key]
        entries["items"] = {"anyOf": [{"type": "string"}, entries["items"]]}
    return schema


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice (PyYAML keeps the last one silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, its keys compared as the values that they mean."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = None if key_node.tag == _MERGE else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key_node.tag == _MERGE:
                continue  # the loader itself merges, and refuses a list as key
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# PyYAML's numbers are those of YAML 1.1, where 5e-4 is text; everybody writes a learning rate so.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _absolute(study: Study, folder: Path) -> Study:
    recipes = {name: _absolute_recipe(recipe, folder) for name, recipe in study.recipes.items()}
    tasks = tuple(
        task.model_copy(
            update={
                key: _resolve(path, folder)
                for key, path in (("file", task.file), ("data_dir", task.data_dir))
                if path is not None
            }
        )
        for task in study.tasks
    )
    judges = tuple(
        judge.model_copy(
            update={
                key: _resolve(path, folder)
                for key, path in (("weights", judge.weights), ("rubric", judge.rubric))
                if path is not None
            }
        )
        for judge in study.judges
    )
    model = study.model
    engine = study.engine
    if not isinstance(engine, SERVING):  # they know a model by name, whatever it looks like
        model = _model(model, folder)
    if isinstance(engine, ReplaySpec):
        engine = engine.model_copy(update={"table": _resolve(engine.table, folder)})
    analysis = study.analysis
    if analysis.calibration is not None:
        path = _resolve(analysis.calibration, folder)
        analysis = analysis.model_copy(update={"calibration": path})
    changed = {"recipes": recipes, "tasks": tasks, "judges": judges, "model": model, "analysis": analysis}
    return study.model_copy(update={**changed, "engine": engine})


def _absolute_recipe(recipe: Recipe, folder: Path) -> Recipe:
    if isinstance(recipe, TuneRecipe):
        return recipe.model_copy(update={"data": _data(recipe.data, folder)})
    if isinstance(recipe, FinishedRecipe):
        paths = tuple(_model(name, folder) for name in recipe.checkpoints)
        return recipe.model_copy(update={"checkpoints": paths})
    return recipe


def _model(name: str, folder: Path) -> str:
    """A directory made absolute; anything else is a packaged name or the hub's."""
    there = name.startswith((".", "/", "~")) or (folder / name).is_dir()
    return _resolve(name, folder) if there else name


def _data(data: str | DataSpec, folder: Path) -> str | DataSpec:
    """A path made absolute; a word without slash, tilde and ending is the name of a known set."""
    if isinstance(data, DataSpec):
        return data if data.path is None else data.model_copy(update={"path": _resolve(data.path, folder)})
    return data if re.fullmatch(r"[A-Za-z0-9_-]+", data) else _resolve(data, folder)


def _resolve(name: str, folder: Path) -> str:
    return name if name.startswith("packaged:") else str((folder / Path(name).expanduser()).resolve())
