"""`aftertune plan`: from assumed variances and from a pilot run, with what a pilot does not know."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner

import stage_runs
from aftertune.analysis import analyze_run
from aftertune.cli import app
from aftertune.commands.plan import plan, plan_lines
from aftertune.commands.plan_options import PlanOptions
from aftertune.errors import DataError, StoreError
from aftertune.records.analysis import Analysis
from aftertune.stats.planning import TYPICAL, Costs, best_split, detectable_difference, half_width
from aftertune.store import RunDirectory


def test_without_a_pilot_typical_values_are_taken_and_hours_are_not_known():
    found = plan(None, PlanOptions())
    assert found.variances == TYPICAL and found.costs is None and found.pessimistic is None
    assert {d.n_items for d in found.designs} == {100} and {d.hours for d in found.designs} == {None}
    for d in found.designs:
        size = {"n_seeds": d.n_seeds, "n_items": d.n_items, "n_repeats": d.n_repeats}
        assert d.half_width == half_width(TYPICAL, **size)
        assert d.detectable == detectable_difference(TYPICAL, **size)
    assert "unknown" in "\n".join(plan_lines(found))


def test_what_is_wanted_is_just_reached():
    options = PlanOptions(wanted=0.04, difference=0.08, seed_sd=0.05, items=60, repeats=2)
    found = plan(None, options)
    assert found.variances.seed == pytest.approx(0.05**2) and found.variances.repeat == TYPICAL.repeat
    n, m = found.seeds_for_width, found.seeds_for_difference
    assert n is not None and m is not None
    widths = [half_width(found.variances, n_seeds=s, n_items=60, n_repeats=2) for s in (n - 1, n)]
    assert widths[0] > 0.04 >= widths[1]
    finds = [detectable_difference(found.variances, n_seeds=s, n_items=60, n_repeats=2) for s in (m - 1, m)]
    assert finds[0] > 0.08 >= finds[1]


def test_a_budget_is_split_as_the_statistics_say():
    options = PlanOptions(budget_hours=2, train_s=300, response_s=0.5, items=80)
    found = plan(None, options)
    costs = Costs(300, 0.5)
    assert found.split == best_split(TYPICAL, n_items=80, costs=costs, budget=7200)
    by = {(d.n_seeds, d.n_repeats): d.hours for d in found.designs}
    assert by[5, 3] == pytest.approx(5 * (300 + 80 * 3 * 0.5) / 3600)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (PlanOptions(budget_hours=1), "a budget needs costs"),
        (PlanOptions(seed_sd=4), "the SD of seed is 4"),
        (PlanOptions(wanted=-0.1), "wanted half-width must be positive"),
        (PlanOptions(difference=0.0001, seed_sd=0.3), "needs more than 200 seeds"),
        (PlanOptions(level=1.5), "level"),
        (PlanOptions(budget_hours=0.001, train_s=60, response_s=1), "more than the budget"),
    ],
)
def test_what_cannot_be_planned_is_said(options: PlanOptions, message: str):
    with pytest.raises(DataError, match=message):
        plan(None, options)


@pytest.fixture(scope="module")
def pilot(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    primary = {"task": "mini-harm", "decoding": "sampled", "judge": "refusal-rules"}
    primary |= {"metric": "compliance_rate", "target": "benchmark"}
    study = stage_runs.study_of(tiny_model, seeds=3, analysis={"primary": primary})
    run = stage_runs.run(study, tmp_path_factory.mktemp("pilot") / "run")
    analyze_run(RunDirectory(run))
    return run


def give_variances(run: Path, folder: Path) -> Path:
    """A copy of the run whose recipe has variances: a tiny random model refuses nothing."""
    analysis = Analysis.model_validate_json((run / "analysis.json").read_text())
    primary = analysis.primary
    assert primary is not None
    rate = next(
        r for r in analysis.rates if (r.model, r.decoding, r.metric) == ("chat", "sampled", primary.metric)
    )
    cell = {
        k: getattr(rate, k) for k in ("model", "task", "decoding", "judge", "metric", "higher_is", "note")
    }
    facets = {
        "seed": (0.0016, 0.0004, 0.01),
        "item": (0.1, 0.05, 0.2),
        "seed×item": (0.02, 0, 0.05),
        "repeat": (0.09, 0.05, 0.1),
    }
    components = [
        {
            **cell,
            "facet": facet,
            "variance": v,
            "share": 0.1,
            "ci_low": low,
            "ci_high": high,
            "f": None,
            "p_value": None,
        }
        for facet, (v, low, high) in facets.items()
    ]
    found = json.loads(analysis.model_dump_json(by_alias=True)) | {"components": components}
    copied = folder / "run"
    copied.mkdir()
    for name in ("study.json", "study.yaml", "manifest.json", "checkpoints.json", "requests.parquet"):
        (copied / name).write_bytes((run / name).read_bytes())
    (copied / "responses").symlink_to(run / "responses")
    (copied / "analysis.json").write_text(json.dumps(found))
    return copied


def test_a_pilot_gives_variances_costs_and_a_worse_case(pilot: Path, tmp_path: Path):
    run = give_variances(pilot, tmp_path)
    found = plan(run, PlanOptions())
    assert (found.variances.seed, found.variances.seed_item, found.variances.repeat) == (0.0016, 0.02, 0.09)
    assert found.pessimistic is not None and found.pessimistic.seed == 0.01
    assert {d.n_items for d in found.designs} == {6}
    stages = json.loads((run / "manifest.json").read_text())["stages_s"]
    assert found.costs is not None
    assert found.costs.train == pytest.approx(stages["tune"] / 3)
    n_responses = stage_runs.rows(pilot, "responses").height
    assert found.costs.generate == pytest.approx((stages["generate"] + stages["judge"]) / n_responses)
    assert "upper end of its interval (10.0 points)" in "\n".join(plan_lines(found))
    assumed = plan(run, PlanOptions(seed_sd=0.02))
    assert assumed.pessimistic is None and assumed.variances.seed == pytest.approx(0.0004)


def test_one_draw_cannot_tell_a_seeds_doing_from_chance(pilot: Path, tmp_path: Path):
    run = give_variances(pilot, tmp_path)
    written = json.loads((run / "analysis.json").read_text())
    seed, _, mixed, _ = written["components"]
    written["components"] = [seed, mixed | {"facet": "residual", "variance": 0.11}]
    (run / "analysis.json").write_text(json.dumps(written))
    found = plan(run, PlanOptions())
    assert (found.variances.seed_item, found.variances.repeat) == (0.11, 0.0)


def test_a_pilot_without_a_recipe_or_analysis_is_refused(pilot: Path, tmp_path: Path):
    run = give_variances(pilot, tmp_path)
    with pytest.raises(DataError, match="no recipe 'chet' with several seeds"):
        plan(run, PlanOptions(model="chet"))
    (run / "analysis.json").unlink()
    with pytest.raises(StoreError, match=r"analysis\.json is missing"):
        plan(run, PlanOptions())
    with pytest.raises(StoreError, match="is not a run directory"):
        plan(tmp_path, PlanOptions())


def test_the_command_its_json_and_its_picture(tmp_path: Path):
    picture = tmp_path / "plan.svg"
    said = CliRunner().invoke(app, ["plan", "--half-width", "0.05", "--picture", str(picture)])
    assert said.exit_code == 0 and "for ±5 points: 6 seeds" in said.stdout
    svg = ET.fromstring(picture.read_text("utf-8"))
    label = svg.attrib["aria-label"]
    assert "responses of a recipe" in label and "5 seeds, 3 draws of an item: ±" in label
    written = json.loads(CliRunner().invoke(app, ["plan", "--half-width", "0.05", "--json"]).stdout)
    assert written["seeds_for_width"] == 6 and len(written["designs"]) == 12
