"""The analysis as CSV: numbers in full, one file per kind of result."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from aftertune.records.analysis import Analysis
from aftertune.report import words

_CELL = "model task decoding judge metric higher_is note"
# CSV file -> columns, as paths into the analysis's records; a dot becomes an underscore.
CSV_COLUMNS: dict[str, str] = {
    "rates": f"{_CELL} estimate n_seeds n_items n_repeats benchmark.ci_low benchmark.ci_high benchmark.se "
    "benchmark.method population.ci_low population.ci_high population.se population.method missing.n "
    "missing.n_observations bounds.low bounds.high spread.sd spread.minimum spread.maximum "
    "spread.prediction_low spread.prediction_high why_no_interval",
    "per_seed": f"{_CELL} seed checkpoint estimate n_items n_repeats n_missing share_length",
    "differences": f"{_CELL} reference target estimate ci_low ci_high se p_value p_adjusted "
    "margin_low margin_high margin method covers leaves_out verdict sentence primary "
    "table.n_neither table.n_gained table.n_lost table.n_both",
    "components": f"{_CELL} facet variance share ci_low ci_high f p_value",
    "consistency": f"{_CELL} checkpoint seed n_items n_repeats pairwise_disagreement flip_rate unanimous "
    "stability_index entropy fleiss_kappa any_event all_event minimum maximum new_run_in_range estimate "
    "interval.ci_low interval.ci_high interval.se interval.method per_repeat",
    "flips": f"{_CELL} reference category n_items to_event to_no_event",
    "categories": f"{_CELL} reference category n_items estimate ci_low ci_high se p_value p_adjusted method "
    "verdict",
    "signs": "model reference metric higher_is target n_cells n_worse n_better n_equal n_shown_worse "
    "n_shown_better n_no_conclusion cells_shown_worse cells_shown_better",
    "controls": f"{_CELL} first second estimate ci_low ci_high se p_value p_adjusted method passed",
    "corrected": f"{_CELL} target method raw raw_ci_low raw_ci_high estimate unclipped ci_low ci_high "
    "error_of n_positive n_negative sensitivity specificity n_unlabelled judgments_weight weak_judge covers "
    "leaves_out why",
    "agreement": "task construct_ judge_a judge_b n positive_agreement negative_agreement cohen_kappa "
    "gwet_ac1 krippendorff_alpha",
    "rank_flips": "task decoding metric note judge_a judge_b model other model_a other_a model_b other_b "
    "shown_a shown_b",
    "variation_effects": f"variation kind {_CELL} n_seeds n_items baseline varied estimate ci_low ci_high se "
    "p_value p_adjusted margin_low margin_high noise method covers leaves_out verdict sentence",
    "numerics_checks": "variation n_compared n_changed passed first_changed",
    "survivals": f"variation kind {_CELL} reference target baseline_estimate varied_estimate "
    "baseline_verdict varied_verdict outcome",
    "ranking_survivals": "variation kind task decoding judge metric note baseline varied n_pairs n_swapped",
    "single_runs": f"{_CELL} reference n_runs full_verdict share_less_safe share_safer share_not_shown "
    "share_otherwise lowest highest",
    "single_run_rankings": "task decoding judge metric note order n_draws share_otherwise",
    "seed_sources": f"{_CELL} source variation n_seeds variance ci_low ci_high share",
    "movements": f"{_CELL} facet n sd lowest highest",
    "category_consistency": f"{_CELL} category n_checkpoints n_items n_repeats pairwise_disagreement",
    "warnings": "code text remedy where",
}


def csv_files(analysis: Analysis) -> dict[str, str]:
    """The CSV files by name, UTF-8 text with a header; an absent value is an empty field."""
    records: dict[str, Iterable[Any]] = {name: getattr(analysis, name, ()) for name in CSV_COLUMNS}
    records["per_seed"] = [
        rate.model_dump() | seed.model_dump() for rate in analysis.rates for seed in rate.per_seed
    ]
    return {name: _csv(records[name], columns.split()) for name, columns in CSV_COLUMNS.items()}


def _csv(records: Iterable[Any], columns: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(column.replace(".", "_") for column in columns)
    writer.writerows([_field(record, column) for column in columns] for record in records)
    return out.getvalue()


def _field(record: Any, column: str) -> Any:
    """The value at a dotted path, empty for an absent record on the way; a verdict in its metric's words."""
    value = record
    if column.endswith("verdict"):
        return words.verdict(record.metric, getattr(record, column))
    for part in column.split("."):
        if value is None:
            return ""
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    if isinstance(value, tuple):
        return ";".join(map(str, value))
    return "" if value is None else value
