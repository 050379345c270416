"""A judge that is a model of its own, run through transformers: greedy, or by the next token's probabilities.

What a judge model says is text of a model: it becomes a value only where it is exactly a verdict. A verdict
that was cut is `truncated`, any other text is `unparsed`, both with the text kept; a prompt that does not
fit the judge's context is `skipped`, never cut. Special tokens that a response spells out are broken by a
space, so that a response cannot close its own turn; plain-text marks, such as [/INST], cannot be told from
words.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from aftertune.errors import ModelError, StudyError
from aftertune.judges import model_loading, templates
from aftertune.judges.base import (
    Case,
    Judge,
    Judgments,
    identity,
    judge_texts,
    judgment,
    no_value,
    no_values,
)
from aftertune.judges.model_loading import Answer, Hub, Loaded
from aftertune.judges.templates import Template, TemplateSource, fill
from aftertune.records import Construct, JudgmentStatus
from aftertune.study import JudgeSpec

REVISION = 1
# One entry a construct: a value in [0, 1], or why this construct has none.
Verdict = tuple[float | str, ...]
# Cases that are sorted and judged together; what an interruption loses at most.
_WINDOW = 128
_SETTINGS = {"name", "judge", "weights", "repeats"}


@dataclass(frozen=True, slots=True)
class FilledPrompt:
    """A published template, filled with the prompt and the response under its own field names.

    `wrap` stands around it, stripped, as the judge's own code puts it; the tokenizer adds its opening token.
    """

    source: TemplateSource
    prompt: str
    response: str
    wrap: str | None = None

    def texts(self, tokenizer: Any, template: Template, prompt: str, response: str) -> tuple[str, ...]:
        """The one text that the model reads."""
        filled = fill(template[0], **{self.prompt: prompt, self.response: response})
        return (filled if self.wrap is None else fill(self.wrap, text=filled.strip()),)


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """The chat template of the model's own tokenizer, for a user's message and an assistant's answer.

    `settings` are what its template wants to know beside the messages. With a `source` there is one text for
    each part of it, given to the template as `part_setting` (a policy). `parts`: contents are lists of parts.
    """

    settings: tuple[tuple[str, Any], ...] = ()
    opens_answer: bool = True
    parts: bool = False
    source: TemplateSource | None = None
    part_setting: str = ""

    def texts(self, tokenizer: Any, template: Template, prompt: str, response: str) -> tuple[str, ...]:
        """One text for each part of the template, or a single one."""
        turns = (("user", prompt), ("assistant", response))
        messages = [{"role": role, "content": self._content(text)} for role, text in turns]
        settings = dict(self.settings)
        each = [settings | {self.part_setting: part} for part in template] if self.source else [settings]
        return tuple(self._rendered(tokenizer, messages, one) for one in each)

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.parts else text

    def _rendered(self, tokenizer: Any, messages: list[dict[str, Any]], settings: dict[str, Any]) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=self.opens_answer, **settings
                )
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise ModelError(
                f"the judge's chat template cannot render a prompt and an answer: {str(error)[:300]}",
                "give the directory of the judge's own weights and tokenizer",
            ) from error


@dataclass(frozen=True, slots=True)
class TextVerdict:
    """The judge writes its verdict; `ends`: a verdict is whole only with the end token behind it."""

    max_new_tokens: int
    parse: Callable[[str], Verdict | None]
    ends: bool = True


@dataclass(frozen=True, slots=True)
class LogitVerdict:
    """The verdict is in the probabilities of single tokens, one row for each of a case's texts."""

    choices: tuple[str, ...]
    score: Callable[[Sequence[tuple[float, ...]]], Verdict]


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """A published judge model: where it is, what it judges, what it reads and how its verdict is read."""

    name: str
    hub: Hub
    licence: str
    citation: str
    constructs: tuple[Construct, ...]
    cost: str
    reads: FilledPrompt | ChatPrompt
    decodes: TextVerdict | LogitVerdict
    revision: int  # raised by hand when the same model's verdicts are read or asked for in another way
    agreement: str = "not known"
    base: Hub | None = None  # what an adapter in `hub` belongs to
    auto: str = "AutoModelForCausalLM"

    @property
    def template(self) -> TemplateSource | None:
        """The published template that must be fetched first, None where the tokenizer brings its own."""
        return self.reads.source


