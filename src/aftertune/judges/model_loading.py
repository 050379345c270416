"""The weights of a judge model: from the hub at a pinned commit, or from a directory; one held at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from aftertune.engines.directory import WITHOUT_ADAPTER, refuse_unused
from aftertune.errors import ModelError, need_models
from aftertune.store import hash_files

REVISION = 1  # of how judge models are loaded and decoded
_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
# Padded tokens of a batch, and rows; small enough for a judge of 13B beside its cache on one 80 GB card.
_BATCH_TOKENS = {"cuda": 16384, "cpu": 4096}
_BATCH_ROWS = 32
# Position ids of these begin behind the padding id, so that the table's first rows hold no token.
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert"}


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository of the Hugging Face hub at a commit; None: no commit with safetensors is known to us."""

    repo: str
    revision: str | None
    gated: bool = False

    @property
    def name(self) -> str:
        """Repository and commit, in words."""
        return f"{self.repo}@{self.revision[:12]}" if self.revision else self.repo


@dataclass(frozen=True, slots=True)
class Answer:
    """What a judge model gave for one prompt: a text, or probabilities of choices for the next token.

    `whole`: the text has its end token; or, of choices, the token that the model itself puts first, over its
    whole vocabulary, is one of them. `text` is then that token, and the probabilities are renormalised.
    """

    text: str
    whole: bool
    probabilities: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory with its tokenizer; `context` is the most tokens of a prompt and its answer."""

    model: Any
    tokenizer: Any
    context: int
    device: str
    ends: tuple[int, ...]
    specials: tuple[str, ...]

    @property
    def pad(self) -> int:
        """The token that fills short rows; it is masked."""
        known = self.tokenizer.pad_token_id
        return known if known is not None else (self.ends[0] if self.ends else 0)


def directory_of(hub: Hub, weights: str | None) -> Path:
    """The directory of the weights: the user's own, or the hub's pinned commit, downloaded once.

    Raises:
        ModelError: there is none.
    """
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_dir():
            raise ModelError(f"weights: {weights} is no directory", "give what save_pretrained wrote")
        return path.resolve()
    if hub.revision is None:
        raise ModelError(
            f"no pinned commit of {hub.repo} is known", "download it and write `weights: <directory>`"
        )
    return _from_hub(hub)


def _from_hub(hub: Hub) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub.repo, revision=hub.revision, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        gate = f"accept its terms at https://huggingface.co/{hub.repo}, set HF_TOKEN; " if hub.gated else ""
        raise ModelError(
            f"cannot get {hub.name} from the hub: {str(error).splitlines()[0][:300]}",
            f"{gate}check the network, or write `weights: <directory>` with a copy",
        ) from error


def weights_named(hub: Hub, weights: str | None) -> list[str]:
    """What stands for the weights in a judge's hash: repository and commit, or the hash of a directory.

    Raises:
        ModelError: the weights are no directory, or no commit of them is known.
    """
    if weights is not None or hub.revision is None:
        return [directory_sha256(directory_of(hub, weights))]
    return [hub.repo, hub.revision]


@cache
def directory_sha256(path: Path) -> str:
    """The hash of all files of a model directory that decide its output; read once a process."""
    return hash_files(path, sorted({file for pattern in _FILES for file in path.glob(pattern)}))


@lru_cache(maxsize=1)
def load(path: Path, base: Hub | None, *, auto: str, dtype: str) -> Loaded:
    """Load weights (safetensors only; no code of the directory is run) onto the GPU where there is one.

    The last model is kept, and let go of when another is loaded. A directory with an adapter alone is merged
    into `base`.

    Raises:
        ModelError: the directory cannot be used.
    """
    need_models()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = _with_adapter(path, base, auto, dtype) if _is_adapter(path) else _weights(path, auto, dtype)
    tokenizer = _tokenizer(path)
    return Loaded(
        model.to(device).eval(),
        tokenizer,
        _context(model.config, tokenizer),
        device,
        _ends(model, tokenizer),
        _specials(tokenizer),
    )


def _is_adapter(path: Path) -> bool:
    return (path / "adapter_config.json").is_file() and not (path / "config.json").is_file()


def _with_adapter(path: Path, base: Hub | None, auto: str, dtype: str) -> Any:
    if base is None or not (path / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"{path} holds no whole model in safetensors",
            "merge the adapter and save it with save_pretrained",
        )
    from peft import PeftModel

    model: Any = _weights(directory_of(base, None), auto, dtype)
    return PeftModel.from_pretrained(model, path).merge_and_unload()


def _weights(path: Path, auto: str, dtype: str) -> Any:
    import torch
    import transformers
    from safetensors import SafetensorError

    try:
        model, info = getattr(transformers, auto).from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **WITHOUT_ADAPTER,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the judge model in {path} cannot be loaded: {str(error)[:300]}",
            "give a directory with config.json and *.safetensors, as save_pretrained writes it",
        ) from error
    refuse_unused(path, info["unexpected_keys"])
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            f"{path} lacks {len(missing)} of the judge model's weights, first {missing[0]}",
            "download the whole model",
        )
    return model


def _tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} has no usable tokenizer: {str(error)[:300]}", "put the tokenizer beside the weights"
        ) from error


def _context(config: Any, tokenizer: Any) -> int:
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or 10**9
    offset = text.pad_token_id + 1 if text.model_type in _OFFSET_POSITIONS else 0
    return min(positions - offset, tokenizer.model_max_length)


def _ends(model: Any, tokenizer: Any) -> tuple[int, ...]:
    given = getattr(model.generation_config, "eos_token_id", None) if model.can_generate() else None
    ids = [*(given if isinstance(given, list) else [given]), tokenizer.eos_token_id]
    return tuple(dict.fromkeys(end for end in ids if end is not None))


def _specials(tokenizer: Any) -> tuple[str, ...]:
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    found = {*(str(token) for token in tokenizer.all_special_tokens), *added}
    return tuple(sorted((token for token in found if len(token) > 1), key=len, reverse=True))


def batches(rows: Sequence[Sequence[int]], device: str, *, room: int = 0) -> Iterable[list[int]]:
    """The positions of rows in batches of like length, the longest first; `room` is for each row's answer."""
    order = sorted(range(len(rows)), key=lambda at: (-len(rows[at]), at))
    batch: list[int] = []
    for at in order:
        width = len(rows[batch[0]]) + room if batch else 0
        if batch and (len(batch) == _BATCH_ROWS or (len(batch) + 1) * width > _BATCH_TOKENS[device]):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def generate(loaded: Loaded, rows: Sequence[Sequence[int]], *, max_new_tokens: int) -> list[Answer]:
    """The greedy answer to each row of one batch; rows are padded on the left."""
    output = _generated(loaded, rows, max_new_tokens)
    width = max(map(len, rows))
    return [_answer(loaded, sequence.tolist()[width:]) for sequence in output.sequences]


