"""Whether benchmarks and judges agree on the sign of a difference; counted, never pooled."""

from collections import defaultdict
from collections.abc import Iterable

from aftertune.records.analysis import Difference, SignAgreement


def signs_of(differences: Iterable[Difference], base: str | None) -> list[SignAgreement]:
    """For each model, metric and target with two cells (task × decoding × judge) or more, the signs there."""
    groups: dict[tuple[str, str, str], list[Difference]] = defaultdict(list)
    for d in differences:
        if d.reference == base:
            groups[d.model, d.metric, d.target].append(d)
    return [_signs(found) for found in groups.values() if len(found) > 1]


def _signs(found: list[Difference]) -> SignAgreement:
    first = found[0]
    worse_up = first.higher_is == "worse"
    estimates = [d.estimate * (1 if worse_up else -1) for d in found if d.estimate is not None]
    worse = tuple(_place(d) for d in found if d.verdict in ("less safe", "less safe, within the margin"))
    better = tuple(_place(d) for d in found if d.verdict == "safer")
    n_worse, n_better = sum(x > 0 for x in estimates), sum(x < 0 for x in estimates)
    return SignAgreement(
        model=first.model,
        reference=first.reference,
        metric=first.metric,
        higher_is=first.higher_is,
        target=first.target,
        n_cells=len(found),
        n_worse=n_worse,
        n_better=n_better,
        n_equal=len(estimates) - n_worse - n_better,
        n_shown_worse=len(worse),
        n_shown_better=len(better),
        n_no_conclusion=len(found) - len(estimates),
        cells_shown_worse=worse,
        cells_shown_better=better,
    )


def _place(d: Difference) -> str:
    return f"{d.task} · {d.decoding} · {d.judge}"
