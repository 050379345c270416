"""Estimators: arrays in, frozen results out. numpy, scipy, statsmodels and krippendorff only."""

from aftertune.stats.agreement import (
    AgreementTable,
    agreement_table,
    cohen_kappa,
    gwet_ac1,
    negative_agreement,
    positive_agreement,
)
from aftertune.stats.arms import Arm, Target, checkpoint_arm, recipe_arm, recipe_arm_of
from aftertune.stats.bayes_seed import PRIOR_SDS, BayesSeed, half_normal_seed
from aftertune.stats.compare import (
    MARGIN_LEVEL,
    Contrast,
    Paired,
    has_paired_table,
    mcnemar_exact,
    newcombe_paired,
    non_inferiority,
    paired_table,
    recipe_difference,
    tuned_minus_base,
)
from aftertune.stats.consistency import (
    ConsistencySummary,
    all_at_k,
    any_at_k,
    flip_rate,
    pairwise_disagreement,
    stability_index,
    summarize,
    unanimous,
)
from aftertune.stats.crossed import Component, TwoWay, components, fill_additive, two_way
from aftertune.stats.draws import BoolArray, Draws, FloatArray
from aftertune.stats.multiplicity import benjamini_hochberg, holm
from aftertune.stats.rates import RateInterval, effective_n_wilson, t_quantile, wilson

__all__ = [
    "MARGIN_LEVEL",
    "PRIOR_SDS",
    "AgreementTable",
    "Arm",
    "BayesSeed",
    "BoolArray",
    "Component",
    "ConsistencySummary",
    "Contrast",
    "Draws",
    "FloatArray",
    "Paired",
    "RateInterval",
    "Target",
    "TwoWay",
    "agreement_table",
    "all_at_k",
    "any_at_k",
    "benjamini_hochberg",
    "checkpoint_arm",
    "cohen_kappa",
    "components",
    "effective_n_wilson",
    "fill_additive",
    "flip_rate",
    "gwet_ac1",
    "half_normal_seed",
    "has_paired_table",
    "holm",
    "mcnemar_exact",
    "negative_agreement",
    "newcombe_paired",
    "non_inferiority",
    "paired_table",
    "pairwise_disagreement",
    "positive_agreement",
    "recipe_arm",
    "recipe_arm_of",
    "recipe_difference",
    "stability_index",
    "summarize",
    "t_quantile",
    "tuned_minus_base",
    "two_way",
    "unanimous",
    "wilson",
]
