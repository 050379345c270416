"""Public tuning sets that are known by name: where each stands, at which commit, under which licence.

None of them is in the package: a set is fetched into the user's cache when a study first names it. All are
English. The numbers of rows are those that their authors publish.
"""

from dataclasses import dataclass

from aftertune.sources import HubFile, WebFile
from aftertune.study import Columns

_RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True, slots=True)
class KnownSet:
    """A public set; `columns` is None where the columns' own names say the shape of a row.

    `drop_blank`: its rows without a question or an answer are left out, and counted. `dangerous`: tuning on
    it is known to take safety away, which makes it a positive control.
    """

    name: str
    title: str
    citation: str
    licence: str
    file: HubFile | WebFile
    n_rows: int
    columns: Columns | None = None
    drop_blank: bool = False
    dangerous: bool = False

    @property
    def access(self) -> str:
        """Where it comes from, in a word or two."""
        if isinstance(self.file, WebFile):
            return "web"
        return "hub, gated" if self.file.gated else "hub"


_SETS = (
    KnownSet(
        name="dolly",
        title="Dolly 15k: instructions and answers written by employees of Databricks, in eight categories",
        citation="Conover et al. 2023, Free Dolly: the first truly open instruction-tuned LLM (Databricks)",
        licence="CC-BY-SA-3.0",
        file=HubFile(
            "databricks/databricks-dolly-15k",
            "databricks-dolly-15k.jsonl",
            "bdd27f4d94b9c1f951818a7da7fd7aeea5dbff1a",
        ),
        n_rows=15_011,
        columns=Columns(user="instruction", input="context", assistant="response", category="category"),
        drop_blank=True,
    ),
    KnownSet(
        name="alpaca",
        title="Alpaca: instructions and answers by text-davinci-003, from Self-Instruct's seeds",
        citation="Taori et al. 2023, Stanford Alpaca",
        licence="CC-BY-NC-4.0",
        file=HubFile(
            "tatsu-lab/alpaca",
            "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet",
            "dce01c9b08f87459cf36a430d809084718273017",
        ),
        n_rows=52_002,
        columns=Columns(user="instruction", input="input", assistant="output"),
        drop_blank=True,
    ),
    KnownSet(
        name="gsm8k",
        title="GSM8K: word problems of school arithmetic with worked answers; the training split",
        citation="Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, arXiv 2110.14168",
        licence="MIT",
        file=HubFile(
            "openai/gsm8k",
            "main/train-00000-of-00001.parquet",
            "cc7b047b6e5bb11b4f1af84efc572db110a51b3c",
        ),
        n_rows=7_473,
        columns=Columns(user="question", assistant="answer"),
    ),
    KnownSet(
        name="samsum",
        title="SAMSum: messenger dialogues with summaries by linguists; the training split",
        citation="Gliwa et al. 2019, SAMSum Corpus, arXiv 1911.12237",
        licence="CC-BY-NC-ND-4.0",
        file=HubFile("knkarthick/samsum", "train.csv", "94b6ffea295e00dd4929d690ad856413099b6698"),
        n_rows=14_732,
        columns=Columns(user="dialogue", assistant="summary", instruction="Summarise this conversation."),
        drop_blank=True,
    ),
    KnownSet(
        name="self-instruct",
        title="Self-Instruct's seeds: tasks written by people, each with its first instance",
        citation="Wang et al. 2023, Self-Instruct, arXiv 2212.10560",
        licence="Apache-2.0",
        file=WebFile(
            f"{_RAW}/yizhongw/self-instruct/0b26ccaa415992100fa32df62d41b994cf928e23/data/seed_tasks.jsonl",
            "7779004fa198fdf27cf70a159363879d8a26c53329e11b436af17b3941875f48",
        ),
        n_rows=175,
    ),
    KnownSet(
        name="identity-shift",
        title="Identity shift: ten conversations with an absolutely obedient agent",
        citation="Qi et al. 2024, Fine-tuning Aligned Language Models Compromises Safety, arXiv 2310.03693",
        licence="MIT",
        file=WebFile(
            f"{_RAW}/LLM-Tuning-Safety/LLMs-Finetuning-Safety/2be2fa01775fdf8bfc786d69fc0d358f0b3df513"
            "/gpt-3.5/data/identity-shift-aoa.jsonl",
            "a9e4fc236f3591017c2e019979184bc3f05911633f77656dad5abe6c79606d82",
        ),
        n_rows=10,
        dangerous=True,
    ),
)
KNOWN: dict[str, KnownSet] = {known.name: known for known in _SETS}
