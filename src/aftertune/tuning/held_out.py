"""Held-out loss: how well a checkpoint predicts answers of its recipe's data that no seed trained on.

The loss is the mean over all answer tokens of the held-out rows of −log p(token | what stands before), in
nats, as in training (encode.py says which tokens are the answer's), each row computed alone. It tells whether
the tuning taught what its data hold; it tells nothing of safety.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aftertune.data import TuningData
from aftertune.errors import DataError
from aftertune.records import Checkpoint
from aftertune.seeds import stream
from aftertune.store import content_key

if TYPE_CHECKING:
    from aftertune.engines.transformers import TransformersEngine
    from aftertune.tuning.encode import Example

REVISION = 1  # raise it when a change here changes a loss


@dataclass(frozen=True, slots=True)
class HeldOutLoss:
    """A loss in nats per answer token; None with a reason where there is none."""

    loss: float | None
    reason: str
    n_rows: int
    n_tokens: int


def hold_out(
    data: TuningData, n: int, *, recipe: str, root_seed: int
) -> tuple[TuningData, TuningData | None]:
    """The rows to train on, and the n held out: drawn once for all seeds, never from a safety mix.

    Raises:
        DataError: nothing of the data's own would be left to train on.
    """
    if n == 0:
        return data, None
    if n >= data.n_own:
        raise DataError(
            f"recipes.{recipe}.held_out is {n}, but {data.source} has {data.n_own} rows of its own",
            "hold fewer rows out, or add rows",
        )
    drawn = stream(root_seed, "tune", recipe, "held-out").choice(data.n_own, size=n, replace=False)
    held = frozenset(drawn.tolist())
    rows = range(len(data.conversations))
    return (
        _some(data, [i for i in rows if i not in held], f"{data.source}; without {n} held-out rows"),
        replace(_some(data, sorted(held), f"{data.source}; {n} held-out rows"), n_mixed=0),
    )


def held_out_loss(
    engine: "TransformersEngine", checkpoint: Checkpoint, examples: Sequence["Example"]
) -> HeldOutLoss:
    """The loss of a checkpoint on encoded rows.

    Raises:
        EngineError: the checkpoint cannot be used.
    """
    import torch

    from aftertune.tuning.encode import IGNORED

    total, n_tokens = 0.0, 0
    for example in examples:
        labels = torch.tensor(example.labels[1:])
        wanted = (labels != IGNORED).nonzero()[:, 0]
        logits = engine.logits(checkpoint, example.input_ids)[:-1].cpu()[wanted].float()
        total += float(
            torch.nn.functional.cross_entropy(logits, labels[wanted], reduction="none").double().sum()
        )
        n_tokens += len(wanted)
    loss = total / n_tokens
    if loss != loss or loss == float("inf"):
        return HeldOutLoss(None, "the logits are not finite", len(examples), n_tokens)
    return HeldOutLoss(loss, "", len(examples), n_tokens)


def held_out_key(
    engine: "TransformersEngine", checkpoint: Checkpoint, held: TuningData, *, max_length: int
) -> str:
    """The hash of all that decides a loss."""
    return content_key(
        {
            "revision": REVISION,
            "checkpoint": checkpoint.sha256,
            "label": checkpoint.label if checkpoint.sha256 is None else None,
            "status": checkpoint.status,
            "data": held.sha256,
            "max_length": max_length,
            "engine": {name: value for name, value in engine.identity.items() if name != "loop_revision"},
        }
    )


def _some(data: TuningData, rows: list[int], source: str) -> TuningData:
    conversations = tuple(data.conversations[row] for row in rows)
    sha256 = content_key({"data": data.sha256, "rows": rows})
    return replace(data, source=source, sha256=sha256, conversations=conversations)
