"""Models with random weights, for speed alone: a machine with a GPU may have no way to real ones.

    python -m bench.random_models prompts WORK      # where the packaged model is: prompts and a tokenizer
    python -m bench.random_models make WORK SHAPE   # on the GPU's machine: the weights, and five adapters

One token of forty is an end token: random logits are nearly alike, so responses end after some forty tokens,
about as soon as real ones.
"""

import json
import shutil
import sys
from pathlib import Path

N_ITEMS, N_ADAPTERS, RANK, MEAN_LENGTH = 100, 5, 8, 40
SHAPES = ("smollm2-135m", "llama-1b")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def prompts(work: Path) -> None:
    from aftertune.engines.chat import render_prompt
    from aftertune.engines.loading import load_tokenizer, resolve_model
    from aftertune.study import TaskSpec
    from aftertune.tasks import load_task

    source = resolve_model("smollm2-guarded")
    tokenizer = load_tokenizer(source.path)
    (work / "tokenizer").mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:
        shutil.copy(source.path / name, work / "tokenizer" / name)
    tasks = [
        load_task(TaskSpec(name=name), root_seed=1)
        for name in ("mini-harm", "mini-lookalikes", "mini-numbers")
    ]
    asked = [
        item.prompt for together in zip(*(task.items for task in tasks), strict=False) for item in together
    ]
    rendered = [
        {"prompt": prompt, "token_ids": render_prompt(tokenizer, prompt, None).token_ids} for prompt in asked
    ]
    (work / "prompts.json").write_text(json.dumps(rendered[:N_ITEMS]), encoding="utf-8")


def make(work: Path, shape: str) -> None:
    import torch
    from bench_tuning import SHAPES
    from peft import LoraConfig, get_peft_model
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    # An output matrix of its own: tied to the embeddings, random weights would repeat one token for ever.
    settings = SHAPES[shape] | {"tie_word_embeddings": False, "vocab_size": 49152}
    folder = work / shape
    shutil.copytree(work / "tokenizer", folder, dirs_exist_ok=True)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(LlamaConfig(**settings, dtype=torch.bfloat16)).to(torch.bfloat16)
    ends = list(range(2, settings["vocab_size"], MEAN_LENGTH))
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=0)
    model.save_pretrained(folder)
    for number in range(1, N_ADAPTERS + 1):
        config = LoraConfig(
            r=RANK, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
        )
        adapted = get_peft_model(model, config)
        adapted.save_pretrained(work / f"{shape}-adapter-{number}")
        model = adapted.unload()


if __name__ == "__main__":
    command, folder, *shapes = sys.argv[1:]
    if command == "prompts":
        prompts(Path(folder))
    else:
        make(Path(folder), *shapes)
