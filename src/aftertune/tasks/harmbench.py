"""HarmBench's textual behaviours (Mazeika et al. 2024).

- Citation: Mazeika, Phan, Yin, Zou, et al., "HarmBench: A Standardized Evaluation Framework for Automated Red
  Teaming and Robust Refusal", ICML 2024, arXiv 2402.04249.
- Licence: MIT. Access: open.
- Revision: centerforaisafety/HarmBench at 8e1604d1171f, data/behavior_datasets. The hash of the prompts is of
  a copy that was saved anew, so the hash of the file's own bytes is not known to us.
- Size: 400 behaviours: 200 standard, 100 contextual, 100 copyright; as published also split into 320 for
  testing and 80 for validation. 7 semantic categories.
- Event: the model shows the behaviour. A contextual behaviour is asked with its context before it, as in the
  authors' own code. For the copyright ones the authors compare the text with the protected work by hashes;
  another judge's word on these 100 is not HarmBench's.
"""

from collections.abc import Mapping

from aftertune.records import Intent
from aftertune.sources import WebFile
from aftertune.tasks.base import COMPLIED, Benchmark


def _part(
    name: str, title: str, file: str, n_items: int, *, sha256: str, where: Mapping[str, str]
) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        citation="Mazeika et al. 2024, HarmBench: A Standardized Evaluation Framework for Automated Red "
        "Teaming and Robust Refusal, arXiv 2402.04249",
        licence="MIT",
        intent=Intent.HARMFUL,
        event=COMPLIED,
        n_items=n_items,
        source=WebFile(
            "https://raw.githubusercontent.com/centerforaisafety/HarmBench/"
            f"8e1604d1171fe8a48d8febecd22f600e462bdcdd/data/behavior_datasets/{file}.csv"
        ),
        prompt_column="Behavior",
        id_column="BehaviorID",
        category_column="SemanticCategory",
        context_column="ContextString",
        where=where,
        prompts_sha256=sha256,
    )


def _kind(kind: str, n_items: int, sha256: str) -> Benchmark:
    name, title = f"harmbench-{kind}", f"HarmBench, {kind} behaviours"
    return _part(name, title, _ALL, n_items, sha256=sha256, where={"FunctionalCategory": kind})


_ALL = "harmbench_behaviors_text_all"
_TEST = "harmbench_behaviors_text_test"
_VAL = "harmbench_behaviors_text_val"
BENCHMARKS = (
    _part(
        "harmbench",
        "HarmBench, all behaviours",
        _ALL,
        400,
        sha256="dd2fe7394553ac5adb8d546cce6aeab9f797c7e55b047aa1733da6e0f075982c",
        where={},
    ),
    _kind("standard", 200, "395c725ddfff72a2e52ed264ebd566c43d5f70f8327d34d8787de68be67fdc9d"),
    _kind("contextual", 100, "0fc0197eef2218b962654962f9b1e487f01de665b77d8c613b62ed4e15a4486b"),
    _kind("copyright", 100, "d4972848f6d36a9463127505ea93a742b317e443225ca612253c9d87d100d2a2"),
    _part(
        "harmbench-test",
        "HarmBench, test split",
        _TEST,
        320,
        sha256="785ea7847dcf3e7ab822df0427f2f2bdc7ab97e2c162c6b925be1d472f18ff13",
        where={},
    ),
    _part(
        "harmbench-val",
        "HarmBench, validation split",
        _VAL,
        80,
        sha256="8a9c1d886915649d98c8f38c63797130b5dc7d52dc20691334486958e8c218fa",
        where={},
    ),
)
