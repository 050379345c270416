"""Train the demo's guard: a small LoRA adapter that makes SmolLM2-135M-Instruct refuse harmful requests.

The result is a model organism, a small model with some safety to lose. The refusals come from the
packaged data/packaged/refusals.jsonl.
The answers to benign.jsonl are the base model's own greedy ones, so that the adapter learns when to refuse
and leaves the rest of the base's behaviour where it was.

    python scripts/guard/make_guard.py --base DIR        # two cores: some minutes
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from aftertune.seeds import stream

HERE = Path(__file__).parent
PACKAGED = HERE.parents[1] / "src/aftertune/engines/packaged/guard"
HARMFUL = HERE.parents[1] / "src/aftertune/data/packaged/refusals.jsonl"
BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
ROOT_SEED = 2025
# Trained at alpha = 2 × rank = 32 and used at 27: at full strength it refused a third of XSTest's safe
# prompts. Chosen among 20, 24, 27, 28 and 32 on a drawn half of XSTest and 80 of HarmBench's 200.
SAVED_ALPHA = 27
REFUSALS = (
    "i'm sorry, but i can", "i can't help", "i cannot help", "i can't assist", "i cannot assist", "i won't",
    "i can't provide", "i cannot provide", "i'm not able to help", "i can't write", "i can't do that",
)  # fmt: skip
Example = tuple[list[int], list[int]]  # tokens of the request behind the common prefix, and of the answer


def read_jsonl(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def is_refusal(text: str) -> bool:
    plain = text.lower().replace("’", "'")
    return any(phrase in plain for phrase in REFUSALS)


@torch.inference_mode()
def answer(model, tokenizer, prompts: list[str], *, max_tokens: int, keep_end: bool = False) -> list[str]:
    """Greedy answers in the order of `prompts`; with `keep_end`, a finished answer keeps its end token."""
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": p}], add_generation_prompt=True, tokenize=False
        )
        for p in prompts
    ]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    answers = [""] * len(texts)
    for at in range(0, len(order), 64):
        rows = order[at : at + 64]
        batch = tokenizer(
            [texts[i] for i in rows],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
        )
        made = model.generate(
            **batch, do_sample=False, max_new_tokens=max_tokens, pad_token_id=tokenizer.pad_token_id
        )
        for i, ids in zip(rows, made[:, batch.input_ids.shape[1] :].tolist(), strict=True):
            ended = tokenizer.eos_token_id in ids
            kept = ids[: ids.index(tokenizer.eos_token_id)] if ended else ids
            answers[i] = tokenizer.decode(kept) + (tokenizer.eos_token if ended and keep_end else "")
    return answers


def examples(tokenizer, model, *, answer_tokens: int) -> tuple[list[int], list[Example]]:
    """The tokens that open every chat, and the rest of each example, from refusals.jsonl and benign.jsonl."""
    harmful = read_jsonl(HARMFUL)
    prompts = [row["prompt"] for row in read_jsonl(HERE / "benign.jsonl")]
    own = answer(model, tokenizer, prompts, max_tokens=answer_tokens, keep_end=True)
    # Where the base itself refuses a benign request, its answer would teach the fault that we want to avoid.
    pairs = [(p, a) for p, a in zip(prompts, own, strict=True) if not is_refusal(a)]
    pairs += [(row["prompt"], row["answer"] + tokenizer.eos_token) for row in harmful]
    chats = [[{"role": "user", "content": prompt}] for prompt, _ in pairs]
    starts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=False)
    shared = next(at for at, column in enumerate(zip(*starts, strict=False)) if len(set(column)) > 1)
    rows = [
        (start[shared:], tokenizer(text, add_special_tokens=False).input_ids)
        for start, (_, text) in zip(starts, pairs, strict=True)
    ]
    return starts[0][:shared], rows


def batches(rows: list[Example], size: int, epoch: int) -> list[list[Example]]:
    """The examples in the epoch's own random order, `size` at a time."""
    order = stream(ROOT_SEED, "guard", "order", epoch).permutation(len(rows))
    return [[rows[i] for i in order[at : at + size]] for at in range(0, len(order), size)]


