"""Pre-training is worth it: from its encoder, the same few steps of fine-tuning lead further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn import functional as F

from dualmode.data.batches import BatchSource
from dualmode.data.manifests import read_cuts
from dualmode.data.synth import synthesize
from dualmode.model.directory import load_model
from dualmode.model.subnet import trained_subnets

PRETRAINING_STEPS, STEPS, FROZEN_STEPS = 600, 250, 100
MARGIN = 0.1  # nats a token; it was 0.31 and 0.27 when this test was written
RECIPE: dict[str, Any] = {
    "name": "gain",
    "text": {"vocabulary_size": 48},
    "model": {
        "width": 64,
        "layers": 2,
        "heads": 4,
        "feed_forward": 128,
        "kernel_frames": 9,
        "subsampling_channels": 16,
        "predictor_width": 32,
        "joiner_width": 32,
        "dropout": 0.0,
    },
    "pruning": {"sparsities": [0.5], "start": 0.1, "end": 0.5, "every_steps": 10},
    "data": {
        "batch_seconds": 20,
        "workers": 0,
        "max_seconds": 8,
        "join_probability": 0,
        "speeds": [1.0],
        "time_masks": 0,
        "frequency_masks": 0,
        "tail_silence_seconds": 0,
    },
    "training": {
        "warmup_steps": 30,
        "average_decay": 0.95,
        "validate_every_steps": 1000,
        "checkpoint_every_steps": 1000,
        "validation_utterances": 10,
        "processes": 1,
        "step_sharing": "all",
        "device_subnet": {"chunk_frames": 8, "left_frames": 16, "lookahead_frames": 2},
    },
}
PRETRAIN = {"objective": "pretrain", "steps": PRETRAINING_STEPS, "learning_rate": 0.002}
# The CTC head alone: the transducer needs longer than this test has.
FINETUNE = {"steps": STEPS, "learning_rate": 0.01, "transducer_start": 0.999}
CODES = {"entries": 40, "code_width": 32, "projection_width": 32, "distractors": 20}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of an hour of synthetic speech, and voices and sentences that are not in it."""
    out = tmp_path_factory.mktemp("corpus")
    synthesize(out, train_hours=0.25, dev_utterances=40, test_utterances=4)
    return out


def recipe(corpus: Path, path: Path, training: dict[str, Any]) -> Path:
    data = {"train": [str(corpus / "train")], "dev": [str(corpus / "dev")]}
    tree = {**RECIPE, "pretraining": CODES, "data": {**RECIPE["data"], **data}}
    tree["training"] = {**RECIPE["training"], **training}
    path.write_text(yaml.safe_dump(tree))
    return path


@torch.inference_mode()
def held_out_losses(folder: Path, corpus: Path) -> dict[str, float]:
    """CTC losses, nats a token, of both recognisers on the voices of dev."""
    loaded = load_model(folder)
    model, ours = loaded.model.eval(), loaded.recipe
    source = BatchSource(
        read_cuts(corpus / "dev"),
        loaded.tokens,
        ours.text,
        ours.data,
        model.encoder.framing,
        seed=0,
        train=False,
    )
    losses, tokens = dict.fromkeys(("server", "device"), 0.0), 0
    for batch, _ in source.batches():
        tokens += int(batch.token_lengths.sum())
        for name, subnet in trained_subnets(ours).items():
            frames, lengths = model(batch.features, batch.feature_lengths, subnet)
            log_probs = model.ctc_log_probs(frames).transpose(0, 1)
            losses[name] += float(
                F.ctc_loss(log_probs, batch.tokens, lengths, batch.token_lengths, reduction="sum")
            )
    return {name: loss / tokens for name, loss in losses.items()}


@pytest.mark.timeout(900)  # five trainings: three minutes on two idle cores
def test_a_pretrained_encoder_goes_further_in_the_same_steps(
    corpus: Path, start: Any, tmp_path: Path
) -> None:
    """Than random weights, free from the first step or treated as the trained ones are."""
    pretraining = recipe(corpus, tmp_path / "pretrain.yaml", PRETRAIN)
    finetuning = recipe(corpus, tmp_path / "finetune.yaml", FINETUNE)
    encoder, fresh = tmp_path / "encoder", tmp_path / "fresh"
    pretrained = [
        start(pretraining, encoder, command="pretrain"),
        start(pretraining, fresh, "--set", "training.steps=1", command="pretrain"),
    ]
    for process in pretrained:
        assert process.wait() == 0, process.output
    freeze = ("--set", f"init.freeze_encoder_steps={FROZEN_STEPS}")
    runs = {
        "random": start(finetuning, tmp_path / "random"),
        "held": start(finetuning, tmp_path / "held", "--init", str(fresh), *freeze),
        "trained": start(finetuning, tmp_path / "trained", "--init", str(encoder), *freeze),
    }
    for process in runs.values():
        assert process.wait() == 0, process.output
    losses = {name: held_out_losses(tmp_path / name, corpus) for name in runs}
    for name in ("server", "device"):
        for other in ("random", "held"):
            assert losses["trained"][name] < losses[other][name] - MARGIN, losses
