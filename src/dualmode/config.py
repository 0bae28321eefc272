"""Recipes: validated configurations of training runs, stored as YAML files.

``dualmode.recipe_files`` reads recipes from files.
"""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from dualmode.sections import (
    ModelConfig,
    PretrainingConfig,
    PruningConfig,
    RandomQuantizerConfig,
    Section,
)

__all__ = [
    "DataConfig",
    "DecodingConfig",
    "DeviceSubnetConfig",
    "InitConfig",
    "ModelConfig",
    "PretrainingConfig",
    "PruningConfig",
    "RandomQuantizerConfig",
    "Recipe",
    "Section",
    "TextConfig",
    "TrainingConfig",
]


class TextConfig(Section):
    """Normalisation of transcripts, and tokens."""

    case: Literal["lower", "upper"] = "lower"
    digits: Literal["refuse", "spell"] = "refuse"
    token_kind: Literal["unigram", "bpe"] = "unigram"
    vocabulary_size: int = Field(
        500, ge=8, description="number of tokens, including blank and <unk>"
    )


class DeviceSubnetConfig(Section):
    """The device recogniser: its context in frames of model.frame_ms, and its sparsity."""

    chunk_frames: int = Field(16, ge=1)
    left_frames: int = Field(64, ge=0)
    lookahead_frames: int = Field(4, ge=0)
    sparsity: float | None = Field(
        None,
        description="one of pruning.sparsities, or 0 for a dense device; required if there are "
        "several",
    )


class DataConfig(Section):
    """CutSets, batching and augmentation."""

    train: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    weights: tuple[float, ...] = Field(
        (), description="how often each of train occurs in an epoch; default 1"
    )
    noise: str | None = Field(None, description="CutSet of noise to mix in")
    batch_seconds: float = Field(
        120.0, gt=0, description="per batch and process of torchrun, padding and tails included"
    )
    buckets: int = Field(30, ge=1)
    max_unreadable_share: float = Field(
        0.01, ge=0, le=1, description="unreadable share of the training set above which a run stops"
    )
    min_seconds: float = Field(0.1, ge=0)
    max_seconds: float = Field(30.0, gt=0)
    min_confidence: float = Field(0.0, ge=0, le=1, description="texts below it are left out")
    confidence_power: float = Field(
        0.0, ge=0, description="an epoch repeats a cut by its confidence to this power"
    )
    curriculum_seconds: float = Field(
        0.0, ge=0, description="longest utterance at the first step; 0 disables the curriculum"
    )
    curriculum_steps: int = Field(0, ge=0, description="steps until all lengths are used")
    join_probability: float = Field(
        0.25, ge=0, lt=1, description="probability that an utterance is joined to another one"
    )
    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    calm_steps: int = Field(0, ge=0, description="steps before augmentation starts")
    noise_probability: float = Field(0.5, ge=0, le=1)
    noise_snr_db: tuple[float, float] = (5.0, 25.0)
    room_probability: float = Field(0.0, ge=0, le=1, description="of adding reverberation")
    telephone_probability: float = Field(0.0, ge=0, le=1, description="of a telephone line")
    gain_db: tuple[float, float] = Field((0.0, 0.0), description="range of the random gain")
    tail_silence_seconds: float = Field(
        2.0, ge=0, description="maximum; half of the audio ends in silence"
    )
    time_masks: int = Field(2, ge=0)
    time_mask_frames: int = Field(40, ge=0, description="longest time mask, in mel frames")
    frequency_masks: int = Field(2, ge=0)
    frequency_mask_bins: int = Field(20, ge=0)
    workers: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _weighted(self) -> DataConfig:
        if self.weights and len(self.weights) != len(self.train):
            raise ValueError("weights must have one number for each of train, or none")
        if any(weight <= 0 for weight in self.weights):
            raise ValueError("weights must be greater than 0: leave a corpus out of train instead")
        return self


class InitConfig(Section):
    """The model that a run starts from, if any."""

    model: str | None = Field(None, description="a model directory; set by --init")
    masks: Literal["keep", "fresh"] = Field(
        "fresh", description="start pruning from the masks of the model, or from dense weights"
    )
    freeze_subsampling_steps: int = Field(0, ge=0)
    freeze_encoder_steps: int = Field(0, ge=0, description="includes the subsampling")
    learning_rate_factor: float = Field(
        0.3, gt=0, description="factor on training.learning_rate for the trained encoder"
    )
    weight_pull: float = Field(
        0.0, ge=0, description="pull of weights towards those of the recogniser (L2-SP)"
    )
    output_pull: float = Field(
        0.0, ge=0, description="weight of the divergence from the recogniser's own outputs"
    )


class DecodingConfig(Section):
    """Decoding of transcripts."""

    blank_penalty: float = Field(0.0, description="lowers blank's score; reduces deletions")
    confidence_slope: float = Field(1.0, gt=0, description="factor of log-odds of confidences")
    confidence_offset: float = Field(0.0, description="added to log-odds of confidences")
    phrase_threshold: float = Field(-1.0, le=0, description="least margin of a phrase")


