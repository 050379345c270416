"""What `check` prints: the study's cells, its cost and its precision."""

from aftertune.stages.check import Estimate, Resolved


def estimate_lines(resolved: Resolved, estimate: Estimate) -> list[str]:
    """A study in a dozen lines, for a person about to run it."""
    study = resolved.study
    tasks = ", ".join(f"{task.name} ({len(task.items)} {task.intent} items)" for task in resolved.tasks)
    recipes = ", ".join(study.recipes) or "none: the base alone"
    lines = [
        f"{study.name}: all keys, data, prompts and the model are in order",
        f"  model        {resolved.model.name} ({resolved.model.sha256[:12]})",
        f"  recipes      {recipes}, × {len(study.seed_list)} seeds = {estimate.n_checkpoints} checkpoints",
        f"  tasks        {tasks}",
        f"  decodings    {', '.join(study.decodings)}",
        f"  responses    {estimate.n_responses:,}, judged {estimate.n_judgments:,} times",
        f"  longest      prompt of {resolved.max_prompt_tokens} tokens",
        f"  tokens       {estimate.n_training_tokens:,} trained, about {estimate.generated_tokens:,} drawn",
        f"  time         about {_time(estimate.time_s)} on two CPU cores like those in docs/log.md",
        f"  disk         about {estimate.disk_bytes / 1e6:,.0f} MB",
        f"  memory       {estimate.attention_bytes / 1e9:.1f} GB for attention in training, beside the model",
    ]
    if estimate.half_width is None or estimate.detectable_difference is None:
        lines.append(
            "  precision    one seed or no recipe: no interval for a recipe; 5 seeds or more give one"
        )
    else:
        lines.append(
            f"  precision    ±{100 * estimate.half_width:.1f} points for a recipe's rate; a difference of"
            f" {100 * estimate.detectable_difference:.1f} points is found with 80% power,"
            " if seeds move the rate by 4"
        )
    return lines


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