def _answer(loaded: Loaded, tokens: list[int]) -> Answer:
    end = next((at for at, token in enumerate(tokens) if token in loaded.ends), None)
    text = loaded.tokenizer.decode(tokens[:end], skip_special_tokens=True)
    return Answer(text, whole=end is not None)


def choose(loaded: Loaded, rows: Sequence[Sequence[int]], *, choices: Sequence[str]) -> list[Answer]:
    """The probabilities of single-token choices for the token after each row of one batch.

    Raises:
        ModelError: a choice is not one token of this tokenizer.
    """
    ids = [_token(loaded, choice) for choice in choices]
    logits = _generated(loaded, rows, 1, logits=True).logits[0].float()
    shares = logits[:, ids].softmax(dim=-1).tolist()
    return [
        Answer(loaded.tokenizer.decode([first]), first in ids, tuple(row))
        for row, first in zip(shares, logits.argmax(dim=-1).tolist(), strict=True)
    ]


def _token(loaded: Loaded, choice: str) -> int:
    found = loaded.tokenizer.get_vocab().get(choice)
    if found is None:
        raise ModelError(
            f"the judge's tokenizer has no token {choice!r}", "give the weights that the judge was made for"
        )
    return found


def _generated(
    loaded: Loaded, rows: Sequence[Sequence[int]], max_new_tokens: int, *, logits: bool = False
) -> Any:
    import torch
    from transformers import GenerationConfig

    width = max(map(len, rows))
    ids = torch.tensor([[loaded.pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    # A fresh configuration: what a checkpoint brings of temperatures and penalties is not part of a judge.
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(loaded.ends) or None,
        pad_token_id=loaded.pad,
        return_dict_in_generate=True,
        output_logits=logits,
    )
    loaded.model.generation_config = config
    with torch.inference_mode():
        return loaded.model.generate(
            input_ids=ids.to(loaded.device), attention_mask=mask.to(loaded.device), generation_config=config
        )


def classify(loaded: Loaded, rows: Sequence[Sequence[int]], *, label: str) -> list[Answer]:
    """The probability of one label of a multi-label classifier for each row of one batch.

    Raises:
        ModelError: the classifier has no such label.
    """
    import torch

    labels = {str(name): int(at) for at, name in loaded.model.config.id2label.items()}
    if label not in labels:
        raise ModelError(
            f"the classifier has no label {label!r}, it has {', '.join(labels)[:200]}",
            "give the weights that the judge was made for",
        )
    width = max(map(len, rows))
    ids = torch.tensor([list(row) + [loaded.pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    with torch.inference_mode():
        out = loaded.model(input_ids=ids.to(loaded.device), attention_mask=mask.to(loaded.device))
    return [Answer("", True, (p,)) for p in out.logits[:, labels[label]].float().sigmoid().tolist()]


def escape_special_tokens(text: str, specials: Sequence[str]) -> str:
    """The text with a space inside each special token that it spells out, so that none is read as one."""
    for token in specials:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
