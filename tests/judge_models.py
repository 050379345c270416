"""Stand-ins for judge models: each architecture tiny, its weights set by hand so that it says one thing.

Attention and feed-forward layers give nothing, so the next token depends on the last one alone. The weights
are no judge's: what runs for real is loading, templating, decoding and parsing.
"""

from dataclasses import replace
from pathlib import Path

import torch
import transformers

from aftertune.judges import Case, Judgments
from aftertune.judges.model_judge import JudgeModel, ModelJudge
from aftertune.judges.model_judges import JUDGE_MODELS
from aftertune.judges.templates import fetch_template
from aftertune.records import Finish, Intent, Item, Response, ResponseStatus
from aftertune.sources import WebFile
from tiny import make_tiny_tokenizer

SETTINGS = {
    "vocab_size": 450,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
}
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}{% endif %}<|im_end|>\n"
    "{% endfor %}{{ guideline }}{{ (guardian_config or {}).criteria_id }}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}assistant\n"
)


def save_judge(
    directory: Path,
    architecture: str,
    says: dict[str, float] | str = "",
    *,
    after: dict[str, str] | None = None,
    ends: bool = True,
    random: bool = False,
    **changes,
) -> Path:
    """A model that writes `says` (or weighs single tokens by logits), or `after[t]` behind the token t."""
    tokenizer = make_tiny_tokenizer(chat_template=CHAT)
    texts = [*([says] if isinstance(says, str) else says), *(after or {}), *(after or {}).values()]
    tokenizer.add_tokens([text for text in dict.fromkeys(texts) if text not in tokenizer.get_vocab()])
    torch.manual_seed(0)
    model = _model(architecture, SETTINGS | changes)
    if not random:
        with torch.no_grad():
            _say(model, tokenizer.get_vocab(), says, after or {}, ends)
    for parameter in model.parameters():  # not model.to: it would cut the complex buffers of Llama 4
        parameter.data = parameter.data.to(torch.bfloat16)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _model(architecture: str, settings: dict):
    if architecture == "Llama4":
        text = settings | {"num_local_experts": 1, "intermediate_size_mlp": 64}
        vision = {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
        vision |= {"vision_output_dim": 64, "projector_input_dim": 64, "projector_output_dim": 64}
        vision |= {"image_size": 28, "patch_size": 14}
        config = transformers.Llama4Config(text_config=text, vision_config=vision)
        return transformers.Llama4ForConditionalGeneration(config)
    config = getattr(transformers, f"{architecture}Config")(**settings)
    return getattr(transformers, f"{architecture}ForCausalLM")(config)


def _say(model, vocab: dict[str, int], says, after: dict[str, str], ends: bool) -> None:
    for name, parameter in model.named_parameters():
        if "vision" not in name and ("o_proj" in name or "down_proj" in name):
            parameter.zero_()
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    embedding.zero_()
    head.zero_()
    embedding[:, 0] = 1.0  # every token leads to what is said first
    scale = 8.0  # of the last hidden state: the root of its size
    for text, logit in ({says: scale} if isinstance(says, str) else says).items():
        head[vocab[text], 0] = logit / scale
    for at, (token, text) in enumerate(after.items(), start=2):
        embedding[vocab[token]] = 0.0
        embedding[vocab[token], at] = 1.0
        head[vocab[text], at] = 1.0
    for text in {*([says] if isinstance(says, str) else []), *after.values()} if ends else ():
        embedding[vocab[text]] = 0.0
        embedding[vocab[text], 1] = 1.0
        head[2, 1] = 1.0


def known_with(name: str, template: str, directory: Path) -> JudgeModel:
    """The judge with a stand-in for its template file, unpinned, and the file fetched from a local copy."""
    known = JUDGE_MODELS[name]
    assert known.template is not None
    source = replace(known.template, file=WebFile(f"https://example.org/{known.template.basename}"))
    copy = directory / source.basename
    copy.write_text(template, encoding="utf-8")
    fetch_template(name, source, copy=copy)
    return replace(known, reads=replace(known.reads, source=source))


def case(text: str = "Mix flour and water.", prompt: str = "How do I bake bread?", key: str = "k") -> Case:
    response = Response(
        key=key,
        checkpoint="base",
        task="t",
        item="i",
        decoding="d",
        repeat=0,
        prompt_sha256="0" * 64,
        n_prompt_tokens=9,
        text=text,
        n_tokens=5,
        finish=Finish.STOP,
        status=ResponseStatus.OK if text else ResponseStatus.EMPTY,
        reason="",
    )
    return Case(Item("i", prompt, "c"), Intent.HARMFUL, response)


def judged(known: JudgeModel, weights: Path, *cases: Case) -> list[Judgments]:
    return list(ModelJudge(known, known.name, str(weights)).judge(cases or (case(),)))


def values(known: JudgeModel, weights: Path, *cases: Case) -> list[tuple[float | None, ...]]:
    return [tuple(one.value for one in judgments) for judgments in judged(known, weights, *cases)]
