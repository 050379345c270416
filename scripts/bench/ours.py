"""aftertune's transformers engine: all requests of all checkpoints at once; exact on a CPU, fast on a GPU.

python -m bench.ours MODEL JOBS.json        # jobs also with the user's "prompt"
"""

import time

from bench.contender import options, read_jobs, say


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--batch-rows", type=int, default=128)
    asked = parser.parse_args()
    jobs = read_jobs(asked.jobs)
    start = time.monotonic()
    from aftertune.engines.base import make_request
    from aftertune.engines.loading import resolve_model
    from aftertune.engines.transformers import TransformersEngine
    from aftertune.records import Checkpoint, CheckpointStatus, Finish
    from aftertune.study import Decoding, TransformersSpec

    source = resolve_model(str(asked.model))
    spec = TransformersSpec(device=asked.device, batch_rows=asked.batch_rows)
    engine = TransformersEngine(source, spec, numerics="exact" if asked.device == "cpu" else "fast")
    engine.clean_base()  # loads the model
    loaded = time.monotonic()

    base = Checkpoint("base", None, "base", CheckpointStatus.OK, "", str(source.path), source.sha256)
    paths = {job["checkpoint"] for job in jobs if job["checkpoint"]}
    checkpoints = {
        path: Checkpoint("tuned", number, "adapter", CheckpointStatus.OK, "", path, None)
        for number, path in enumerate(sorted(paths), start=1)
    }
    decoding = Decoding(temperature=asked.temperature, max_tokens=asked.max_tokens)
    identity = engine.identity
    requests = []
    for number, job in enumerate(jobs):
        checkpoint = checkpoints.get(job["checkpoint"], base)
        prompt = engine.render(job["prompt"], None)
        if list(prompt.token_ids) != job["prompt_token_ids"]:
            raise SystemExit(f"job {number}: the prompt renders to other tokens than the job's")
        stream = (checkpoint.label, number, job["seed"])
        requests.append(
            make_request(checkpoint, prompt, decoding, root_seed=1, stream=stream, engine=identity)
        )
    done = list(engine.complete(requests))
    generation_s = time.monotonic() - loaded
    failed = [completion.reason for completion in done if completion.finish is None]
    if failed:
        raise SystemExit(f"{len(failed)} responses failed, first: {failed[0]}")
    tokens = sum(completion.n_tokens + (completion.finish is Finish.STOP) for completion in done)
    say(start_up_s=loaded - start, generation_s=generation_s, responses=len(done), tokens=tokens)


if __name__ == "__main__":
    main()
