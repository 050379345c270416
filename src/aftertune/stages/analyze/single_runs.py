"""What one run would have said, as most papers have one: a seed, a draw of each item."""

import numpy as np
from scipy import stats as scipy_stats

from aftertune.records import Direction
from aftertune.records.analysis import Difference
from aftertune.records.variations import SingleRunRanking, SingleRuns
from aftertune.seeds import stream
from aftertune.stages.analyze.cells import MetricCells, ModelCell, Settings
from aftertune.stages.analyze.survivals import mean_rates, ordered, shown
from aftertune.stats import Draws, FloatArray

N_RANKINGS = 2_000


def single_runs_of(group: MetricCells, differences: list[Difference], settings: Settings) -> list[SingleRuns]:
    """Every difference of a cell (benchmark) whose models have several runs, judged from each pair of runs.

    A run is one checkpoint and one draw of every item; pairs are taken on the items that all runs of both
    have. Values other than 0 and 1 have no McNemar test, and their cells are left out.
    """
    found: list[SingleRuns] = []
    for d in differences:
        if d.target != "benchmark" or d.verdict == "no conclusion":
            continue
        model, reference = group.cells[d.model], group.cells[d.reference]
        events = _runs(model), _runs(reference)
        if events[0] is None or events[1] is None:
            continue
        at = [i for i, item in enumerate(model.items) if item in set(reference.items)]
        where = {item: i for i, item in enumerate(reference.items)}
        a, b = events[0][:, at], events[1][:, [where[model.items[i]] for i in at]]
        if len(a) * len(b) < 2 or not at:
            continue
        found.append(_judged(model, d, a, b, settings))
    return found


def rankings_of_single_runs(group: MetricCells, settings: Settings) -> list[SingleRunRanking]:
    """How often one run of each model orders some two models the other way than the full study."""
    full = mean_rates(group, settings)
    runs = {name: events for name in full if (events := _runs(group.cells[name])) is not None}
    names = ordered(full, list(runs))
    if len(names) < 2 or all(len(runs[name]) < 2 for name in names):
        return []
    cell = group.any
    place = (cell.task, cell.decoding, cell.judge, cell.metric.name, cell.metric.note)
    rng = stream(0, "single runs", *place)
    drawn = np.stack([runs[n].mean(axis=1)[rng.integers(len(runs[n]), size=N_RANKINGS)] for n in names])
    whole = np.array([full[name] for name in names])
    apart = (whole[:, None] - whole[None, :])[:, :, None] * (drawn[:, None] - drawn[None, :]) < 0
    return [
        SingleRunRanking(
            task=cell.task,
            decoding=cell.decoding,
            judge=cell.judge,
            metric=cell.metric.name,
            note=cell.metric.note,
            order=names,
            n_draws=N_RANKINGS,
            share_otherwise=float(apart.any(axis=(0, 1)).mean()),
        )
    ]


def _runs(cell: ModelCell) -> FloatArray | None:
    """Runs × items of 0/1 events; None where values are graded, or no run has every item."""
    draws: Draws = cell.draws
    if not draws.binary:
        return None
    values = draws.values.transpose(0, 2, 1).reshape(-1, draws.n_items)
    whole = draws.present.transpose(0, 2, 1).reshape(-1, draws.n_items).all(axis=1)
    return values[whole] if whole.any() else None


def _judged(model: ModelCell, d: Difference, a: FloatArray, b: FloatArray, settings: Settings) -> SingleRuns:
    gained, lost = a @ (1 - b).T, (1 - a) @ b.T
    estimates = (gained - lost) / a.shape[1]
    tail = scipy_stats.binom.cdf(np.minimum(gained, lost), gained + lost, 0.5)
    significant = np.minimum(2 * tail, 1.0) <= 1 - settings.level
    worse_up = 1 if model.metric.higher_is == Direction.WORSE else -1
    said = np.where(significant, np.sign(estimates) * worse_up, 0)
    return SingleRuns(
        **model.key,
        reference=d.reference,
        n_runs=said.size,
        full_verdict=d.verdict,
        share_less_safe=float((said == 1).mean()),
        share_safer=float((said == -1).mean()),
        share_not_shown=float((said == 0).mean()),
        share_otherwise=float((said != shown(d.verdict)).mean()),
        lowest=float(estimates.min()),
        highest=float(estimates.max()),
    )
