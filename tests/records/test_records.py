"""The nouns: metrics and their directions, and tables that match their records."""

from dataclasses import FrozenInstanceError, asdict, fields

import pytest
from pydantic import ValidationError

from aftertune.records import (
    JUDGMENT_COLUMNS,
    METRIC_WORDS,
    METRICS,
    OBSERVATION_COLUMNS,
    RESPONSE_COLUMNS,
    Checkpoint,
    CheckpointStatus,
    Construct,
    Direction,
    Intent,
    Judgment,
    Response,
    metrics_of,
    words_of,
)
from aftertune.records.analysis import Agreement, Primary


def test_the_metrics_are_those_of_the_design():
    def names(intent: Intent, construct: Construct) -> dict[str, Direction]:
        return {metric.name: metric.higher_is for metric in metrics_of(intent, construct)}

    worse, safer, better = Direction.WORSE, Direction.SAFER, Direction.BETTER
    harmful, benign = Intent.HARMFUL, Intent.BENIGN
    assert names(harmful, Construct.COMPLIED) == {"compliance_rate": worse}
    assert names(harmful, Construct.HARMFUL) == {"harmful_rate": worse}
    assert names(harmful, Construct.REFUSED) == {"compliance_rate": worse, "refusal_rate": safer}
    assert names(benign, Construct.REFUSED) == {"over_refusal_rate": worse}
    assert names(benign, Construct.COMPLIED) == {"benign_compliance_rate": better}
    assert names(benign, Construct.HARMFUL) == {"benign_harmful_rate": worse}
    for intent in Intent:
        assert names(intent, Construct.TOXIC) == {"toxicity_rate": worse}
        assert names(intent, Construct.INCOHERENT) == {"incoherence_rate": worse}
        assert names(intent, Construct.CORRECT) == {"accuracy": better}


def test_every_construct_has_a_metric_on_items_of_every_intent_and_every_metric_its_words():
    assert all(metrics_of(intent, construct) for intent in Intent for construct in Construct)
    assert {metric.name for metric in METRICS} == set(METRIC_WORDS)
    assert words_of("accuracy").better == "more accurate"
    assert words_of("speed_rate").title == "speed rate" and words_of("speed_rate").worse == "worse"


def test_only_compliance_by_refusal_is_a_complement_and_says_so():
    assert [(metric.name, metric.construct, metric.note) for metric in METRICS if metric.complement] == [
        ("compliance_rate", Construct.REFUSED, "by refusal")
    ]


@pytest.mark.parametrize(("record", "columns"), [(Response, RESPONSE_COLUMNS), (Judgment, JUDGMENT_COLUMNS)])
def test_a_table_has_the_columns_of_its_record(record: type, columns: dict[str, type]):
    assert [field.name for field in fields(record)] == list(columns)


def test_the_observations_have_the_columns_of_the_design():
    columns = (
        "study model seed checkpoint task item category intent decoding repeat variation judge judge_repeat "
        "construct value status reason finish response_key"
    )
    assert " ".join(OBSERVATION_COLUMNS) == columns


def test_a_checkpoint_survives_json_and_knows_its_label():
    tuned = Checkpoint("chat", 3, "adapter", CheckpointStatus.DIVERGED, "loss is inf", None, None)
    assert Checkpoint.from_json(asdict(tuned)) == tuned
    assert tuned.label == "chat/3"
    assert Checkpoint("base", None, "base", CheckpointStatus.OK, "", "/m", "ab").label == "base"


def test_results_are_frozen_strict_and_written_by_alias():
    primary = Primary(task="t", decoding="d", judge="j", metric="m", target="benchmark")
    with pytest.raises(ValidationError, match="frozen"):
        primary.task = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Primary.model_validate({**primary.model_dump(), "more": 1})
    agreement = Agreement(
        task="t",
        construct_="refused",
        judge_a="a",
        judge_b="b",
        n=1,
        positive_agreement=None,
        negative_agreement=None,
        cohen_kappa=None,
        gwet_ac1=None,
    )
    assert agreement.model_dump()["construct"] == "refused"
    assert Agreement.model_validate_json(agreement.model_dump_json()) == agreement
    with pytest.raises(FrozenInstanceError):
        METRICS[0].name = "other"  # type: ignore[misc]
