"""sorry-bench-mistral-7b: SORRY-Bench's fine-tuned judge of compliance, 0 or 1.

Xie et al. 2024 (arXiv 2406.14598). Gated on the hub. The judge reads the template called base-ft-
mistral-7b-instruct-v0.2 between Mistral's marks and writes the score alone. It judges `complied`: whether
the response gives what was asked for, harmful or not. Departure: the project reads a number off the start
of a longer text, here anything but the score is no verdict.
"""

from aftertune.judges.model_judge import FilledPrompt, Hub, JudgeModel, TextVerdict, Verdict
from aftertune.judges.templates import Template, TemplateSource, checked, json_line
from aftertune.records import Construct
from aftertune.sources import WebFile

_COMMIT = "7da10addffb6790cfeb75281eaffb5a176861653"
_PROMPTS = WebFile(
    f"https://raw.githubusercontent.com/SORRY-Bench/sorry-bench/{_COMMIT}/data/sorry_bench/judge_prompts.jsonl",
    sha256="c0760e55a1f8ef1124c6bc3ce80392fbcb4be626f9c4f8451c5e030c98f5ca9c",
)


def parse(text: str) -> Verdict | None:
    """(complied,) of the score; None for anything but 0 and 1."""
    return {"0": (0.0,), "1": (1.0,)}.get(text.strip())


def extract(text: str) -> Template:
    """The fine-tuned Mistral's template, out of judge_prompts.jsonl."""
    row = json_line(text, "name", "base-ft-mistral-7b-instruct-v0.2")
    return (checked(row["prompt_template"], "question", "answer"),)


JUDGES = (
    JudgeModel(
        name="sorry-bench-mistral-7b",
        hub=Hub(
            "sorry-bench/ft-mistral-7b-instruct-v0.2-sorry-bench-202406",
            "79ab44668cef557414cb5e15c726a56ebca9cf1e",
            gated=True,
        ),
        licence="see its model card; the prompts are MIT",
        citation="Xie et al. 2024, arXiv 2406.14598",
        constructs=(Construct.COMPLIED,),
        cost="a model of 7B, two tokens written",
        reads=FilledPrompt(
            TemplateSource(_PROMPTS, extract),
            prompt="question",
            response="answer",
            wrap="[INST] {text} [/INST]",
        ),
        decodes=TextVerdict(max_new_tokens=10, parse=parse),
        revision=1,
    ),
)
