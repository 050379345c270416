"""One training of a study, from its recipe and seed to the checkpoint in its folder."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel

from aftertune.data import TuningData
from aftertune.engines.attention import MATMUL_ATTENTION
from aftertune.engines.loading import load_model
from aftertune.engines.transformers import TransformersEngine
from aftertune.errors import StoreError
from aftertune.records import Checkpoint, CheckpointStatus
from aftertune.study import TuneRecipe
from aftertune.tuning.checkpoints import checkpoint_sha256
from aftertune.tuning.encode import Example, encode_all
from aftertune.tuning.optimise import StepLog
from aftertune.tuning.streams import TrainingStreams
from aftertune.tuning.train import save_checkpoint, train, training_dtype
from aftertune.tuning.trainable import load_quantized

TRAINING_REVISION = 1  # raise it when a change of our training changes its bytes


@dataclass
class Trainer:
    """Trains on one base model, loaded once for all recipes and seeds."""

    engine: TransformersEngine
    root_seed: int
    _encoded: dict[str, tuple[Example, ...]] = field(default_factory=dict)

    def train(
        self,
        recipe: TuneRecipe,
        data: TuningData,
        *,
        name: str,
        seed: int,
        folder: Path,
        on_step: Callable[[], None],
    ) -> Checkpoint:
        """Train, and write the checkpoint and its log of losses into `folder`.

        Returns:
            OK with a path relative to `folder`, or diverged with a reason.

        Raises:
            TuningError: the training cannot start.
            StoreError: the checkpoint cannot be written.
        """
        with (folder / "training.jsonl").open("w", encoding="utf-8") as losses:

            def write_down(step: StepLog) -> None:
                losses.write(json.dumps(asdict(step)) + "\n")
                on_step()

            outcome = train(
                self._model(recipe),
                self._examples(name, recipe, data),
                recipe,
                streams=TrainingStreams(self.root_seed, name, seed, recipe.vary),
                pad_token_id=0,  # any id: what it stands for is masked
                on_step=write_down,
            )
        if outcome.status is not CheckpointStatus.OK:
            return Checkpoint(name, seed, outcome.kind, outcome.status, outcome.reason, None, None)
        source = self.engine.source
        path = folder / "checkpoint"
        try:
            save_checkpoint(outcome, path, base=source.path, base_name=f"{source.name}@{source.sha256[:12]}")
        except SafetensorError as error:
            raise StoreError(
                f"cannot write the checkpoint {name}/{seed}: {error}",
                "free some space and run the command again",
            ) from error
        return Checkpoint(name, seed, outcome.kind, outcome.status, "", path.name, checkpoint_sha256(path))

    def _model(self, recipe: TuneRecipe) -> PreTrainedModel:
        if recipe.method == "qlora":
            return self._quantized
        if training_dtype(self.engine.device) != self.engine.dtype:
            return self._in_training_dtype
        return self.engine.clean_base()

    @cached_property
    def _quantized(self) -> PreTrainedModel:
        return load_quantized(self.engine.source.path, device=self.engine.device)

    @cached_property
    def _in_training_dtype(self) -> PreTrainedModel:
        engine = self.engine
        dtype = training_dtype(engine.device)
        return load_model(engine.source.path, dtype=dtype, device=engine.device, attention=MATMUL_ATTENTION)

    def _examples(self, name: str, recipe: TuneRecipe, data: TuningData) -> tuple[Example, ...]:
        if name not in self._encoded:
            self._encoded[name] = encode_all(data, self.engine.tokenizer, max_length=recipe.max_length)
        return self._encoded[name]


def trainer_identity(engine: TransformersEngine) -> dict[str, Any]:
    """All of trainer and machine that can change a checkpoint's bytes; part of every training's key."""
    names = ("torch", "transformers", "peft", "tokenizers", "threads", "processor", "attention")
    identity = engine.identity
    return {
        "training_revision": TRAINING_REVISION,
        "dtype": str(training_dtype(engine.device)).removeprefix("torch."),
        **{name: identity[name] for name in names},
    }