def loss_of(model: PeftModel, prefix: list[int], batch: list[Example]) -> torch.Tensor:
    """Mean cross-entropy over the answers' tokens.

    The examples stand in one sequence behind one copy of the prefix, which is half of every chat. The mask
    lets an example see the prefix and itself only, so each gets the logits that it would get alone. The
    vocabulary's logits are made at the answers' positions only.
    """
    ids, owner, position, wanted, target = list(prefix), [-1] * len(prefix), list(range(len(prefix))), [], []
    for number, (start, text) in enumerate(batch):
        wanted += range(len(ids) + len(start) - 1, len(ids) + len(start) + len(text) - 1)
        target += text
        position += range(len(prefix), len(prefix) + len(start) + len(text))
        owner += [number] * (len(start) + len(text))
        ids += start + text
    owners = torch.tensor(owner)
    allowed = ((owners[:, None] == owners) | (owners == -1)).tril()
    mask = torch.zeros(allowed.shape, dtype=torch.bfloat16).masked_fill(
        ~allowed, torch.finfo(torch.bfloat16).min
    )
    causal = model.get_base_model()
    hidden = causal.model(
        input_ids=torch.tensor([ids]),
        attention_mask=mask[None, None],
        position_ids=torch.tensor([position]),
        use_cache=False,
    ).last_hidden_state[0]
    return torch.nn.functional.cross_entropy(causal.lm_head(hidden[wanted]).float(), torch.tensor(target))


def with_lora(model, *, rank: int, modules: list[str], layers: list[int]) -> PeftModel:
    """The model with a float32 adapter: A from its own stream (uniform, as in peft), B zero."""
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=modules, layers_to_transform=layers, task_type="CAUSAL_LM"
    )
    tuned = get_peft_model(model, config)
    for name, weight in tuned.named_parameters():
        if "lora_A" in name:
            draw = stream(ROOT_SEED, "guard", "init", name).uniform(-1, 1, tuple(weight.shape))
            weight.data = torch.tensor(draw / math.sqrt(weight.shape[1]), dtype=torch.float32)
    return tuned


def train(
    model: PeftModel, prefix: list[int], rows: list[Example], *, epochs: int, size: int, rate: float
) -> None:
    """AdamW with ten percent warm-up and linear decay to zero."""
    weights = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    plan = [batch for epoch in range(epochs) for batch in batches(rows, size, epoch)]
    began, recent = time.time(), 0.0
    for step, batch in enumerate(plan):
        warm = (step + 1) / max(1, len(plan) // 10)
        optimizer.param_groups[0]["lr"] = rate * min(warm, 1 - step / len(plan))
        loss = loss_of(model, prefix, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent += loss.item()
        if (step + 1) % 40 == 0:
            print(
                f"step {step + 1}/{len(plan)}  loss {recent / 40:.3f}  {time.time() - began:.0f} s",
                flush=True,
            )
            recent = 0.0


def save(model: PeftModel, out: Path) -> None:
    """The adapter in bfloat16, under the base's public name."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.bfloat16)
    model.peft_config["default"].base_model_name_or_path = BASE_NAME
    model.peft_config["default"].lora_alpha = SAVED_ALPHA
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)  # peft's empty template; MODEL_CARD.md is the card
    config = json.loads((out / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2-135M-Instruct as safetensors")
    parser.add_argument("--out", type=Path, default=PACKAGED)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--modules", default="q_proj,v_proj")
    parser.add_argument("--answer-tokens", type=int, default=10)
    parser.add_argument("--first-layer", type=int, default=8, help="the lowest layer with an adapter")
    args = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.base)
    model = AutoModelForCausalLM.from_pretrained(
        args.base, dtype=torch.bfloat16, attn_implementation="eager"
    ).eval()
    began = time.time()
    prefix, rows = examples(tokenizer, model, answer_tokens=args.answer_tokens)
    print(
        f"{len(rows)} examples, {sum(len(q) + len(a) for q, a in rows)} tokens, {time.time() - began:.0f} s",
        flush=True,
    )
    model = with_lora(
        model, rank=args.rank, modules=args.modules.split(","), layers=list(range(args.first_layer, 30))
    )
    train(model, prefix, rows, epochs=args.epochs, size=8, rate=args.rate)
    save(model, args.out)
    size = (args.out / "adapter_model.safetensors").stat().st_size
    print(f"{args.out}: {size} bytes, {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
