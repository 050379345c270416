"""The analyze stage: observations in, `Analysis` out. It never touches a model."""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from aftertune.analysis.cells import MetricCells, Settings, build_cells, describe_design, without_metric
from aftertune.analysis.controls import Halves, compare_halves, control_warnings, split_halves
from aftertune.analysis.differences import (
    compare_categories,
    count_signs,
    estimate_differences,
    pairs_with_base,
)
from aftertune.analysis.judges import (
    Corrections,
    correct_rates,
    correction_warnings,
    find_rank_flips,
    find_splits,
    measure_agreement,
)
from aftertune.analysis.rates import estimate_rate
from aftertune.analysis.single_runs import (
    check_conclusions,
    check_rankings,
    rank_single_runs,
    simulate_single_runs,
)
from aftertune.analysis.table import Observations, normalise_table
from aftertune.analysis.variance import (
    count_flips,
    estimate_components,
    estimate_facet_components,
    measure_category_consistency,
    measure_consistency,
    measure_movements,
)
from aftertune.analysis.variations import (
    Varied,
    check_numerics,
    estimate_effects,
    estimate_seed_sources,
    varied_cells,
)
from aftertune.analysis.warnings import cell_warnings, group_warnings, study_warnings, variation_warnings
from aftertune.errors import DataError, nearest
from aftertune.records import BASELINE
from aftertune.records.analysis import (
    SCHEMA_VERSION,
    Analysis,
    CategoryDifference,
    Component,
    Consistency,
    Corrected,
    Difference,
    Flip,
    Rate,
    Setting,
    Warning,
)
from aftertune.records.variations import CategoryConsistency, SingleRunRanking, SingleRuns
from aftertune.sources.columns import UNNAMED, TableSpec
from aftertune.study import AnalysisSpec

_BASELINE = ("", BASELINE)


def analyze(
    observations: Any,
    *,
    study: str = "unnamed",
    spec: AnalysisSpec | None = None,
    table: TableSpec | None = None,
    deterministic_decodings: frozenset[str] = frozenset(),
) -> Analysis:
    """Everything that the report prints, from a table of observations of any design (METHODS section 3).

    Args:
        observations: one row an observation; model, item and value at least. A polars or pandas frame, or
            whatever else `polars.DataFrame` takes.
        study: the study's name.
        spec: level, margin, max_missing and the primary contrast. What it sets counts as chosen after the run
            (`post_hoc`): only `analyze_run` knows what a study fixed beforehand.
        table: which column is which, which model is the base, and what the table does not say.
        deterministic_decodings: names of decodings with temperature 0 under exact numerics, whose checkpoints
            have no sampling variance of their own on the benchmark.

    Raises:
        DataError: for a table that cannot be read without guessing.
    """
    if not isinstance(observations, pl.DataFrame):
        observations = pl.DataFrame(observations)
    found = normalise_table(observations, table)
    return analyze_observations(
        found, study=study, spec=spec or AnalysisSpec(), deterministic=deterministic_decodings, fixed=False
    )


