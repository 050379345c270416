"""The study file: its strict grammar, and errors that name the key, the value and the remedy.

`read_study` is the one door. What it returns is plain frozen data; relative paths in it are already absolute.
"""

from aftertune.study.engines import SERVING, GenerateSpec, OpenAISpec, ReplaySpec, TransformersSpec, VllmSpec
from aftertune.study.grammar import AnalysisSpec, Decoding, JudgeSpec, Study, TaskSpec, Variation
from aftertune.study.read import analysis_spec, parse_study, read_study, study_schema
from aftertune.study.recipes import (
    ALL_VARY,
    Columns,
    CommandRecipe,
    DataSpec,
    FinishedRecipe,
    Recipe,
    ServedRecipe,
    TuneRecipe,
    Vary,
    finished_names,
)
from aftertune.study.variations import same_checkpoints, variants_of

__all__ = [
    "ALL_VARY",
    "SERVING",
    "AnalysisSpec",
    "Columns",
    "CommandRecipe",
    "DataSpec",
    "Decoding",
    "FinishedRecipe",
    "GenerateSpec",
    "JudgeSpec",
    "OpenAISpec",
    "Recipe",
    "ReplaySpec",
    "ServedRecipe",
    "Study",
    "TaskSpec",
    "TransformersSpec",
    "TuneRecipe",
    "Variation",
    "Vary",
    "VllmSpec",
    "analysis_spec",
    "finished_names",
    "parse_study",
    "read_study",
    "same_checkpoints",
    "study_schema",
    "variants_of",
]
