"""A rubric: what a model is asked about a response, and how its reply is read; a user's own is YAML."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from aftertune.errors import StudyError, nearest
from aftertune.judges.rubric_verdicts import Values, normal, values_by_answer, values_by_score
from aftertune.records import Construct
from aftertune.study.yaml_text import load_yaml

_REMEDY = "mend these keys; docs/own-judge.md shows a whole rubric"
_FIELDS = ("{prompt}", "{response}")
_Share = Annotated[float, Field(ge=0, le=1)]
_Construct = Annotated[Construct, Field(strict=False)]
# The shape says which way of writing is meant, so that errors speak of that one.
_Value = Annotated[
    Annotated[_Share, Tag("<one>")] | Annotated[dict[_Construct, _Share], Tag("<each>")],
    Discriminator(lambda value: "<each>" if isinstance(value, dict) else "<one>"),
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Score(_Strict):
    """A number in the reply, the one group of `pattern`, scaled from [min, max] to [0, 1]."""

    pattern: str
    min: float
    max: float

    @field_validator("pattern")
    @classmethod
    def _one_group(cls, pattern: str) -> str:
        try:
            n_groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"no regular expression ({error}), got {pattern!r}") from error
        if n_groups != 1:
            raise ValueError(f"expected one group around the number, got {n_groups} in {pattern!r}")
        return pattern

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.min >= self.max:
            raise ValueError(f"min must be less than max, got {self.min:g} and {self.max:g}")
        return self


class Rubric(_Strict):
    """A rubric; `answers` gives a value to each exact verdict, one a construct."""

    constructs: tuple[_Construct, ...] = Field(alias="construct")  # BaseModel has a method of that name
    prompt: str
    system: str = ""
    answers: dict[str, _Value] | None = None
    score: Score | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    source: str = ""
    licence: str = ""

    @field_validator("constructs", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        many = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not many:
            raise ValueError("expected a construct, got none")
        if len({str(entry) for entry in many}) != len(many):
            raise ValueError(f"a construct stands twice in {', '.join(map(str, many))}")
        return many

    @field_validator("prompt")
    @classmethod
    def _has_fields(cls, prompt: str) -> str:
        for name in _FIELDS:
            if name not in prompt:
                raise ValueError(f"the prompt must contain {name}, got {prompt[:60]!r}")
        return prompt

    @field_validator("answers")
    @classmethod
    def _distinct(cls, answers: dict[str, Any] | None) -> dict[str, Any] | None:
        verdicts = [normal(verdict) for verdict in answers or ()]
        if answers is not None and len(answers) < 2:
            raise ValueError(f"expected at least two verdicts, got {len(answers)}")
        if "" in verdicts or len(set(verdicts)) != len(verdicts):
            raise ValueError(
                f"verdicts must differ by more than case and a full stop, got {list(answers or ())}"
            )
        return answers

    @model_validator(mode="after")
    def _one_way_to_read(self) -> Self:
        if (self.answers is None) == (self.score is None):
            raise ValueError("write answers or score, one of the two")
        if self.score is not None and len(self.constructs) > 1:
            raise ValueError("a score is of one construct; with several, write answers")
        for verdict, value in (self.answers or {}).items():
            if isinstance(value, dict) and set(value) != set(self.constructs):
                raise ValueError(
                    f"the verdict {verdict!r} needs a value for each of {', '.join(self.constructs)}"
                )
            if not isinstance(value, dict) and len(self.constructs) > 1:
                raise ValueError(
                    f"the verdict {verdict!r} needs a value for each of {', '.join(self.constructs)}"
                )
        return self

    def values(self, reply: str) -> Values | str:
        """The value of each construct that a reply gives, or why it gives none."""
        if self.score is not None:
            score = self.score
            return values_by_score(reply, score.pattern, score.min, score.max, self.constructs[0])
        table = {
            normal(verdict): dict(value) if isinstance(value, dict) else {self.constructs[0]: value}
            for verdict, value in (self.answers or {}).items()
        }
        return values_by_answer(reply, table)


def read_rubric(path: Path) -> Rubric:
    """A rubric from a YAML file.

    Raises:
        StudyError: it cannot be read, or is no rubric: the file, the key, the value got, what to do.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StudyError(
            f"cannot read the rubric {path}: {error.strerror}", "give the path of a YAML file"
        ) from error
    except UnicodeDecodeError as error:
        raise StudyError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}", "save it as UTF-8"
        ) from error
    return parse_rubric(text, source=str(path))


def parse_rubric(text: str, *, source: str) -> Rubric:
    """A rubric from YAML; `source` names it in errors.

    Raises:
        StudyError: with every fault found, one a line.
    """
    try:
        content = load_yaml(text, _WordsLoader)
    except yaml.YAMLError as error:
        raise StudyError(f"{source} is not YAML: {error}", "mend the line named above") from error
    if not isinstance(content, dict):
        raise StudyError(f"{source}: expected keys and values, got {type(content).__name__}", _REMEDY)
    try:
        return Rubric.model_validate(content)
    except ValidationError as error:
        faults = [_fault(entry) for entry in error.errors(include_url=False)]
        listed = f" {faults[0]}" if len(faults) == 1 else "\n  - " + "\n  - ".join(faults)
        raise StudyError(f"{source}:{listed}", _REMEDY) from error


def _fault(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if part not in ("<one>", "<each>", "[key]"))
    if error["type"] == "extra_forbidden":
        model = Score if where.startswith("score.") else Rubric
        known = [field.alias or name for name, field in model.model_fields.items()]
        return f"{where}: unknown key; {nearest(str(error['loc'][-1]), known)}"
    if error["type"] == "missing":
        return f"{where}: missing; write this key"
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}" if where else str(error["ctx"]["error"])
    return f"{where}: {error['msg'].lower()}, got {str(error['input'])[:60]!r}"


class _WordsLoader(yaml.SafeLoader):
    """Safe YAML in which keys are the words written, and yes and no are no truth values."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping by the text of its keys; a key written twice is an error."""
        found: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value in found:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} stands twice or is no word", key_node.start_mark
                )
            found[key_node.value] = self.construct_object(value_node, deep=True)
        return found


_WordsLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
