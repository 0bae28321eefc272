"""The sections of a recipe that describe the network: its sizes, pruning and pre-training.

``dualmode.config`` has the other sections, and the recipe.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The phones of the CMU dictionary without stress, and silence.
PHONES = (
    *("SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G"),
    *("HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH"),
    *("UH", "UW", "V", "W", "Y", "Z", "ZH"),
)

_WIDEST = 1 << 16  # limits what an untrusted recipe can allocate; far beyond any speech model


class Section(BaseModel):
    """A section of a recipe. It is immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Section):
    """Sizes of the supernet."""

    width: int = Field(256, ge=8, le=_WIDEST)
    layers: int = Field(6, ge=1, le=256)
    heads: int = Field(4, ge=1, le=256)
    feed_forward: int = Field(
        1024, ge=8, le=_WIDEST, description="inner width of a feed-forward module"
    )
    kernel_frames: int = Field(
        15, ge=3, le=1023, description="kernel of the depthwise convolution; odd"
    )
    frame_ms: Literal[40, 80] = Field(
        40,
        description="time from one frame of the encoder to the next; 80 adds a third convolution "
        "of stride 2 to the subsampling, and about halves the encoder's arithmetic",
    )
    subsampling_channels: int = Field(64, ge=1, le=_WIDEST)
    predictor_width: int = Field(256, ge=8, le=_WIDEST)
    context_tokens: int = Field(
        2, ge=1, le=64, description="number of previous tokens that the predictor uses"
    )
    joiner_width: int = Field(256, ge=8, le=_WIDEST)
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    norms: Literal["shared", "separate"] = Field(
        "separate", description="norm gains: shared, or separate for full and chunked context"
    )

    @model_validator(mode="after")
    def _divisible(self) -> ModelConfig:
        if self.width % (2 * self.heads):
            raise ValueError("width must be a multiple of 2 * heads (rotary positions pair up)")
        if self.kernel_frames % 2 == 0:
            raise ValueError("kernel_frames must be odd")
        return self


class PruningConfig(Section):
    """Self-pruning: which weights are pruned, by how much, and when."""

    sparsities: tuple[float, ...] = Field(
        (0.7,),
        min_length=1,
        description="targets trained together; several need training.sampled_subnet",
    )
    block_outputs: int = Field(8, ge=1)
    block_inputs: int = Field(1, ge=1)
    allocation: Literal["uniform", "global"] = "uniform"
    layer_cap: float = Field(
        0.95, gt=0, lt=1, description="largest sparsity of a layer under global allocation"
    )
    score: Literal["magnitude", "activation", "taylor"] = Field(
        "magnitude",
        description="what ranks blocks: the norm of their weights; that of weights times inputs "
        "(Wanda); or the change of the loss without them, to first order",
    )
    score_decay: float = Field(
        0.98, ge=0, lt=1, description="decay per step of what activation and taylor average"
    )
    scope: Literal["encoder", "all"] = Field("encoder", description="all: predictor, joiner too")
    start: float = Field(0.1, ge=0, lt=1, description="share of the run at which pruning starts")
    end: float = Field(0.6, gt=0, le=1, description="share of the run at which masks are fixed")
    every_steps: int = Field(50, ge=1, description="steps between two draws of the masks")

    @model_validator(mode="after")
    def _ordered(self) -> PruningConfig:
        if self.end <= self.start:
            raise ValueError("end must be greater than start")
        if not all(0.0 < s < 1.0 for s in self.sparsities):
            raise ValueError("sparsities must lie between 0 and 1, both excluded")
        if list(self.sparsities) != sorted(set(self.sparsities)):
            raise ValueError("sparsities must be strictly increasing")
        if self.allocation == "global" and self.sparsities[-1] > self.layer_cap:
            raise ValueError("layer_cap must not be below the highest of sparsities")
        return self


class RandomQuantizerConfig(Section):
    """The frozen quantiser of BEST-RQ (Chiu et al., arXiv 2202.01855)."""

    codebooks: int = Field(1, ge=1, le=64, description="each with a projection of its own")
    entries: int = Field(1024, ge=2, le=_WIDEST, description="codewords in a codebook")
    width: int = Field(16, ge=2, le=_WIDEST, description="width of a codeword")
    stacked_mels: int = Field(
        4,
        ge=1,
        le=15,
        description="mel frames in a target, of those that a frame reads: 7 of a frame of 40 ms, "
        "15 of a frame of 80 ms",
    )


class PretrainingConfig(Section):
    """The objective of pre-training and the masking of frames; the other keys belong to wav2vec 2.0
    (Baevski et al., arXiv 2006.11477), ``random_quantizer`` to BEST-RQ, ``phones`` to the
    classification of phones."""

    objective: Literal["wav2vec2", "best_rq", "phones"] = Field(
        "wav2vec2",
        description="identify the quantised latents of masked frames among distractors, predict "
        "the codes of a frozen random quantiser, or classify aligned phones",
    )
    phones: tuple[str, ...] = Field(
        PHONES, min_length=2, description="classes of the objective phones"
    )
    random_quantizer: RandomQuantizerConfig = RandomQuantizerConfig()
    mask_probability: float = Field(
        0.65, gt=0, le=1, description="share of an utterance that spans would mask without overlap"
    )
    mask_frames: int = Field(5, ge=1, description="frames in a masked span")
    min_spans: int = Field(
        2, ge=1, description="minimum number of spans, if the utterance is long enough"
    )
    codebooks: int = Field(2, ge=1)
    entries: int = Field(160, ge=2, description="codewords in a codebook")
    code_width: int = Field(
        128, ge=2, description="width of a quantised latent, all codebooks together"
    )
    projection_width: int = Field(
        128, ge=2, description="width in which predictions and targets are compared"
    )
    distractors: int = Field(50, ge=1)
    similarity_temperature: float = Field(0.1, gt=0)
    gumbel_start: float = Field(2.0, gt=0, description="initial temperature of code selection")
    gumbel_end: float = Field(0.5, gt=0)
    gumbel_share: float = Field(0.6, gt=0, le=1, description="share of the run until gumbel_end")
    diversity_weight: float = Field(
        0.3, ge=0, description="the paper uses 0.1, with which codebooks collapsed"
    )
    penalty_weight: float = Field(
        0.01, ge=0, description="weight of the mean square of the latents"
    )

    @model_validator(mode="after")
    def _shared_out(self) -> PretrainingConfig:
        if self.code_width % self.codebooks:
            raise ValueError("code_width must be a multiple of codebooks")
        return self
