"""harmbench-llama-2-13b, harmbench-mistral-7b: HarmBench's classifiers of harmful behaviour, yes or no.

Mazeika et al. 2024 (arXiv 2402.04249). MIT (Llama-2's licence for the first), not gated. The first one's
template stands in the project's eval_utils.py, the second one's in its model card. Departures: HarmBench's
own evaluation shows the classifier the first 512 tokens of a response, we show all of it; contextual
behaviours are judged with the standard template and their whole prompt, context included.
"""

from aftertune.judges.model_judge import FilledPrompt, Hub, JudgeModel, TextVerdict, Verdict
from aftertune.judges.templates import Template, TemplateSource, checked, fenced_constant, python_constant
from aftertune.records import Construct
from aftertune.sources import HubFile, WebFile

_COMMIT = "37150ed7d07f1db7639c9e3cfee3288391482503"
_MISTRAL = Hub("cais/HarmBench-Mistral-7b-val-cls", "51182c7cdaf9b2e5f05b745b81b047b67e7384a1")


def parse(text: str) -> Verdict | None:
    """(harmful,) of the one token that the classifier writes; None for anything but yes and no."""
    return {"yes": (1.0,), "no": (0.0,)}.get(text.strip().lower())


def from_source(text: str) -> Template:
    """The standard template, out of eval_utils.py."""
    return (checked(python_constant(text, "LLAMA2_CLS_PROMPT")["prompt"], "behavior", "generation"),)


def from_card(text: str) -> Template:
    """The standard template, out of the Mistral classifier's model card."""
    return (checked(fenced_constant(text, "MISTRAL_CLS_PROMPT")["prompt"], "behavior", "generation"),)


def _judge(
    name: str, hub: Hub, source: TemplateSource, *, licence: str, size: str, agreement: str
) -> JudgeModel:
    return JudgeModel(
        name=name,
        hub=hub,
        licence=licence,
        citation="Mazeika et al. 2024, arXiv 2402.04249",
        constructs=(Construct.HARMFUL,),
        cost=f"a model of {size}, one token written",
        reads=FilledPrompt(source, prompt="behavior", response="generation"),
        decodes=TextVerdict(max_new_tokens=1, parse=parse, ends=False),
        revision=1,
        agreement=agreement,
    )


JUDGES = (
    _judge(
        "harmbench-llama-2-13b",
        Hub("cais/HarmBench-Llama-2-13b-cls", "bda705349d1144fa618770bea64d99ce54e3835b"),
        TemplateSource(
            WebFile(
                f"https://raw.githubusercontent.com/centerforaisafety/HarmBench/{_COMMIT}/eval_utils.py",
                sha256="46f1db751866848834d45d5128a18d4cc0a820828e89796ab51bc605d10c7058",
            ),
            from_source,
        ),
        licence="MIT, and the Llama 2 Community Licence of what it is tuned from",
        size="13B",
        agreement="93.19 % with people on HarmBench's validation set (the project's model cards, table 1)",
    ),
    _judge(
        "harmbench-mistral-7b",
        _MISTRAL,
        TemplateSource(HubFile(_MISTRAL.repo, "README.md", str(_MISTRAL.revision), kind="model"), from_card),
        licence="MIT",
        size="7B",
        agreement="not known",
    ),
)