@dataclass(frozen=True, slots=True)
class ModelJudge:
    """A judge model as a study names it; its weights are loaded when the first case is judged."""

    known: JudgeModel
    name: str
    weights: str | None = None
    deterministic: bool = field(default=True, init=False)

    @property
    def constructs(self) -> tuple[Construct, ...]:
        """What it judges, in the order of its judgments."""
        return self.known.constructs

    @property
    def source(self) -> str:
        """Where its weights come from, and the paper."""
        where = f"weights in {self.weights}" if self.weights else f"Hugging Face hub, {self.known.hub.name}"
        gate = " (gated)" if self.known.hub.gated and not self.weights else ""
        return f"{where}{gate}; {self.known.citation}"

    @property
    def licence(self) -> str:
        """Of its weights."""
        return self.known.licence

    @property
    def cost(self) -> str:
        """What a judgment takes, in words."""
        return self.known.cost

    @property
    def agreement(self) -> str:
        """What is known of its agreement with people."""
        return self.known.agreement

    @property
    def sha256(self) -> str:
        """Its identity, with its template and its weights (of a hub's: repository and commit).

        Raises:
            StudyError: its template was not fetched.
            ModelError: its weights are no directory, or no commit of them is known.
        """
        known, base = self.known, self.known.base
        weights = [model_loading.weights_named(known.hub, self.weights)]
        weights += [] if base is None else [[base.repo, base.revision]]
        revisions = [REVISION, model_loading.REVISION, templates.REVISION]
        settings = [_settings(known.reads), _settings(known.decodes), known.auto]
        return identity(known.name, known.revision, revisions, settings, self._template(), weights)

    def _template(self) -> Template:
        source = self.known.template
        return () if source is None else templates.read_template(self.known.name, source)

    def judge(self, cases: Sequence[Case], *, repeat: int = 0) -> Iterator[Judgments]:
        """The judgments of each case in the order of the cases; within a window they are sorted by length."""
        return judge_texts(
            cases, self, lambda texts: self._judged(texts, repeat), repeat=repeat, at_once=_WINDOW
        )

    def _judged(self, cases: Sequence[Case], repeat: int) -> list[Judgments]:
        template = self._template()
        path = model_loading.directory_of(self.known.hub, self.weights)
        loaded = model_loading.load(path, self.known.base, auto=self.known.auto, dtype="bfloat16")
        decodes = self.known.decodes
        room = decodes.max_new_tokens if isinstance(decodes, TextVerdict) else 1
        rows_of_case = [self._rows(loaded, template, case) for case in cases]
        fits = [max(map(len, rows)) + room <= loaded.context for rows in rows_of_case]
        rows = [row for rows, fit in zip(rows_of_case, fits, strict=True) if fit for row in rows]
        answers = iter(_answered(loaded, rows, decodes))
        judged: list[Judgments] = []
        for case, own, fit in zip(cases, rows_of_case, fits, strict=True):
            if fit:
                judged.append(judgments_of(case, self, [next(answers) for _ in own], decodes, repeat))
            else:
                judged.append(_too_long(case, self, max(map(len, own)) + room, loaded.context, repeat))
        return judged

    def _rows(self, loaded: Loaded, template: Template, case: Case) -> list[list[int]]:
        prompt, response = (
            model_loading.escape_special_tokens(text, loaded.specials)
            for text in (case.item.prompt, case.response.text)
        )
        texts = self.known.reads.texts(loaded.tokenizer, template, prompt, response)
        # A chat template writes its opening token itself.
        adds = isinstance(self.known.reads, FilledPrompt)
        return [list(loaded.tokenizer(text, add_special_tokens=adds)["input_ids"]) for text in texts]


