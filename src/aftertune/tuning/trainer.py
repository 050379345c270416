"""One training of a study, from its recipe and seed to the checkpoint in its folder."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
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
from aftertune.tuning.train import TrainingOutcome, save_checkpoint, train_together, training_dtype
from aftertune.tuning.trainable import goes_together, load_quantized

TRAINING_REVISION = 2  # raise it when a change of our training changes its bytes


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
        """`train_together` for one seed."""
        return self.train_together(recipe, data, name=name, seeds=[seed], folders=[folder], on_step=on_step)[
            0
        ]

    def train_together(
        self,
        recipe: TuneRecipe,
        data: TuningData,
        *,
        name: str,
        seeds: Sequence[int],
        folders: Sequence[Path],
        on_step: Callable[[], None],
    ) -> list[Checkpoint]:
        """Train seeds of a recipe, and write each one's checkpoint and log of losses into its folder.

        Returns:
            Of each seed: OK with a path relative to its folder, or diverged with a reason.

        Raises:
            TuningError: the training cannot start.
            StoreError: a checkpoint cannot be written.
        """
        with ExitStack() as opened:
            losses = [
                opened.enter_context((folder / "training.jsonl").open("w", encoding="utf-8"))
                for folder in folders
            ]

            def write_down(place: int, step: StepLog) -> None:
                losses[place].write(json.dumps(asdict(step)) + "\n")
                on_step()

            outcomes = train_together(
                self._model(recipe),
                self._examples(name, recipe, data),
                recipe,
                streams=[TrainingStreams(self.root_seed, name, seed, recipe.vary) for seed in seeds],
                pad_token_id=0,  # any id: what it stands for is masked
                on_step=write_down,
            )
        return [
            self._saved(outcome, name, seed, folder)
            for outcome, seed, folder in zip(outcomes, seeds, folders, strict=True)
        ]

    def seeds_at_once(self, recipe: TuneRecipe, data: TuningData, *, name: str) -> int:
        """How many seeds of the recipe to train in one pass: on a GPU as many as fit, elsewhere one."""
        if not trains_together(self.engine.device, recipe):
            return 1
        examples = self._examples(name, recipe, data)
        lengths = sorted((len(example.input_ids) for example in examples), reverse=True)[: recipe.batch_size]
        return seeds_that_fit(self._model(recipe), lengths, free_bytes=free_bytes())

    def _saved(self, outcome: TrainingOutcome, name: str, seed: int, folder: Path) -> Checkpoint:
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


def trains_together(device: str, recipe: TuneRecipe) -> bool:
    """Whether seeds of the recipe share passes through the base: on a GPU, which a small batch leaves idle.

    A CPU gains nothing from it.
    """
    return device.startswith("cuda") and goes_together(recipe)


def free_bytes() -> int:
    """Memory of the GPU that is free, or held by torch and unused."""
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def seeds_that_fit(model: PreTrainedModel, lengths: Sequence[int], *, free_bytes: int) -> int:
    """How many seeds can be trained in one pass, at least one, in six tenths of the free memory.

    A seed is taken to need, for each token of its largest batch, twice the inputs and outputs of all linear
    layers, and for each layer and head the attention weights, in the model's dtype and in float32.

    Args:
        model: the base.
        lengths: of the rows of the largest batch, in tokens.
        free_bytes: memory beside the base.
    """
    text: Any = model.config.get_text_config()
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    vectors = 2 * sum(module.in_features + module.out_features for module in linear)
    weights = text.num_hidden_layers * text.num_attention_heads * max(lengths)
    size = model.dtype.itemsize
    needed = sum(lengths) * (size * vectors + (size + 4) * weights)
    return max(1, int(0.6 * free_bytes) // needed)


def trainer_identity(engine: TransformersEngine, recipe: TuneRecipe) -> dict[str, Any]:
    """All of trainer and machine that can change a checkpoint's bytes; part of every training's key.

    `seeds` says whether seeds are trained together, but not which: that changes a result by rounding alone.
    """
    names = ("torch", "transformers", "peft", "tokenizers", "threads", "processor", "attention")
    identity = engine.identity
    return {
        "training_revision": TRAINING_REVISION,
        "seeds": "together" if trains_together(engine.device, recipe) else "alone",
        "dtype": str(training_dtype(engine.device)).removeprefix("torch."),
        **{name: identity[name] for name in names},
    }