class TrainingConfig(Section):
    """Optimiser, weights of the losses, and the loop."""

    objective: Literal["finetune", "pretrain"] = "finetune"
    seed: int = 1
    steps: int = Field(10000, ge=1)
    minutes: float | None = Field(
        None, gt=0, description="maximum duration; all schedules scale with it"
    )
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(500, ge=1)
    final_learning_rate: float = Field(0.02, ge=0, le=1, description="share of the peak at the end")
    weight_decay: float = Field(1e-2, ge=0)
    clip_norm: float = Field(5.0, gt=0)
    average_decay: float = Field(
        0.999, ge=0, lt=1, description="decay of the exponential moving average of the weights"
    )
    precision: Literal["auto", "32", "bf16"] = "auto"
    processes: int | None = Field(
        None, ge=1, description="processes that share a batch on CPUs; default: one per core"
    )
    band: int = Field(5, ge=2, description="tokens per frame in the pruned transducer loss")
    transducer_start: float = Field(
        0.0, ge=0, lt=1, description="share of the run in which only the CTC head trains"
    )
    transducer_ramp: float = Field(
        0.05, gt=0, lt=1, description="share of the run in which the transducer then fades in"
    )
    simple_weight: float = Field(0.3, ge=0)
    ctc_weight: float = Field(0.2, ge=0, description="once the transducer has its full weight")
    distillation: Literal["none", "lattice", "ctc"] = "ctc"
    distillation_weight: float = Field(0.2, ge=0)
    device_subnet: DeviceSubnetConfig = DeviceSubnetConfig()
    subnets: tuple[Literal["server", "device"], ...] = Field(
        ("server", "device"),
        min_length=1,
        description="recognisers trained together; a single one is for comparison",
    )
    sampled_subnet: bool = Field(
        False, description="train one more randomly sampled subnet in each step"
    )
    step_sharing: Literal["all", "split", "split_taught"] = Field(
        "split",
        description="whether recognisers train on the whole batch or each on a part; split_taught: "
        "server also encodes the other parts, without a backward pass, as their teacher",
    )
    device_share: float = Field(
        0.5, gt=0, lt=1, description="split: device's share of the utterances of both recognisers"
    )
    device_share_when_pruned: float | None = Field(
        None, gt=0, lt=1, description="split: device's share once the masks are fixed"
    )
    sampled_share: float = Field(0.33, gt=0, lt=1, description="split: share of the batch")
    log_every_steps: int = Field(50, ge=1)
    validate_every_steps: int = Field(500, ge=1)
    validation_utterances: int = Field(200, ge=1)
    checkpoint_every_steps: int = Field(500, ge=1)

    @field_validator("precision", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        """YAML reads 32 as a number."""
        return str(value) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _server_first(self) -> TrainingConfig:
        if self.subnets not in {("server", "device"), ("server",), ("device",)}:
            raise ValueError("subnets must be [server, device], [server] or [device]")
        return self


_NOT_IN_PRETRAINING = ("join_probability", "tail_silence_seconds", "time_masks", "frequency_masks")


class Recipe(Section):
    """A complete recipe. ``dualmode train RECIPE --set training.steps=100`` overrides keys."""

    name: str
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    pruning: PruningConfig = PruningConfig()
    data: DataConfig = DataConfig()
    pretraining: PretrainingConfig = PretrainingConfig()
    init: InitConfig = InitConfig()
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()
    credits: tuple[str, ...] = Field((), description="corpora to credit in the model card")

    @model_validator(mode="after")
    def _all_masks_train(self) -> Recipe:
        if len(self.pruning.sparsities) > 1 and not self.training.sampled_subnet:
            raise ValueError(
                "pruning.sparsities has several targets, but device is trained at one of them: "
                "set training.sampled_subnet to true"
            )
        return self

    @model_validator(mode="after")
    def _pulls_are_of_recognisers(self) -> Recipe:
        if self.training.objective == "pretrain" and (
            self.init.weight_pull,
            self.init.output_pull,
        ) != (0, 0):
            raise ValueError("init.weight_pull and init.output_pull apply to fine-tuning only")
        return self

    @model_validator(mode="after")
    def _device_has_a_mask(self) -> Recipe:
        chosen, trained = self.training.device_subnet.sparsity, self.pruning.sparsities
        if chosen not in (*trained, 0.0) and not (chosen is None and len(trained) == 1):
            raise ValueError(
                f"training.device_subnet.sparsity={chosen} must be one of "
                f"pruning.sparsities={list(trained)}, or 0"
            )
        return self

    @model_validator(mode="after")
    def _stacks_lie_within_a_frame(self) -> Recipe:
        stacked = self.pretraining.random_quantizer.stacked_mels
        reach = 7 if self.model.frame_ms == 40 else 15
        if stacked > reach:
            raise ValueError(
                f"pretraining.random_quantizer.stacked_mels={stacked} must be at most {reach}, the "
                f"mel frames that a frame of {self.model.frame_ms} ms reads"
            )
        return self

    @property
    def device_sparsity(self) -> float:
        """Sparsity of the device recogniser."""
        chosen = self.training.device_subnet.sparsity
        return self.pruning.sparsities[0] if chosen is None else chosen

    @model_validator(mode="before")
    @classmethod
    def _pretrains_on_one_utterance(cls, tree: dict[str, Any]) -> dict[str, Any]:
        """Spans and distractors must belong to one unmodified utterance."""
        sections = [tree.get(name) for name in ("training", "data", "pretraining")]
        training, data, pretraining = (s if isinstance(s, dict) else {} for s in sections)
        if training.get("objective") != "pretrain" or pretraining.get("objective") == "phones":
            return tree
        wanted = [f"data.{key}" for key in _NOT_IN_PRETRAINING if data.get(key)]
        if wanted:
            raise ValueError(f"pre-training needs {', '.join(wanted)} to be 0")
        return {**tree, "data": {**dict.fromkeys(_NOT_IN_PRETRAINING, 0), **data}}

    def to_yaml(self) -> str:
        """The resolved recipe as YAML, including defaults."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