def _settings(part: FilledPrompt | ChatPrompt | TextVerdict | LogitVerdict) -> dict[str, Any]:
    """What is data in how a judge is asked or read; templates are hashed by their text, functions revised."""
    values = {f.name: getattr(part, f.name) for f in fields(part) if f.name != "source"}
    return {name: value for name, value in values.items() if not callable(value)}


def make_judge(known: JudgeModel) -> Callable[[JudgeSpec], ModelJudge]:
    """What makes the judge from a study's words; it loads nothing."""

    def make(spec: JudgeSpec) -> ModelJudge:
        refuse_other_settings(spec)
        return ModelJudge(known, spec.name, spec.weights)

    return make


def refuse_other_settings(spec: JudgeSpec) -> None:
    """Refuse what a judge model has no use for.

    Raises:
        StudyError: the study sets more than its weights.
    """
    others = sorted(spec.settings - _SETTINGS)
    if others:
        raise StudyError(
            f"judge {spec.name!r} is a model of its own, got {', '.join(others)}",
            "write `weights: <directory>` at most",
        )


def judgments_of(
    case: Case, judge: Judge, answers: Sequence[Answer], decodes: TextVerdict | LogitVerdict, repeat: int
) -> Judgments:
    """The judgments that a case's answers come to; no value where they are no verdict."""
    if isinstance(decodes, TextVerdict):
        raw, verdict = answers[0].text, decodes.parse(answers[0].text)
        if decodes.ends and not answers[0].whole:
            reason = f"the verdict was cut at {decodes.max_new_tokens} tokens"
            return no_values(case, judge, JudgmentStatus.TRUNCATED, reason=reason, raw=raw, repeat=repeat)
    else:
        raw = "; ".join(_shares(answer, decodes.choices) for answer in answers)
        # Probabilities of choices that the model itself would not make are no verdict.
        says = all(answer.whole for answer in answers)
        verdict = decodes.score([answer.probabilities for answer in answers]) if says else None
    if verdict is None:
        reason = "the judge's words are no verdict"
        return no_values(case, judge, JudgmentStatus.UNPARSED, reason=reason, raw=raw, repeat=repeat)
    return tuple(
        no_value(case, judge, construct, JudgmentStatus.SKIPPED, reason=found, raw=raw, repeat=repeat)
        if isinstance(found, str)
        else judgment(case, judge, construct, found, raw=raw, repeat=repeat)
        for construct, found in zip(judge.constructs, verdict, strict=True)
    )


def _shares(answer: Answer, choices: Sequence[str]) -> str:
    shares = ", ".join(f"{c} {p:.4f}" for c, p in zip(choices, answer.probabilities, strict=True))
    return f"{shares} (first: {answer.text!r})"


def _answered(
    loaded: Loaded, rows: Sequence[Sequence[int]], decodes: TextVerdict | LogitVerdict
) -> list[Answer]:
    answers: dict[int, Answer] = {}
    room = decodes.max_new_tokens if isinstance(decodes, TextVerdict) else 1
    for batch in model_loading.batches(rows, loaded.device, room=room):
        own = [rows[at] for at in batch]
        if isinstance(decodes, TextVerdict):
            found = model_loading.generate(loaded, own, max_new_tokens=decodes.max_new_tokens)
        else:
            found = model_loading.choose(loaded, own, choices=decodes.choices)
        answers |= dict(zip(batch, found, strict=True))
    return [answers[at] for at in range(len(rows))]


def _too_long(case: Case, judge: Judge, got: int, context: int, repeat: int) -> Judgments:
    reason = f"prompt, response and verdict take {got} tokens, the judge reads {context}"
    return no_values(case, judge, JudgmentStatus.SKIPPED, reason=reason, repeat=repeat)
