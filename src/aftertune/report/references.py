"""The literature that the methods paragraph cites, as BibTeX; facts that were checked, and no others."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reference:
    """One entry: what a text without BibTeX calls it, its kind, and its fields in LaTeX."""

    short: str  # "Wilson 1927"
    kind: str
    fields: dict[str, str]


REFERENCES: dict[str, Reference] = {
    "angelopoulos2023ppi": Reference(
        "Angelopoulos, Duchi and Zrnic 2023",
        "misc",
        {
            "author": "Angelopoulos, Anastasios N. and Duchi, John C. and Zrnic, Tijana",
            "title": "{PPI++}: Efficient Prediction-Powered Inference",
            "year": "2023",
            "eprint": "2311.01453",
            "archiveprefix": "arXiv",
        },
    ),
    "benjamini1995controlling": Reference(
        "Benjamini and Hochberg 1995",
        "article",
        {
            "author": "Benjamini, Yoav and Hochberg, Yosef",
            "title": "Controlling the False Discovery Rate: A Practical and Powerful Approach to Multiple "
            "Testing",
            "journal": "Journal of the Royal Statistical Society: Series B",
            "volume": "57",
            "number": "1",
            "pages": "289--300",
            "year": "1995",
        },
    ),
    "cohen1960coefficient": Reference(
        "Cohen 1960",
        "article",
        {
            "author": "Cohen, Jacob",
            "title": "A Coefficient of Agreement for Nominal Scales",
            "journal": "Educational and Psychological Measurement",
            "volume": "20",
            "number": "1",
            "pages": "37--46",
            "year": "1960",
        },
    ),
    "dettmers2023qlora": Reference(
        "Dettmers et al. 2023",
        "misc",
        {
            "author": "Dettmers, Tim and Pagnoni, Artidoro and Holtzman, Ari and Zettlemoyer, Luke",
            "title": "{QLoRA}: Efficient Finetuning of Quantized {LLMs}",
            "year": "2023",
            "eprint": "2305.14314",
            "archiveprefix": "arXiv",
        },
    ),
    "fraser2025finetuning": Reference(
        "Fraser et al. 2025",
        "inproceedings",
        {
            "author": "Fraser, Kathleen C. and Dawkins, Hillary and Nejadgholi, Isar and Kiritchenko, "
            "Svetlana",
            "title": "Fine-Tuning Lowers Safety and Disrupts Evaluation Consistency",
            "booktitle": "Proceedings of the First Workshop on {LLM} Security ({LLMSEC})",
            "year": "2025",
            "eprint": "2506.17209",
            "archiveprefix": "arXiv",
        },
    ),
    "gwet2008computing": Reference(
        "Gwet 2008",
        "article",
        {
            "author": "Gwet, Kilem Li",
            "title": "Computing Inter-Rater Reliability and Its Variance in the Presence of High Agreement",
            "journal": "British Journal of Mathematical and Statistical Psychology",
            "volume": "61",
            "number": "1",
            "pages": "29--48",
            "year": "2008",
        },
    ),
    "holm1979simple": Reference(
        "Holm 1979",
        "article",
        {
            "author": "Holm, Sture",
            "title": "A Simple Sequentially Rejective Multiple Test Procedure",
            "journal": "Scandinavian Journal of Statistics",
            "volume": "6",
            "number": "2",
            "pages": "65--70",
            "year": "1979",
        },
    ),
    "hu2021lora": Reference(
        "Hu et al. 2021",
        "misc",
        {
            "author": "Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, "
            "Yuanzhi "
            "and Wang, Shean and Wang, Lu and Chen, Weizhu",
            "title": "{LoRA}: Low-Rank Adaptation of Large Language Models",
            "year": "2021",
            "eprint": "2106.09685",
            "archiveprefix": "arXiv",
        },
    ),
    "mcnemar1947note": Reference(
        "McNemar 1947",
        "article",
        {
            "author": "McNemar, Quinn",
            "title": "Note on the Sampling Error of the Difference Between Correlated Proportions or "
            "Percentages",
            "journal": "Psychometrika",
            "volume": "12",
            "number": "2",
            "pages": "153--157",
            "year": "1947",
        },
    ),
    "miller2024adding": Reference(
        "Miller 2024",
        "misc",
        {
            "author": "Miller, Evan",
            "title": "Adding Error Bars to Evals: A Statistical Approach to Language Model Evaluations",
            "year": "2024",
            "eprint": "2411.00640",
            "archiveprefix": "arXiv",
        },
    ),
    "newcombe1998interval": Reference(
        "Newcombe 1998a",
        "article",
        {
            "author": "Newcombe, Robert G.",
            "title": "Interval Estimation for the Difference Between Independent Proportions: Comparison of "
            "Eleven Methods",
            "journal": "Statistics in Medicine",
            "volume": "17",
            "number": "8",
            "pages": "873--890",
            "year": "1998",
        },
    ),
    "newcombe1998paired": Reference(
        "Newcombe 1998b",
        "article",
        {
            "author": "Newcombe, Robert G.",
            "title": "Improved Confidence Intervals for the Difference Between Binomial Proportions Based on "
            "Paired Data",
            "journal": "Statistics in Medicine",
            "volume": "17",
            "number": "22",
            "pages": "2635--2650",
            "year": "1998",
        },
    ),
    "rogan1978estimating": Reference(
        "Rogan and Gladen 1978",
        "article",
        {
            "author": "Rogan, Walter J. and Gladen, Beth",
            "title": "Estimating Prevalence from the Results of a Screening Test",
            "journal": "American Journal of Epidemiology",
            "volume": "107",
            "number": "1",
            "pages": "71--76",
            "year": "1978",
        },
    ),
    "schuirmann1987comparison": Reference(
        "Schuirmann 1987",
        "article",
        {
            "author": "Schuirmann, Donald J.",
            "title": "A Comparison of the Two One-Sided Tests Procedure and the Power Approach for "
            "Assessing the "
            "Equivalence of Average Bioavailability",
            "journal": "Journal of Pharmacokinetics and Biopharmaceutics",
            "volume": "15",
            "number": "6",
            "pages": "657--680",
            "year": "1987",
        },
    ),
    "wilson1927probable": Reference(
        "Wilson 1927",
        "article",
        {
            "author": "Wilson, Edwin B.",
            "title": "Probable Inference, the Law of Succession, and Statistical Inference",
            "journal": "Journal of the American Statistical Association",
            "volume": "22",
            "number": "158",
            "pages": "209--212",
            "year": "1927",
        },
    ),
    "zou2008construction": Reference(
        "Zou and Donner 2008",
        "article",
        {
            "author": "Zou, Guang Yong and Donner, Allan",
            "title": "Construction of Confidence Limits About Effect Measures: A General Approach",
            "journal": "Statistics in Medicine",
            "volume": "27",
            "number": "10",
            "pages": "1693--1702",
            "year": "2008",
        },
    ),
}


def bibtex(keys: Iterable[str]) -> str:
    """The entries with these keys as a BibTeX file, in the order of the alphabet."""
    return "\n".join(_entry(key, REFERENCES[key]) for key in sorted(set(keys)))


def _entry(key: str, reference: Reference) -> str:
    fields = ",\n".join(f"  {name} = {{{value}}}" for name, value in reference.fields.items())
    return f"@{reference.kind}{{{key},\n{fields}\n}}\n"
