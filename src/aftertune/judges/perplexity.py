"""incoherence-perplexity: a response is incoherent where a reference model finds its tokens too surprising.

The measure is the mean negative log-likelihood (nats per token) of the response after the prompt, rendered by
the reference model's own chat template; the end token is not counted. Shuffled words, noise and random tokens
stand high. A loop stands *low*, lower than sound text: it is found by repetition, not here. The threshold
belongs to the reference model: `scripts/calibrate_incoherence.py` finds it, docs/incoherence.md gives its
detection rates. It is a statement of form: a fluent wrong answer is coherent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from aftertune.errors import ModelError, StudyError, need_models
from aftertune.judges.base import Case, Judgments, identity, judge_texts, judgment, no_values
from aftertune.records import Construct, JudgmentStatus
from aftertune.study import JudgeSpec

NAME = "incoherence-perplexity"
REVISION = 1
DEFAULT_MODEL = "smollm2"
# Nats per token of SmolLM2-135M-Instruct, Q4_1, in bfloat16 on CPU: at most 2% of the calibration half lie
# above. Found 2026-11-25 by `python scripts/calibrate_incoherence.py` (docs/incoherence.md).
NLL_THRESHOLD = 3.9
# Where the script keeps the threshold of another reference model: in the model's directory. Not JSON, since
# the hash of a model counts every JSON file.
THRESHOLD_FILE = "incoherence-perplexity.yaml"
CALIBRATE = "scripts/calibrate_incoherence.py --model DIR --write-threshold"
# The mean of fewer tokens says more of the one rare word among them than of the text.
MIN_TOKENS = 5
# Rows of a batch share a padded length, a multiple of this: a row's bytes then do not depend on its company.
LENGTH_STEP = 32
BATCH_TOKENS = 1024  # bounds the logits: 100 MB for a vocabulary of 49,152 in bfloat16
CHUNK_CASES = 64  # what is judged before anything is yielded


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A prompt and a response as token ids of the reference model."""

    prompt: list[int]
    response: list[int]

    @property
    def padded(self) -> int:
        n = len(self.prompt) + len(self.response)
        return -(-n // LENGTH_STEP) * LENGTH_STEP


class _Reference:
    """The loaded reference model: `nll` is what it is for."""

    def __init__(self, path: Path):
        import torch

        from aftertune.engines.loading import context_length, load_model, load_tokenizer

        self.tokenizer = load_tokenizer(path)
        self.model: Any = load_model(path, dtype=torch.bfloat16, device="cpu").eval()
        self.limit = context_length(self.model.config)

    def encode(self, prompt: str, response: str) -> _Encoded:
        """Token ids; the response is encoded by itself, so that its tokens do not depend on the template."""
        from aftertune.engines.chat import encode_as_text, render_prompt

        asked = render_prompt(self.tokenizer, prompt, None)
        return _Encoded(list(asked.token_ids), encode_as_text(self.tokenizer, response))

    def nll(self, rows: Sequence[_Encoded]) -> list[float]:
        """Nats per token of each response; all rows have one padded length."""
        import torch

        ids = torch.zeros(len(rows), rows[0].padded, dtype=torch.long)
        for i, row in enumerate(rows):
            both = row.prompt + row.response
            ids[i, : len(both)] = torch.tensor(both)
        # Padding stands to the right, where a causal model's earlier tokens cannot see it.
        with torch.inference_mode():
            logits = self.model(input_ids=ids, use_cache=False).logits
        return [self._row_nll(logits[i], row) for i, row in enumerate(rows)]

    @staticmethod
    def _row_nll(logits: Any, row: _Encoded) -> float:
        import torch

        first = len(row.prompt) - 1  # the logits at a token foretell the next one
        total = 0.0
        for start in range(0, len(row.response), 256):  # float32 of a long response's logits is gigabytes
            targets = torch.tensor(row.response[start : start + 256])
            part = logits[first + start : first + start + len(targets)].float()
            total += float(torch.nn.functional.cross_entropy(part, targets, reduction="sum"))
        return total / len(row.response)


@lru_cache(maxsize=1)
def _reference(path: Path) -> _Reference:
    return _Reference(path)


@dataclass(frozen=True, slots=True)
class PerplexityJudge:
    """The judge; `model` is `smollm2` or a directory with the weights and its calibrated threshold."""

    name: str
    model: str = DEFAULT_MODEL
    constructs: tuple[Construct, ...] = (Construct.INCOHERENT,)
    licence: str = "Apache-2.0"
    cost: str = "a forward pass of prompt and response through the reference model, on CPU"
    agreement: str = "with people: not known; with text degraded on purpose: docs/incoherence.md"
    deterministic: bool = True

    @property
    def source(self) -> str:
        """Of the measure and the reference model."""
        return f"a measure of this project under {self.model}"

    @property
    def sha256(self) -> str:
        """Its identity, with the reference model's files and the threshold.

        Raises:
            StudyError: the model is missing, or has no threshold.
        """
        path, digest = _resolved(self.name, self.model)
        return identity(NAME, REVISION, digest, _threshold(self.name, self.model, path, digest))

    def judge(self, cases: Sequence[Case], *, repeat: int = 0) -> Iterator[Judgments]:
        """1.0 where nats per token exceed the threshold, else 0.0; `raw` has the number."""
        path, digest = _resolved(self.name, self.model)
        threshold = _threshold(self.name, self.model, path, digest)

        def judged(texts: Sequence[Case]) -> Iterator[Judgments]:
            measured = measure(path, [(case.item.prompt, case.response.text) for case in texts])
            for case, nll in zip(texts, measured, strict=True):
                yield self._judged(case, nll, threshold, repeat)

        return judge_texts(cases, self, judged, repeat=repeat, at_once=CHUNK_CASES)

    def _judged(self, case: Case, nll: float | str, threshold: float, repeat: int) -> Judgments:
        if isinstance(nll, str):
            return no_values(case, self, JudgmentStatus.SKIPPED, reason=nll, repeat=repeat)
        value = 1.0 if nll > threshold else 0.0
        raw = f"{nll:.4f} nats per token under {self.model}; the threshold is {threshold:g}"
        return (judgment(case, self, Construct.INCOHERENT, value, raw=raw, repeat=repeat),)


def perplexity_judge(spec: JudgeSpec) -> PerplexityJudge:
    """The judge that a study configures; nothing is loaded.

    Raises:
        StudyError: a setting that it does not have, or `weights` that lead nowhere.
    """
    given = sorted(spec.settings - {"name", "judge", "repeats", "weights"})
    if given:
        raise StudyError(
            f"judge {spec.name!r} has one setting, weights; got {', '.join(given)}", "leave the others out"
        )
    model = spec.weights or DEFAULT_MODEL
    if model != DEFAULT_MODEL and not Path(model).is_dir():
        raise StudyError(
            f"judge {spec.name!r}: there is no directory {model!r}",
            f"give a directory with a model, or {DEFAULT_MODEL} (the default)",
        )
    return PerplexityJudge(spec.name, model)


def measure(path: Path, pairs: Sequence[tuple[str, str]]) -> list[float | str]:
    """Nats per token of each (prompt, response) under the model in `path`, or why there is no number."""
    if not pairs:
        return []
    reference = _reference(path)
    encoded = [reference.encode(prompt, response) for prompt, response in pairs]
    found: list[float | str] = [_too_short_or_long(row, reference.limit) for row in encoded]
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(encoded):
        if not found[i]:
            groups.setdefault(row.padded, []).append(i)
    for padded, members in groups.items():
        size = max(1, BATCH_TOKENS // padded)
        for start in range(0, len(members), size):
            batch = members[start : start + size]
            for i, nll in zip(batch, reference.nll([encoded[i] for i in batch]), strict=True):
                found[i] = nll if nll < float("inf") else "the reference model gave no finite likelihood"
    return found


def _too_short_or_long(row: _Encoded, limit: int) -> str:
    n = len(row.prompt) + len(row.response)
    if len(row.response) < MIN_TOKENS:
        return f"the response has {len(row.response)} tokens, too few to tell (at least {MIN_TOKENS})"
    return f"prompt and response have {n} tokens, the reference model takes {limit}" if n > limit else ""


@lru_cache(maxsize=8)
def _resolved(judge: str, model: str) -> tuple[Path, str]:
    """The reference model's directory and hash; the packaged one is made in the user's cache, once."""
    need_models()
    from aftertune.engines.loading import resolve_model

    try:
        source = resolve_model(model if model == DEFAULT_MODEL else str(Path(model).resolve()))
    except ModelError as error:
        raise StudyError(f"judge {judge!r}: {error.what}", error.remedy) from error
    return source.path, source.sha256


def _threshold(judge: str, model: str, path: Path, digest: str) -> float:
    if model == DEFAULT_MODEL:
        return NLL_THRESHOLD
    file = path / THRESHOLD_FILE
    if not file.is_file():
        raise StudyError(
            f"judge {judge!r}: {path} has no {THRESHOLD_FILE}, and a threshold fits one model only",
            f"run {CALIBRATE}",
        )
    try:
        kept: Any = yaml.safe_load(file.read_text("utf-8"))
        number, of = float(kept["nll_threshold"]), str(kept["model_sha256"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise StudyError(f"judge {judge!r}: {file} cannot be read: {error}", f"run {CALIBRATE}") from error
    if of != digest or not 0 < number < float("inf"):
        raise StudyError(
            f"judge {judge!r}: {file} has {number:g} for model {of[:12]}; the model is {digest[:12]}",
            f"run {CALIBRATE}",
        )
    return number
