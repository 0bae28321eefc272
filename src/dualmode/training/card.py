"""The model card that training writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dualmode.config import Recipe
from dualmode.model.backbone import Backbone
from dualmode.model.masks import measured_sparsity
from dualmode.model.subnet import device_subnet
from dualmode.model.supernet import Supernet
from dualmode.training.checkpoint import Progress
from dualmode.training.journal import LOG, read_log
from dualmode.whole_files import replace_text

_NAMES = ("server", "device")
_MOST_FREQUENT = "dev/phones/most_frequent"


def write_card(
    out: Path, model: Supernet, recipe: Recipe, progress: Progress, data_seconds: float
) -> None:
    """Write README.md: what the model is, its training data, its error rates and its use."""
    chunk, frame_ms = recipe.training.device_subnet, recipe.model.frame_ms
    parameters = sum(p.numel() for p in model.parameters())
    rates = _rates(out, recipe)
    replace_text(
        out / "README.md",
        f"""# {recipe.name}: a dualmode model

One set of weights, two speech recognisers:

| | server | device |
|---|---|---|
| context | the whole utterance | chunks of {chunk.chunk_frames * frame_ms} ms, \
{chunk.lookahead_frames * frame_ms} ms look-ahead |
| encoder weights pruned | none | {_pruned(model, recipe)} |
| WER on the development set | {rates["server"]} | {rates["device"]} |

- parameters: {parameters / 1e6:.2f} million; tokens: {model.vocabulary}
- trained on {data_seconds / 3600:.2f} h of speech ({progress.audio_seconds / 3600:.1f} h with \
repetitions) in {progress.step} steps and {progress.seconds / 60:.0f} minutes
- sparsities trained: {", ".join(f"{s:g}" for s in recipe.pruning.sparsities)}
- training sets: {", ".join(recipe.data.train)}

## Use

    dualmode transcribe {out} recording.wav
    dualmode transcribe {out} recording.wav --subnet device --stream
    dualmode evaluate {out} CUTS

```python
import dualmode
recognizer = dualmode.load("{out}")
print(recognizer.transcribe("recording.wav", subnet="server").text)
```

The checkpoint was selected on the development set, so the figures above are slightly optimistic.
`config.yaml` contains the whole recipe.

## Credits

{_credits(recipe)}""",
    )


def write_pretraining_card(
    out: Path, model: Backbone, recipe: Recipe, progress: Progress, data_seconds: float
) -> None:
    """Write README.md of a pre-trained encoder: its training data, metrics and use."""
    encoder = sum(p.numel() for p in model.encoder.parameters())
    used = "dev/codes/used_1" if recipe.pretraining.objective != "phones" else _MOST_FREQUENT
    records = [r for r in read_log(out / "training" / LOG) if used in r]
    last = records[-1] if records else {}
    right = _percentages(recipe, {n: f"dev/{n}/accuracy" for n in _NAMES}, last, 1)
    method, choices = _method(recipe)
    replace_text(
        out / "README.md",
        f"""# {recipe.name}: a pre-trained dualmode encoder

{method} in supernet form: one encoder, trained dense with full context (server) and sparse in
chunks (device). It has to be fine-tuned before it recognises speech.

| | server | device |
|---|---|---|
| encoder weights pruned | none | {_pruned(model, recipe)} |
| right choices among {choices}, development set | {right["server"]} | {right["device"]} |

- parameters of the encoder: {encoder / 1e6:.2f} million
- trained on {data_seconds / 3600:.2f} h of audio ({progress.audio_seconds / 3600:.1f} h with \
repetitions) in {progress.step} steps and {progress.seconds / 60:.0f} minutes
- {_use_of_targets(recipe, last)}
- training sets: {", ".join(recipe.data.train)}

## Use

    dualmode train RECIPE --init {out} --out DIR
    dualmode probe {out} CUTS --aligner MODEL

## Credits

{_credits(recipe)}""",
    )


def _pruned(model: Backbone, recipe: Recipe) -> str:
    """The share of the encoder's weights that device leaves out."""
    sparsity = device_subnet(recipe).sparsity
    if not sparsity:
        return "none"
    return f"{measured_sparsity(model.prunable(), recipe.pruning.sparsities.index(sparsity)):.1%}"


def _method(recipe: Recipe) -> tuple[str, str]:
    """The name of the objective, and the choices of a prediction."""
    pretraining = recipe.pretraining
    if pretraining.objective == "phones":
        return "Classification of aligned phones", f"{len(pretraining.phones)} phones"
    if pretraining.objective == "best_rq":
        return "BEST-RQ", f"{pretraining.random_quantizer.entries} codes"
    return "wav2vec 2.0", str(pretraining.distractors + 1)


def _use_of_targets(recipe: Recipe, last: dict[str, Any]) -> str:
    """How varied the targets of the last validation were."""
    pretraining = recipe.pretraining
    if pretraining.objective == "phones":
        most = f"{last[_MOST_FREQUENT]:.1%}" if last else "not measured"
        return f"share of the most frequent phone: {most}"
    best_rq = pretraining.objective == "best_rq"
    entries = pretraining.random_quantizer.entries if best_rq else pretraining.entries
    numbers = sorted(key for key in last if key.startswith("dev/codes/perplexity_"))
    codes = ", ".join(f"{last[key]:.0f}" for key in numbers)
    return f"perplexity of each codebook of {entries} codewords: {codes}"


def _credits(recipe: Recipe) -> str:
    return "".join(f"- {line}\n" for line in recipe.credits) or "- none named in the recipe\n"


def _rates(out: Path, recipe: Recipe) -> dict[str, str]:
    """WERs of the model that was kept, that is, of the best validation."""
    keys = {name: f"wer/{name}" for name in _NAMES}
    trained = [keys[name] for name in recipe.training.subnets]
    records = [r for r in read_log(out / "training" / LOG) if trained[0] in r]
    fixed = [r for r in records if r.get("settled")] or records[-1:]
    best = min(fixed, key=lambda r: sum(r[key] for key in trained), default={})
    return _percentages(recipe, keys, best, 2)


def _percentages(
    recipe: Recipe, keys: dict[str, str], record: dict[str, Any], digits: int
) -> dict[str, str]:
    """Shares in a log record as text; missing ones are named "not measured" or "not trained"."""
    shares = {}
    for name, key in keys.items():
        if name not in recipe.training.subnets:
            shares[name] = "not trained"
        else:
            shares[name] = f"{record[key]:.{digits}%}" if record else "not measured"
    return shares
