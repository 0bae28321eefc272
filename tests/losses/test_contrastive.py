"""Losses of pre-training: equal to those of Hugging Face transformers, and to plain sums."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dualmode.config import PretrainingConfig
from dualmode.data.spans import Hidden, hide
from dualmode.losses.contrastive import contrastive_loss, diversity_loss, perplexities
from dualmode.model.quantizer import Quantizer
from dualmode.model.wav2vec import pick

CONFIG = PretrainingConfig(
    codebooks=2, entries=12, code_width=16, projection_width=10, distractors=7, mask_frames=3
)
WIDTH = 24
LENGTHS = (40, 31, 9)


def hidden() -> Hidden:
    rngs = [np.random.default_rng(seed) for seed in range(len(LENGTHS))]
    return hide(LENGTHS, rngs, CONFIG, noisy=True)


@pytest.fixture
def quantizer() -> Quantizer:
    torch.manual_seed(0)
    return Quantizer(WIDTH, CONFIG.codebooks, CONFIG.entries, CONFIG.code_width)


@pytest.fixture
def latents() -> torch.Tensor:
    torch.manual_seed(1)
    return F.layer_norm(torch.randn(len(LENGTHS), max(LENGTHS), WIDTH), (WIDTH,))


def reference(quantizer: Quantizer) -> torch.nn.Module:
    """transformers' model with our quantizer's weights, and no network before the losses."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.Wav2Vec2Config(
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        conv_dim=(WIDTH,),
        conv_kernel=(3,),
        conv_stride=(2,),
        num_feat_extract_layers=1,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        num_codevectors_per_group=CONFIG.entries,
        num_codevector_groups=CONFIG.codebooks,
        codevector_dim=CONFIG.code_width,
        proj_codevector_dim=CONFIG.projection_width,
        contrastive_logits_temperature=CONFIG.similarity_temperature,
        feat_quantizer_dropout=0.0,
    )
    theirs = transformers.Wav2Vec2ForPreTraining(config)
    theirs.quantizer.weight_proj.load_state_dict(quantizer.score.state_dict())
    theirs.quantizer.codevectors.data = quantizer.codewords.data.reshape(
        1, CONFIG.codebooks * CONFIG.entries, -1
    ).clone()
    return theirs


class Passed(torch.nn.Module):
    """Stands where the network would: hands over frames and latents that are given."""

    def __init__(self, frames: torch.Tensor, latents: torch.Tensor) -> None:
        super().__init__()
        self.given = SimpleNamespace(
            last_hidden_state=frames, extract_features=latents, hidden_states=None, attentions=None
        )

    def forward(self, *_: object, **__: object) -> SimpleNamespace:
        return self.given


def theirs_of_ours(where: Hidden) -> torch.Tensor:
    """Distractors as transformers wants them: (B, T, N) numbers in the flattened batch."""
    rows, frames = len(LENGTHS), max(LENGTHS)
    indices = torch.zeros(rows, frames, CONFIG.distractors, dtype=torch.int64)
    for row in range(rows):
        for number in range(int(where.valid[row].sum())):
            chosen = where.frames[row, where.distractors[row, number]]
            indices[row, where.frames[row, number]] = row * frames + chosen
    return indices


def test_equal_to_transformers(quantizer: Quantizer, latents: torch.Tensor) -> None:
    where, theirs = hidden(), reference(quantizer).eval()
    frames = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
    theirs.wav2vec2 = Passed(frames, latents)
    expected = theirs(
        torch.zeros(len(LENGTHS), 9),
        mask_time_indices=where.mask(max(LENGTHS)),
        sampled_negative_indices=theirs_of_ours(where),
    )

    codes = quantizer(pick(latents, where.frames), None, 1.0)
    ours = contrastive_loss(
        theirs.project_hid(pick(frames, where.frames)),
        theirs.project_q(codes.vectors),
        codes.entries,
        where.distractors,
        where.valid,
        CONFIG.similarity_temperature,
    )
    chosen = F.one_hot(codes.entries, CONFIG.entries).double()[where.valid].mean(dim=0)
    count = int(where.valid.sum())
    torch.testing.assert_close(ours.loss, expected.contrastive_loss, rtol=1e-5, atol=1e-5)
    perplexity = expected.codevector_perplexity.double()
    torch.testing.assert_close(perplexities(chosen).sum(), perplexity, rtol=1e-5, atol=1e-5)
    diversity = expected.diversity_loss.double() / count
    torch.testing.assert_close(diversity_loss(chosen), diversity, rtol=1e-5, atol=1e-5)
    assert _equal_codes(codes.entries, where), "the case should hold distractors of equal code"


def _equal_codes(entries: torch.Tensor, where: Hidden) -> bool:
    own = entries[:, :, None]
    others = torch.stack([entries[row][where.distractors[row]] for row in range(len(entries))])
    return bool(((own == others).all(-1) & where.valid[..., None]).any())


