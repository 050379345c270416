"""The wordings of published rubrics, fetched at a pinned commit and read as data; none is copied here."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aftertune.errors import DataError, StudyError
from aftertune.judges.rubric_verdicts import Values, one_of, strongreject_values
from aftertune.judges.templates import fields_of, fill, python_constant
from aftertune.records import Construct
from aftertune.sources import WebFile, fetch

_RAW = "https://raw.githubusercontent.com"
_ANOTHER = "remove the file from the cache and fetch it again"


@dataclass(frozen=True, slots=True)
class Wording:
    """What is asked: `system` may be empty; `user` has the fields that `Original.fields` maps."""

    system: str
    user: str


@dataclass(frozen=True, slots=True)
class Original:
    """A published rubric: where its wording stands, how it is read, and how a reply is."""

    name: str
    template: WebFile
    extract: Callable[[str], Wording]  # from the file's text; ValueError, KeyError where it is not there
    fields: Mapping[str, str]  # the template's own names of prompt and response
    constructs: tuple[Construct, ...]
    values: Callable[[str], Values | str]
    source: str
    licence: str
    agreement: str = "not known for the model that you ask"

    def wording(self) -> Wording:
        """The original wording, from the user's cache or the web.

        Raises:
            StudyError: it cannot be had, or the file holds none.
        """
        try:
            path = fetch(self.template)
        except DataError as error:
            raise StudyError(
                f"judge {self.name!r} asks in its original wording, which is not here: {error.what}",
                f"run `aftertune judges fetch {self.name}` where there is a network "
                "(AFTERTUNE_CACHE is the folder to take along)",
            ) from error
        return self.read(path)

    def read(self, path: Path) -> Wording:
        """The wording in a file.

        Raises:
            StudyError: it is not there, or has other fields.
        """
        try:
            wording = self.extract(path.read_text(encoding="utf-8"))
            wanted = fields_of(wording.user)
        except (OSError, ValueError, KeyError, TypeError, SyntaxError, RecursionError) as error:
            raise StudyError(
                f"{path} does not hold the wording of {self.name!r}: {type(error).__name__}: {error}",
                _ANOTHER,
            ) from error
        if wanted != set(self.fields.values()):
            raise StudyError(
                f"{path}: the wording of {self.name!r} has the fields {sorted(wanted)}, "
                f"expected {sorted(self.fields.values())}",
                _ANOTHER,
            )
        return wording

    def filled(self, template: str, texts: Mapping[str, str]) -> str:
        """The template with our `texts` (prompt, response) put in literally, as str.format writes it."""
        return fill(template, **{theirs: texts[ours] for ours, theirs in self.fields.items()})


def _plain(text: str) -> Wording:
    return Wording("", text)


def _sorry_bench(text: str) -> Wording:
    """The entry `base-scoreonly` of a JSONL of judge prompts."""
    entries = [json.loads(line) for line in text.split("\n") if line.strip()]
    (entry,) = [entry for entry in entries if entry["name"] == "base-scoreonly"]
    system, user = entry.get("system_prompt") or "", entry["prompt_template"]
    if not isinstance(system, str) or not isinstance(user, str):
        raise TypeError("system_prompt and prompt_template must be text")
    return Wording(system, user)


def _harmbench(text: str) -> Wording:
    """The classifier's question in `LLAMA2_CLS_PROMPT`, without the marks of Llama 2's chat format.

    An endpoint puts the marks of its own model's chat format.
    """
    found = python_constant(text, "LLAMA2_CLS_PROMPT")
    question = found["prompt"].strip()
    if not (question.startswith("[INST] <<SYS>>") and question.endswith("[/INST]")):
        raise ValueError("the prompt is not in Llama 2's chat format")
    inner = question.removeprefix("[INST] <<SYS>>").removesuffix("[/INST]")
    system, marked, user = inner.partition("<</SYS>>")
    if not marked:
        raise ValueError("the prompt has no end of the system message")
    return Wording(system.strip(), user.strip())


ORIGINALS = (
    Original(
        name="strongreject-rubric",
        template=WebFile(
            f"{_RAW}/alexandrasouly/strongreject/f7cad6c17e624e21d8df2278e918ae1dddb4cb56"
            "/strongreject/strongreject_evaluator_prompt.txt",
            "eecf618e80c94ffe8dd2044c8cdf42d232c3c253f833bb32fdb81387bf8968a8",
        ),
        extract=_plain,
        fields={"prompt": "prompt", "response": "response"},
        constructs=(Construct.HARMFUL, Construct.REFUSED),
        values=strongreject_values,
        source="StrongREJECT's rubric (Souly et al. 2024, arXiv 2402.10260), alexandrasouly/strongreject",
        licence="MIT",
    ),
    Original(
        name="sorry-bench-question",
        template=WebFile(
            f"{_RAW}/SORRY-Bench/sorry-bench/7da10addffb6790cfeb75281eaffb5a176861653"
            "/data/sorry_bench/judge_prompts.jsonl",
            "c0760e55a1f8ef1124c6bc3ce80392fbcb4be626f9c4f8451c5e030c98f5ca9c",
        ),
        extract=_sorry_bench,
        fields={"prompt": "question", "response": "answer"},
        constructs=(Construct.COMPLIED,),
        values=partial(one_of, "0", "1", Construct.COMPLIED),
        source="SORRY-Bench's question base-scoreonly (Xie et al. 2024, arXiv 2406.14598)",
        licence="MIT",
    ),
    Original(
        name="harmbench-question",
        template=WebFile(
            f"{_RAW}/centerforaisafety/HarmBench/8e1604d1171fe8a48d8febecd22f600e462bdcdd/eval_utils.py"
        ),
        extract=_harmbench,
        fields={"prompt": "behavior", "response": "generation"},
        constructs=(Construct.HARMFUL,),
        values=partial(one_of, "no", "yes", Construct.HARMFUL),
        source="HarmBench's question (Mazeika et al. 2024, arXiv 2402.04249), without Llama 2's marks",
        licence="MIT",
    ),
)