def analyze_observations(
    observations: Observations,
    *,
    study: str,
    spec: AnalysisSpec,
    deterministic: frozenset[str] = frozenset(),
    fixed: bool,
    corrections: Corrections | None = None,
    varied: tuple[Varied, ...] = (),
) -> Analysis:
    """`analyze` for a table that has been checked; `fixed` says that a study wrote `spec` before its run.

    `varied` are the study's variations; those that a table alone names are taken for design.
    """
    frame, others = _baseline(observations.frame)
    varied, unknown = _known(varied, others)
    if not fixed:
        spec = _named_by_table(spec, frame)
    settings = _settings(spec, observations.base, deterministic, fixed=fixed)
    found = _Found(corrections=corrections or Corrections())
    also = frozenset({spec.primary.metric}) if spec.primary else frozenset[str]()
    for group in build_cells(frame, also=also):
        found.add(group, settings)
    no_metric = _without_metric(frame, bool(found.rates))
    variations = [
        varied_cells(observations.frame, frame, found.contrasted, v, settings, also) for v in varied
    ]
    effects = estimate_effects(variations, settings)
    if spec.primary is not None:
        _check_primary(found, settings)
    controls = compare_halves(found.halves, settings)
    warnings = (
        *study_warnings(found.rates, settings.base),
        *observations.warnings,
        *unknown,
        *no_metric,
        *variation_warnings(variations, observations.frame, _n_seeds(found.rates)),
        *found.warnings,
        *control_warnings(controls),
        *correction_warnings(found.corrected, found.corrections),
    )
    return Analysis(
        schema_version=SCHEMA_VERSION,
        study=study,
        level=settings.level,
        margin=settings.margin,
        max_missing=settings.max_missing,
        primary=settings.primary,
        rates=tuple(found.rates),
        differences=tuple(found.differences),
        components=(
            *found.components,
            *estimate_facet_components(found.contrasted, settings, "judge"),
            *estimate_facet_components(found.contrasted, settings, "decoding"),
        ),
        consistency=tuple(found.consistency),
        flips=tuple(found.flips),
        agreement=tuple(measure_agreement(frame)),
        warnings=tuple(dict.fromkeys(warnings)),
        base=settings.base,
        post_hoc=settings.post_hoc,
        design=describe_design(found.rates, settings.base) if found.rates else None,
        categories=tuple(found.categories),
        signs=tuple(count_signs(found.differences, settings.base)),
        controls=tuple(controls),
        corrected=tuple(found.corrected),
        rank_flips=tuple(find_rank_flips(found.rates, found.differences)),
        splits=tuple(find_splits(frame)),
        variation_effects=tuple(effects),
        numerics_checks=tuple(check_numerics(variations)),
        survivals=tuple(check_conclusions(variations, settings)),
        ranking_survivals=tuple(check_rankings(variations, effects, settings)),
        single_runs=tuple(found.single_runs),
        single_run_rankings=tuple(found.single_run_rankings),
        seed_sources=tuple(estimate_seed_sources(variations, settings)),
        movements=tuple(measure_movements(found.groups, found.rates, found.consistency, effects)),
        category_consistency=tuple(found.category_consistency),
    )