def test_soft_perplexity_and_drawn_codes_equal_transformers_in_training(
    quantizer: Quantizer, latents: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, theirs = hidden(), reference(quantizer).train()
    noise = torch.zeros(*latents.shape[:2], CONFIG.codebooks, CONFIG.entries)
    for row in range(len(LENGTHS)):
        real = where.valid[row]
        assert where.noise is not None
        noise[row, where.frames[row][real]] = where.noise[row][real]

    def with_our_noise(scores: torch.Tensor, tau: float, hard: bool) -> torch.Tensor:
        soft = ((scores + noise.view_as(scores)) / tau).softmax(-1)
        return F.one_hot(soft.argmax(-1), soft.shape[-1]) - soft.detach() + soft

    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", with_our_noise)
    theirs.quantizer.temperature = 0.7
    vectors, perplexity = theirs.quantizer(latents, where.mask(max(LENGTHS)))
    codes = quantizer(pick(latents, where.frames), where.noise, 0.7)
    mean = codes.probabilities[where.valid].mean(dim=0)
    torch.testing.assert_close(perplexities(mean).sum(), perplexity, rtol=1e-5, atol=1e-5)
    expected = pick(vectors, where.frames)[where.valid]
    torch.testing.assert_close(codes.vectors[where.valid], expected, rtol=1e-5, atol=1e-5)
    (ours,) = torch.autograd.grad(codes.vectors[where.valid].square().sum(), quantizer.score.weight)
    (other,) = torch.autograd.grad(expected.square().sum(), theirs.quantizer.weight_proj.weight)
    torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)


def test_the_contrast_is_a_softmax_over_target_and_distractors() -> None:
    torch.manual_seed(3)
    predictions, targets = torch.randn(1, 5, 4), torch.randn(1, 5, 4)
    entries = torch.arange(5).view(1, 5, 1)
    distractors = torch.tensor([[[1, 2], [0, 0], [4, 3], [2, 1], [0, 3]]])
    valid = torch.tensor([[True, True, True, True, False]])
    found = contrastive_loss(predictions, targets, entries, distractors, valid, 0.5)
    loss, right = 0.0, 0
    for frame in range(4):
        choices = torch.stack([targets[0, frame], *targets[0, distractors[0, frame]]])
        cosines = F.cosine_similarity(predictions[0, frame][None], choices)
        loss += float(-(cosines / 0.5).log_softmax(0)[0])
        right += int(cosines.argmax() == 0)
    assert float(found.loss) == pytest.approx(loss, rel=1e-5)
    assert float(found.correct) == right


def test_distractors_of_the_same_code_do_not_count() -> None:
    torch.manual_seed(4)
    predictions, targets = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    distractors = torch.tensor([[[1, 2], [0, 2], [0, 1]]])
    valid = torch.ones(1, 3, dtype=torch.bool)
    all_same = torch.zeros(1, 3, 2, dtype=torch.int64)
    alone = contrastive_loss(predictions, targets, all_same, distractors, valid, 0.1)
    assert float(alone.loss) == pytest.approx(0.0, abs=1e-6)
    assert float(alone.correct) == 0, "with nothing to be told from, nothing is right"
    half_same = torch.tensor([[[0, 1], [0, 2], [1, 1]]])
    assert (
        float(contrastive_loss(predictions, targets, half_same, distractors, valid, 0.1).loss) > 0
    )


def test_perplexity_counts_codewords_in_use() -> None:
    even = torch.full((2, 8), 1 / 8)
    single = torch.zeros(2, 8)
    single[:, 3] = 1.0
    assert perplexities(even).tolist() == pytest.approx([8, 8])
    assert perplexities(single).tolist() == pytest.approx([1, 1])
    assert float(diversity_loss(even)) == pytest.approx(0.0, abs=1e-6)
    assert float(diversity_loss(single)) == pytest.approx(14 / 16)
    single.requires_grad_()
    diversity_loss(single).backward()
    assert single.grad is not None
    assert single.grad.isfinite().all()


def test_contrast_and_codewords_are_exact_where_the_rest_is_in_bfloat16(
    quantizer: Quantizer, latents: torch.Tensor
) -> None:
    predictions = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
    entries = torch.arange(latents.shape[1]).expand(len(LENGTHS), -1)[..., None]
    valid = torch.ones(latents.shape[:2], dtype=torch.bool)
    given = (predictions, latents, entries, entries.roll(1, dims=1), valid, 0.1)
    exact = contrastive_loss(*given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrastive_loss(*given).loss, exact.loss)
        codes = quantizer(latents, None, 1.0)
    first = quantizer.codewords[0][codes.entries[..., 0]]
    assert torch.equal(codes.vectors[..., : first.shape[-1]], first)
