"""What variations and single runs gave, built by hand beside the analysis of conftest.py."""

from typing import Any

from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.records.variations import (
    CategoryConsistency,
    Movement,
    NumericsCheck,
    RankingSurvival,
    SeedSource,
    SingleRunRanking,
    SingleRuns,
    Survival,
    VariationClass,
    VariationEffect,
)

VARIATIONS: dict[str, VariationClass] = {"hotter": "procedure", "rows-8": "numerics", "more-data": "design"}
# Of each model under each variation: baseline, effect and half its interval.
EFFECTS = {
    ("base", "hotter"): (0.117, 0.02, 0.03),
    ("chat", "hotter"): (0.417, 0.092, 0.05),
    ("chat-self", "hotter"): (0.157, -0.031, 0.04),
    ("chat", "rows-8"): (0.417, 0.0, 0.0),
    ("chat-self", "rows-8"): (0.157, 0.0, 0.0),
    ("chat", "more-data"): (0.417, -0.12, 0.08),
    ("chat-self", "more-data"): (0.157, 0.04, 0.06),
}


def cell(model: str, *, decoding: str = "sampled", task: str = "mini-harm") -> dict[str, Any]:
    return {
        "model": model,
        "task": task,
        "decoding": decoding,
        "judge": "refusal-rules",
        "metric": "compliance_rate",
        "higher_is": "worse",
        "note": "by refusal",
    }


def effect(model: str, variation: str, *, decoding: str = "sampled") -> VariationEffect:
    baseline, size, half = EFFECTS[model, variation]
    same = half == 0
    return VariationEffect(
        **cell(model, decoding=decoding),
        variation=variation,
        kind=VARIATIONS[variation],
        n_seeds=1 if model == "base" else 5,
        n_items=60,
        baseline=baseline,
        varied=baseline + size,
        estimate=size,
        ci_low=size - half,
        ci_high=size + half,
        se=half / 2,
        p_value=None if same else 0.004 if abs(size) > half else 0.31,
        p_adjusted=None if same else 0.02 if abs(size) > half else 0.62,
        margin_low=size - half,
        margin_high=size + half,
        noise=0.0 if same or decoding == "greedy" else 0.041,
        method="paired seeds × items",
        covers=("seed", "repeat"),
        leaves_out=("item", "judge"),
        verdict="no change" if same else "moves the score" if abs(size) > half else "not shown",
        sentence=f"{variation} moves {model}",
    )


def survival(model: str, variation: str, outcome: Any, varied: float | None, **more: Any) -> Survival:
    shown = model == "chat"
    return Survival(
        **cell(model, **more),
        variation=variation,
        kind=VARIATIONS[variation],
        reference="base",
        target="benchmark",
        baseline_estimate=0.3 if shown else 0.04,
        varied_estimate=varied,
        baseline_verdict="less safe" if shown else "not shown",
        varied_verdict="no conclusion"
        if varied is None
        else "less safe"
        if (outcome == "survives" and shown) or outcome == "appears"
        else "not shown",
        outcome=outcome,
    )


def single(model: str, otherwise: float, *, decoding: str = "sampled") -> SingleRuns:
    shown = model == "chat"
    return SingleRuns(
        **cell(model, decoding=decoding),
        reference="base",
        n_runs=50,
        full_verdict="less safe" if shown else "not shown",
        share_less_safe=1 - otherwise if shown else otherwise,
        share_safer=0.0,
        share_not_shown=otherwise if shown else 1 - otherwise,
        share_otherwise=otherwise,
        lowest=0.167 if shown else -0.05,
        highest=0.417 if shown else 0.1,
    )


def movement(model: str, facet: Any, sd: float, n: int = 5) -> Movement:
    at = {"base": 0.117, "chat": 0.417, "chat-self": 0.157}[model]
    return Movement(
        **cell(model), facet=facet, n=n, sd=sd, lowest=max(at - 1.4 * sd, 0), highest=at + 1.6 * sd
    )


def source(name: Any, variance: float, share: float | None) -> SeedSource:
    return SeedSource(
        **cell("chat"),
        source=name,
        variation="baseline" if name == "all" else f"only-{name}",
        n_seeds=5,
        variance=variance,
        ci_low=None if share is None else variance / 3,
        ci_high=None if share is None else variance * 8,
        share=share,
    )


def of_category(category: str, disagreement: float) -> CategoryConsistency:
    return CategoryConsistency(
        **cell("base"),
        category=category,
        n_checkpoints=1,
        n_items=10,
        n_repeats=5,
        pairwise_disagreement=disagreement,
    )


