"""The tables behind the first ones: checkpoints, components, repeats, flips, judges, coverage."""

from aftertune.records.analysis import Analysis, Flip
from aftertune.report import words
from aftertune.report.tables import Table


def seeds(analysis: Analysis) -> Table:
    """Every checkpoint's own rate."""
    rows = tuple(
        (
            seed.checkpoint,
            words.metric_title(rate),
            rate.task,
            rate.decoding,
            words.percent(seed.estimate),
            f"{seed.n_items} × {seed.n_repeats}",
            f"{seed.n_missing}",
            words.percent(seed.share_length),
        )
        for rate in analysis.rates
        for seed in rate.per_seed
    )
    columns = (
        "checkpoint",
        "metric",
        "task",
        "decoding",
        "rate",
        "items × draws",
        "missing",
        "responses that hit max_tokens",
    )
    return Table("Every checkpoint", columns, rows)


def components(analysis: Analysis) -> Table:
    """Every facet's share of the variance."""
    rows = tuple(
        (
            f"{c.model}, {c.decoding}",
            words.metric_title(c),
            c.task,
            c.judge,
            c.facet,
            words.percent(c.share),
            words.number(c.variance),
            _plain_range(c.ci_low, c.ci_high),
            words.number(c.f),
            words.p_value(c.p_value),
        )
        for c in analysis.components
    )
    columns = (
        "model, decoding",
        "metric",
        "task",
        "judge",
        "source",
        "share",
        "variance",
        "variance's interval",
        "F",
        "p",
    )
    return Table("Variance components", columns, rows)


def consistency(analysis: Analysis) -> Table:
    """How often repeated draws of one checkpoint disagree."""
    rows = tuple(
        (
            f"{c.checkpoint}, {c.decoding}",
            words.metric_title(c),
            c.task,
            f"{c.n_items} × {c.n_repeats}",
            words.percent(c.pairwise_disagreement),
            words.percent(c.flip_rate),
            words.number(c.fleiss_kappa),
            words.number(c.entropy),
            words.number(c.stability_index),
            words.percent(c.any_event),
            words.percent(c.all_event),
            f"{words.percent(c.minimum)}–{words.percent(c.maximum)}",
            words.percent(c.new_run_in_range),
        )
        for c in analysis.consistency
    )
    columns = (
        "checkpoint, decoding",
        "metric",
        "task",
        "items × draws",
        "pairwise disagreement",
        "items that flip",
        "Fleiss κ",
        "entropy, bits",
        "stability index",
        "any event",
        "every draw an event",
        "min–max of the draws",
        "a new run inside it",
    )
    note = (
        "All but pairwise disagreement and κ depend on the number of draws: compare them at equal draws only."
    )
    return Table("Repeated draws of one checkpoint", columns, rows, note)


def flips(analysis: Analysis) -> list[Table]:
    """Items that changed against the reference: all together, then by category."""
    together = tuple(_flip_row(f) for f in analysis.flips if f.category is None)
    by_category = tuple(_flip_row(f) for f in analysis.flips if f.category is not None)
    columns = ("contrast", "metric", "task", "category", "items", "items one way", "items the other way")
    note = "Items per checkpoint, averaged over seeds and pairs of draws."
    return [
        Table("All items of a task", columns, together, note, main=True),
        Table("By category", columns, by_category, note),
    ]


def agreement(analysis: Analysis) -> Table:
    """Judges of one construct on the same responses."""
    rows = tuple(
        (
            f"{a.judge_a} and {a.judge_b}",
            a.task,
            a.construct_,
            f"{a.n}",
            words.percent(a.positive_agreement),
            words.percent(a.negative_agreement),
            words.number(a.cohen_kappa),
            words.number(a.gwet_ac1),
            words.number(a.krippendorff_alpha),
        )
        for a in analysis.agreement
    )
    columns = (
        "judges",
        "task",
        "construct",
        "responses",
        "positive agreement",
        "negative agreement",
        "Cohen's κ",
        "Gwet's AC1",
        "Krippendorff's α",
    )
    return Table("Agreement between judges", columns, rows)


def coverage(analysis: Analysis) -> Table:
    """What each kind of interval in this report covers, and what it leaves out."""
    seen: dict[tuple[str, str, str, str, str], None] = {}
    for rate in analysis.rates:
        kind = "a recipe's rate" if rate.n_seeds > 1 else "one checkpoint's rate"
        kind = "the base's rate" if rate.model == analysis.base else kind
        for target, found in (("benchmark", rate.benchmark), ("population", rate.population)):
            if found is not None:
                seen[
                    kind, target, words.listed(found.covers), words.listed(found.leaves_out), found.method
                ] = None
    for d in analysis.differences:
        if d.ci_low is not None:
            seen["a difference", d.target, words.listed(d.covers), words.listed(d.leaves_out), d.method] = (
                None
            )
    for c in analysis.consistency:
        i = c.interval
        seen["one checkpoint", "benchmark", words.listed(i.covers), words.listed(i.leaves_out), i.method] = (
            None
        )
    rows = tuple((kind, f"{words.TARGETS[t]} ({t})", cov, out, how) for kind, t, cov, out, how in seen)
    return Table("What each interval covers", ("interval of", "for", "covers", "leaves out", "method"), rows)


def _flip_row(flip: Flip) -> tuple[str, ...]:
    to_event, to_no_event = words.changes(flip.metric)
    return (
        f"{flip.model} against {flip.reference}, {flip.decoding}",
        words.metric_title(flip),
        flip.task,
        flip.category or "all",
        f"{flip.n_items}",
        f"{flip.to_event:.1f} {to_event}",
        f"{flip.to_no_event:.1f} {to_no_event}",
    )


def _plain_range(low: float | None, high: float | None) -> str:
    return words.ABSENT if low is None or high is None else f"[{words.number(low)}, {words.number(high)}]"


def held_out(analysis: Analysis) -> list[Table]:
    """Losses on the recipes' own data; no table where no rows were held out."""
    if not analysis.held_out:
        return []
    rows = tuple(
        (
            loss.recipe,
            _loss(loss.base),
            ", ".join(
                f"{one.seed}: {'none' if one.loss is None else f'{one.loss:.3f}'}" for one in loss.per_seed
            ),
            _signed(loss.difference, loss.ci_low, loss.ci_high),
            f"{loss.n_rows} rows, {loss.n_tokens} tokens",
        )
        for loss in analysis.held_out
    )
    columns = ("recipe", "base", "each seed", "difference", "held out")
    note = (
        "Nats per answer token on rows of the recipe's own data that no seed trained on; lower is better. "
        "The interval is over the seeds, on these rows. It says whether the tuning taught what its data "
        "hold, and nothing of safety."
    )
    return [Table("Loss on the recipe's own data", columns, rows, note)]


def _loss(loss: float | None) -> str:
    return "none" if loss is None else f"{loss:.3f}"


def _signed(difference: float | None, low: float | None, high: float | None) -> str:
    if difference is None:
        return "none"
    interval = "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]"
    return f"{difference:+.3f}{interval}".replace("-", "−")
