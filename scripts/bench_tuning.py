"""How fast the training is: a plain peft loop beside aftertune's, and on a GPU seeds together too.

    python scripts/bench_tuning.py                  # CPU: a peft loop and ours, the same rows
    python scripts/bench_tuning.py --device cuda    # and all seeds in one pass; random weights

Orders of the rows differ, so losses are not to be compared step by step (tests/tuning does that).
Each contender runs in a process of its own, which says its peak memory; runs of the contenders alternate, so
that a busy machine harms both alike. The table goes to standard error, JSON to standard output. Tokens are
real ones, padding not counted; processor seconds are those of all threads.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from aftertune.data import load_conversations
from aftertune.engines.loading import load_model, load_tokenizer, resolve_model
from aftertune.study import TuneRecipe
from aftertune.tuning.batches import learning_rate, plan_steps
from aftertune.tuning.encode import Example, encode_all
from aftertune.tuning.streams import TrainingStreams
from aftertune.tuning.train import train, train_together, training_dtype

DATA = "packaged:chat"
SHAPES = {  # with random weights where no weights can be had
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    "llama-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
}
Contender = Callable[[Any, list[Example], TuneRecipe, int], list[float]]


def peft_loop(model: Any, examples: list[Example], recipe: TuneRecipe, n_seeds: int) -> list[float]:
    """What people write: padded batches, labels, peft's adapter, torch's AdamW. The first seed's losses."""
    from peft import LoraConfig, get_peft_model

    logs: list[list[float]] = []
    for seed in range(1, n_seeds + 1):
        torch.manual_seed(seed)
        config = LoraConfig(
            task_type="CAUSAL_LM", r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules="all-linear"
        )
        adapted: Any = get_peft_model(model, config)
        adapted.train()
        trained = [p for p in adapted.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        # A shuffled order, as a DataLoader draws it: its batches hold rows of every length.
        order = torch.randperm(len(examples)).tolist()
        batches = [order[i : i + recipe.batch_size] for i in range(0, len(order), recipe.batch_size)]
        losses: list[float] = []
        for step, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(
                    step, n_steps=len(batches), peak=recipe.learning_rate, warmup=recipe.warmup
                )
            loss = adapted(**padded([examples[row] for row in batch], model.device)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        logs.append(losses)
        model = adapted.unload()
    return logs[0]


def padded(rows: list[Example], device: torch.device) -> dict[str, torch.Tensor]:
    """A batch as transformers' collator for labelled tokens makes it."""
    width = max(len(row.input_ids) for row in rows)

    def filled(values: list[tuple[int, ...]], filler: int) -> torch.Tensor:
        return torch.tensor([[*line, *[filler] * (width - len(line))] for line in values], device=device)

    return {
        "input_ids": filled([row.input_ids for row in rows], 0),
        "labels": filled([row.labels for row in rows], -100),
        "attention_mask": filled([(1,) * len(row.input_ids) for row in rows], 0),
    }


def alone(model: Any, examples: list[Example], recipe: TuneRecipe, n_seeds: int) -> list[float]:
    """Our training, one seed after another."""
    logs: list[list[float]] = []
    for seed in range(1, n_seeds + 1):
        losses: list[float] = []
        train(
            model,
            examples,
            recipe,
            streams=TrainingStreams(2025, "bench", seed),
            pad_token_id=0,
            on_step=lambda step, losses=losses: losses.append(step.loss),
        )
        logs.append(losses)
    return logs[0]


def together(model: Any, examples: list[Example], recipe: TuneRecipe, n_seeds: int) -> list[float]:
    """Our training, all seeds in one pass."""
    losses: list[float] = []
    train_together(
        model,
        examples,
        recipe,
        streams=[TrainingStreams(2025, "bench", seed) for seed in range(1, n_seeds + 1)],
        pad_token_id=0,
        on_step=lambda seed, step: None if seed else losses.append(step.loss),
    )
    return losses


CONTENDERS: dict[str, Contender] = {"peft": peft_loop, "alone": alone, "together": together}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """One timed run of one contender: a short one to warm up, then all rows with all seeds."""
    # A folder need hold no weights: with a shape they are random.
    folder = Path(args.model) if Path(args.model).is_dir() else resolve_model(args.model).path
    examples = list(encode_all(load_conversations(DATA), load_tokenizer(folder), max_length=1024))
    examples = examples[: args.rows]
    dtype = training_dtype(args.device) if args.dtype == "auto" else getattr(torch, args.dtype)
    model = _model(args, dtype, folder)
    recipe = TuneRecipe.model_validate(
        {"data": DATA, "rank": 8, "batch_size": 8, "learning_rate": 5e-4, "epochs": 1}
    )
    contender = CONTENDERS[args.run]
    contender(model, examples[:8], recipe, 1)
    if args.device == "cuda":
        contender(model, examples[:8], recipe, args.seeds)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started, busy = time.perf_counter(), time.process_time()
    losses = contender(model, examples, recipe, args.seeds)
    if args.device == "cuda":
        torch.cuda.synchronize()
    elapsed_s, processor_s = time.perf_counter() - started, time.process_time() - busy
    steps = plan_steps(
        [len(e.input_ids) for e in examples],
        batch_size=8,
        accumulation=1,
        epochs=1,
        rng=TrainingStreams(2025, "bench", 1).generator("order"),
    )
    n_tokens = args.seeds * sum(len(example.input_ids) for example in examples)
    peak = torch.cuda.max_memory_allocated() if args.device == "cuda" else 1024 * _peak_kib()
    return {
        "contender": args.run,
        "dtype": str(dtype).removeprefix("torch."),
        "n_tokens": n_tokens,
        "n_steps": args.seeds * len(steps),
        "elapsed_s": elapsed_s,
        "processor_s": processor_s,
        "tokens_per_s": n_tokens / elapsed_s,
        "tokens_per_processor_s": n_tokens / processor_s,
        "peak_bytes": peak,
        "losses": losses,
    }


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _model(args: argparse.Namespace, dtype: torch.dtype, path: Path) -> Any:
    attention = "sdpa" if args.run == "peft" or args.device == "cuda" else "aftertune_matmul"
    if args.shape == "weights":
        return load_model(path, dtype=dtype, device=args.device, attention=attention)
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=49152, attn_implementation=attention, **SHAPES[args.shape])
    with torch.device(args.device):
        return LlamaForCausalLM(config).to(dtype)


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Alternating runs of two contenders, and the ratio of their medians."""
    names = ("peft", "alone", "together") if args.device == "cuda" else ("peft", "alone")
    shapes = list(SHAPES) if args.device == "cuda" else ["weights"]
    results: list[dict[str, Any]] = []
    for shape in shapes:
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(args.repeats):
            for name in names:
                command = [sys.executable, __file__, "--run", name, "--shape", shape]
                for option in ("device", "dtype", "seeds", "rows", "model"):
                    command += [f"--{option}", str(getattr(args, option))]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                runs[name].append(json.loads(done.stdout))
        results.append(_summary(shape, runs))
    threads = torch.get_num_threads()
    device = (
        torch.cuda.get_device_name() if args.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    )
    return {"device": device, "threads": threads, "seeds": args.seeds, "results": results}


def _summary(shape: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    rows: dict[str, dict[str, float]] = {}
    for name, of_name in runs.items():
        rows[name] = {
            key: statistics.median(run[key] for run in of_name)
            for key in ("elapsed_s", "tokens_per_s", "tokens_per_processor_s", "peak_bytes")
        }
        line = rows[name]
        print(
            f"{shape:14} {of_name[0]['dtype']:9} {name:9} {line['elapsed_s']:7.1f} s "
            f"{line['tokens_per_s']:8.0f} tokens/s {line['tokens_per_processor_s']:8.0f} per processor s "
            f"{line['peak_bytes'] / 2**20:7.0f} MiB",
            file=sys.stderr,
        )
    first, *_, last = rows.values()
    ratios = {key: last[key] / first[key] for key in ("tokens_per_s", "tokens_per_processor_s")}
    print(
        f"{'':14} ratio {ratios['tokens_per_s']:.2f} (processor {ratios['tokens_per_processor_s']:.2f})",
        file=sys.stderr,
    )
    return {"shape": shape, "runs": runs, "medians": rows, "ratios": ratios}


def main() -> None:
    """Compare, or (in a process of its own) run one contender."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=201, help="rows of the data, 201 being all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="smollm2-guarded", help="its tokenizer, on a CPU its weights too")
    parser.add_argument("--run", choices=tuple(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--shape", default="weights", help=argparse.SUPPRESS)
    args = parser.parse_args()
    print(json.dumps(run(args) if args.run else compare(args), indent=None if args.run else 2))


if __name__ == "__main__":
    main()