def analysis_schema() -> dict[str, Any]:
    """The JSON Schema of analysis.json, as it stands in docs/analysis.schema.json."""
    schema = Analysis.model_json_schema(mode="serialization", by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


@dataclass
class _Found:
    """What is gathered cell by cell."""

    corrections: Corrections
    rates: list[Rate] = field(default_factory=list[Rate])
    corrected: list[Corrected] = field(default_factory=list[Corrected])
    differences: list[Difference] = field(default_factory=list[Difference])
    categories: list[CategoryDifference] = field(default_factory=list[CategoryDifference])
    components: list[Component] = field(default_factory=list[Component])
    consistency: list[Consistency] = field(default_factory=list[Consistency])
    flips: list[Flip] = field(default_factory=list[Flip])
    halves: list[Halves] = field(default_factory=list[Halves])
    groups: list[MetricCells] = field(default_factory=list[MetricCells])
    contrasted: list[MetricCells] = field(default_factory=list[MetricCells])
    single_runs: list[SingleRuns] = field(default_factory=list[SingleRuns])
    single_run_rankings: list[SingleRunRanking] = field(default_factory=list[SingleRunRanking])
    category_consistency: list[CategoryConsistency] = field(default_factory=list[CategoryConsistency])
    warnings: list[Warning] = field(default_factory=list[Warning])

    def add(self, group: MetricCells, settings: Settings) -> None:
        """All results of one task × decoding × judge × metric; of a mirror image its rates alone."""
        of_group = {name: estimate_rate(cell, settings) for name, cell in group.cells.items()}
        self.groups.append(group)
        self.rates += of_group.values()
        self.corrected += correct_rates(group, of_group, self.corrections, settings)
        if not group.contrasted:
            return
        self.contrasted.append(group)
        pairs = pairs_with_base(group, settings)
        differences = estimate_differences(pairs, group, settings)
        self.differences += differences
        self.single_runs += simulate_single_runs(group, differences, settings)
        self.single_run_rankings += rank_single_runs(group, settings)
        self.categories += compare_categories(pairs, settings)
        self.flips += count_flips(pairs, settings)
        self.halves += split_halves(group, settings)
        self.warnings += group_warnings(group, settings)
        for name, cell in group.cells.items():
            self.components += estimate_components(cell, settings)
            self.consistency += measure_consistency(cell, settings)
            self.category_consistency += measure_category_consistency(cell, settings)
            self.warnings += cell_warnings(cell, of_group[name], settings)


def _settings(
    spec: AnalysisSpec, base: str | None, deterministic: frozenset[str], *, fixed: bool
) -> Settings:
    known: tuple[Setting, ...] = ("level", "margin", "max_missing", "primary")
    given: tuple[Setting, ...] = tuple(n for n in known if n in spec.model_fields_set and not fixed)
    return Settings(
        level=spec.level,
        margin=spec.margin,
        max_missing=spec.max_missing,
        deterministic=frozenset(deterministic),
        base=base,
        primary=spec.primary,
        post_hoc=given,
    )


def _named_by_table(spec: AnalysisSpec, frame: pl.DataFrame) -> AnalysisSpec:
    """The settings with the table's only task, decoding and judge where the primary contrast names none."""
    if spec.primary is None:
        return spec
    unnamed = [name for name in ("task", "decoding", "judge") if getattr(spec.primary, name) == UNNAMED]
    only = {name: str(frame[name][0]) for name in unnamed if frame[name].n_unique() == 1}
    return spec.model_copy(update={"primary": spec.primary.model_copy(update=only)})


def _check_primary(found: _Found, settings: Settings) -> None:
    """A primary contrast that names no cell of the table would leave the headline empty."""
    if settings.post_hoc and "primary" in settings.post_hoc and settings.primary is not None:
        for name in ("task", "decoding", "judge", "metric"):
            known = dict.fromkeys(str(getattr(rate, name)) for rate in found.rates)
            got = getattr(settings.primary, name)
            if got not in known:
                raise DataError(f"the primary contrast's {name} is {got!r}", nearest(got, known))


def _baseline(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The rows of the baseline, and the variations' names; one variation alone is a baseline too."""
    names = frame["variation"].unique().cast(pl.String).sort().to_list()
    if len(names) == 1:
        return frame, []
    kept = frame.filter(pl.col("variation").cast(pl.String).is_in(_BASELINE))
    others = [name for name in names if name not in _BASELINE]
    if kept.is_empty():
        raise DataError(
            f"the table has the variations {', '.join(others)} and no baseline",
            "leave `variation` empty for the baseline",
        )
    if kept["variation"].n_unique() > 1:
        raise DataError("the baseline is written both as '' and as 'baseline'", "choose one")
    return kept, others


def _without_metric(frame: pl.DataFrame, any_rates: bool) -> list[Warning]:
    """A warning for the rows that no number is made of.

    Raises:
        DataError: there is no other row.
    """
    found = without_metric(frame)
    what = ", ".join(f"{n} of {construct} on {intent} items" for (intent, construct), n in found.items())
    remedy = "say with --construct and --intent what the values judge, and what the items ask for"
    if not any_rates:
        raise DataError(f"no observation has a metric: {what or 'there is none'}", remedy)
    text = f"{sum(found.values())} of {frame.height} observations have no metric and are in no number: {what}"
    return [Warning(code="no_metric", text=text, remedy=remedy)] if found else []


def _known(varied: tuple[Varied, ...], names: list[str]) -> tuple[tuple[Varied, ...], list[Warning]]:
    """The variations of the table; those that no study describes are of class design, with a warning."""
    described = {v.name for v in varied}
    others = [name for name in names if name not in described]
    if not others:
        return varied, []
    text = (
        f"no study says what the variations {', '.join(others)} are: they count as design, which may matter"
    )
    remedy = "write them as variations of a study, with their class"
    warning = Warning(code="variations_of_no_class", text=text, remedy=remedy)
    return (*varied, *(Varied(name, "design") for name in others)), [warning]


def _n_seeds(rates: list[Rate]) -> int:
    return max((rate.n_seeds for rate in rates), default=0)