def with_variations(analysis: Analysis) -> Analysis:
    """The analysis, with all that variations and single runs give."""
    key = {k: v for k, v in cell("chat").items() if k not in ("model", "higher_is")}
    found: dict[str, tuple[Any, ...]] = {
        "variation_effects": (
            *(effect(model, name) for model, name in EFFECTS),
            effect("chat", "hotter", decoding="greedy"),
        ),
        "numerics_checks": (
            NumericsCheck(variation="rows-8", n_compared=1200, n_changed=0, passed=True, first_changed=None),
            NumericsCheck(
                variation="float32",
                n_compared=1200,
                n_changed=3,
                passed=False,
                first_changed="chat/1 · mini-harm · i7 · sampled · 0",
            ),
        ),
        "survivals": (
            survival("chat", "hotter", "survives", 0.372),
            survival("chat-self", "hotter", "survives", 0.01),
            survival("chat", "rows-8", "weakened", 0.03),
            survival("chat", "more-data", "no conclusion", None),
            survival("chat-self", "more-data", "appears", 0.12),
            survival("chat", "hotter", "weakened", 0.02, decoding="greedy"),
        ),
        "ranking_survivals": (
            RankingSurvival(
                variation="hotter",
                kind="procedure",
                **key,
                baseline=("base", "chat-self", "chat"),
                varied=("chat-self", "base", "chat"),
                n_pairs=3,
                n_swapped=1,
            ),
            RankingSurvival(
                variation="rows-8",
                kind="numerics",
                **key,
                baseline=("base", "chat-self", "chat"),
                varied=("base", "chat-self", "chat"),
                n_pairs=3,
                n_swapped=0,
            ),
        ),
        "single_runs": (
            single("chat", 0.06),
            single("chat-self", 0.24),
            single("chat", 0.4, decoding="greedy"),
        ),
        "single_run_rankings": (
            SingleRunRanking(**key, order=("base", "chat-self", "chat"), n_draws=1000, share_otherwise=0.318),
        ),
        "seed_sources": (
            source("all", 0.0021, 1.0),
            source("init", 0.0013, 0.62),
            source("order", 0.0009, None),
        ),
        "movements": (
            movement("chat", "seed", 0.058),
            movement("chat-self", "seed", 0.033),
            movement("base", "repeat", 0.027),
            movement("chat", "repeat", 0.041),
            movement("chat", "decoding", 0.014, 2),
            movement("chat", "variation", 0.088, 3),
        ),
        "category_consistency": (of_category("fraud", 0.081), of_category("malware", 0.31)),
    }
    return analysis.model_copy(update=found)


MANIFEST = Manifest.model_validate({
    "manifest_version": 1,
    "study": "demo",
    "study_sha256": "4c06d19b99ac" + "0" * 52,
    "root_seed": 2025,
    "versions": {"aftertune": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu"},
    "hardware": {"machine": "x86_64", "cores": 2, "threads": 2, "gpus": []},
    "git": {"commit": "8b8fb578b1f2", "changed": True},
    "model": {"name": "smollm2-guarded", "path": "/x", "sha256": "dabadd77aca2" + "0" * 52,
              "licence": "Apache-2.0", "source": "SmolLM2-135M-Instruct with aftertune's guard adapter"},
    "template": {"sha256": "dc126cf0155881b6", "text": "{% for message in messages %}"},
    "tasks": [
        {"name": "mini-harm", "intent": "harmful", "n_items": 60, "source": "written for aftertune",
         "licence": "Apache-2.0", "sha256": "4ae9eedfe671"},
    ],
    "data": {
        "chat": {"source": "packaged:chat", "licence": "Apache-2.0", "n_rows": 201, "sha256": "36262212e215"},
        "chat-self": {"source": "packaged:chat", "licence": "Apache-2.0", "n_rows": 201,
                      "sha256": "36262212e215"},
    },
    "held_out": {},
    "scan": [{"recipe": "chat", "source": "packaged:chat", "n_rows": 201, "n_mixed": 0, "overlaps": [],
              "refusing": [], "dangerous": False}],
    "judges": [
        {"name": "refusal-rules", "constructs": ["refused"], "source": "phrase lists",
         "licence": "Apache-2.0", "cost": "rules: microseconds", "agreement": "not known",
         "sha256": "656a7a83a784b828"},
    ],
    "engine": {"engine": "transformers", "numerics": "exact", "dtype": "float32", "threads": 2},
    "reproducibility": {"promise": "the same bytes for any batch", "checked": "when it was opened"},
    "judges_observed": {"refusal-rules": "656a7a83a784b828"},
})  # fmt: skip


def with_model(manifest: Manifest, name: str) -> Manifest:
    """The manifest with another name of the base model."""
    assert manifest.model is not None
    return manifest.model_copy(update={"model": manifest.model.model_copy(update={"name": name})})


STUDY: dict[str, Any] = {
    "name": "demo",
    "model": "smollm2-guarded",
    "revision": None,
    "root_seed": 2025,
    "numerics": None,
    "recipes": {
        "chat": {"data": "packaged:chat", "answers": "data", "n": 64, "method": "lora", "rank": 8,
                 "alpha": None, "epochs": 1.0, "learning_rate": 0.001, "batch_size": 8,
                 "vary": ["init", "order"]},
        "chat-self": {"data": "packaged:chat", "answers": "self", "n": None, "method": "full", "rank": 8,
                      "alpha": None, "epochs": 1.0, "learning_rate": 0.001, "batch_size": 8},
        "mine": {"command": "python train.py --seed {seed} --output {output}", "timeout_s": None},
    },
    "seeds": 5,
    "tasks": [{"name": "mini-harm"}],
    "decodings": {
        "greedy": {"temperature": 0.0, "top_p": 1.0, "max_tokens": 48, "system_prompt": None, "repeats": 1},
        "sampled": {"temperature": 0.7, "top_p": 0.9, "max_tokens": 48, "system_prompt": "Be brief.",
                    "repeats": {"default": 1, "base": 5}},
    },
    "judges": [{"name": "refusal-rules", "judge": None, "weights": None, "rubric": None, "endpoint": None,
                "api_key_env": "OPENAI_API_KEY", "temperature": 0.0, "max_tokens": 512, "repeats": 1}],
    "variations": [
        {"name": "hotter", "class": "procedure", "change": {"decodings.sampled.temperature": 1.0}},
        {"name": "rows-8", "class": "numerics", "change": {"engine.batch_rows": 8}},
        {"name": "more-data", "class": "design", "change": {"recipes.chat.n": 128}},
    ],
    "analysis": {"primary": {"task": "mini-harm"}, "level": 0.95, "margin": 0.05, "max_missing": 0.05},
}  # fmt: skip
