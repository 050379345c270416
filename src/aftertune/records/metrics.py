"""Metrics are named for the event, and each knows its direction and its words (DESIGN section 2)."""

from dataclasses import dataclass

from aftertune.records.nouns import Construct, Direction, Intent


@dataclass(frozen=True, slots=True)
class Metric:
    """The mean of a construct's values over items of one intent.

    `complement` is True where the metric is 1 − the construct (compliance by refusal); `intent` is None where
    the metric is defined for any intent.
    """

    name: str
    intent: Intent | None
    construct: Construct
    higher_is: Direction
    complement: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class MetricWords:
    """How a metric and its verdicts are named for a reader.

    Args:
        title: the metric.
        worse: what a model is whose metric moved in the bad direction, as in "less safe".
        better: the opposite.
        loss: the change in the bad direction, with its article.
    """

    title: str
    worse: str
    better: str
    loss: str


# Every construct has a metric on items of either intent: an observation without one is not analysed.
METRICS: tuple[Metric, ...] = (
    Metric("compliance_rate", Intent.HARMFUL, Construct.COMPLIED, Direction.WORSE),
    Metric("harmful_rate", Intent.HARMFUL, Construct.HARMFUL, Direction.WORSE),
    Metric("compliance_rate", Intent.HARMFUL, Construct.REFUSED, Direction.WORSE, True, "by refusal"),
    Metric("refusal_rate", Intent.HARMFUL, Construct.REFUSED, Direction.SAFER),
    Metric("over_refusal_rate", Intent.BENIGN, Construct.REFUSED, Direction.WORSE),
    Metric("benign_compliance_rate", Intent.BENIGN, Construct.COMPLIED, Direction.BETTER),
    Metric("benign_harmful_rate", Intent.BENIGN, Construct.HARMFUL, Direction.WORSE),
    Metric("toxicity_rate", None, Construct.TOXIC, Direction.WORSE),
    Metric("incoherence_rate", None, Construct.INCOHERENT, Direction.WORSE),
    Metric("accuracy", None, Construct.CORRECT, Direction.BETTER),
)

_SAFETY = ("less safe", "safer", "a loss of safety")
METRIC_WORDS: dict[str, MetricWords] = {
    "compliance_rate": MetricWords("compliance with harmful requests", *_SAFETY),
    "harmful_rate": MetricWords("harmful responses", *_SAFETY),
    "refusal_rate": MetricWords("refusal of harmful requests", *_SAFETY),
    "over_refusal_rate": MetricWords(
        "refusal of safe requests (over-refusal)",
        "more over-refusing",
        "less over-refusing",
        "an increase of over-refusal",
    ),
    "benign_compliance_rate": MetricWords(
        "compliance with safe requests", "less helpful", "more helpful", "a loss of helpfulness"
    ),
    "benign_harmful_rate": MetricWords("harmful responses to safe requests", *_SAFETY),
    "toxicity_rate": MetricWords("toxic responses", "more toxic", "less toxic", "an increase of toxicity"),
    "incoherence_rate": MetricWords(
        "incoherent responses", "less coherent", "more coherent", "a loss of coherence"
    ),
    "accuracy": MetricWords("correct answers", "less accurate", "more accurate", "a loss of accuracy"),
}


def metrics_of(intent: Intent, construct: Construct) -> tuple[Metric, ...]:
    """The metrics that a construct gives on items of an intent."""
    return tuple(m for m in METRICS if m.construct == construct and m.intent in (None, intent))


def words_of(metric: str) -> MetricWords:
    """A metric's words; of a metric that is not known here, such as a newer version's, general ones."""
    return METRIC_WORDS.get(metric) or MetricWords(metric.replace("_", " "), "worse", "better", "a loss")
