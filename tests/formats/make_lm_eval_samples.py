"""Real samples of lm_eval for the tests: two tasks of our own over tiny random models, no network.

As a script (with .venv-formats/bin/python): make_lm_eval_samples.py FOLDER writes
FOLDER/MODEL/*/samples_….jsonl. The small files under data/lm_eval were made so, by the version that their
results files name; from these the description of the machine was taken out.
"""

import json
import os
import sys
from pathlib import Path

GENERATE = """\
task: toy_generate
dataset_path: json
dataset_kwargs: {data_files: {test: "%s"}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
filter_list:
  - {name: strict, filter: [{function: regex, regex_pattern: "([0-9]+)"}, {function: take_first}]}
  - {name: loose, filter: [{function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
metadata: {version: 1.0}
"""
CHOOSE = """\
task: toy_choose
dataset_path: json
dataset_kwargs: {data_files: {test: "%s"}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["yes", "no"]
doc_to_target: "{{label}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""


def make(folder: Path, models: dict[str, Path | None], *, n_items: int = 4) -> Path:
    """Run both tasks on each model (None: lm_eval's dummy); one folder of results a model."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    tasks = folder / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    data = tasks / "items.jsonl"
    rows = [{"question": f"Is {i} even?", "answer": str(i), "label": i % 2} for i in range(n_items)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("generate", GENERATE), ("choose", CHOOSE)):
        (tasks / f"{name}.yaml").write_text(text % data)
    for name, path in models.items():
        tracker = EvaluationTracker(output_path=str(folder / name))
        found = simple_evaluate(
            model="hf" if path else "dummy",
            model_args=f"pretrained={path},dtype=float32" if path else None,
            tasks=["toy_generate", "toy_choose"],
            task_manager=TaskManager(include_path=str(tasks)),
            evaluation_tracker=tracker,
            log_samples=True,
            batch_size=4,
            device="cpu",
            bootstrap_iters=0,
        )
        assert found is not None
        samples = found.pop("samples")
        tracker.save_results_aggregated(results=found, samples=samples)
        for task, mine in samples.items():
            tracker.save_results_samples(task_name=task, samples=mine)
    return folder


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tiny import make_tiny_model

    out = Path(sys.argv[1])
    tiny = {f"tiny-{seed}": make_tiny_model(out / "models" / f"tiny-{seed}", seed=seed) for seed in (1, 2)}
    make(out, tiny)
