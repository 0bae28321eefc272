"""Word error rates during training, with greedy search."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dualmode.data.batches import BatchSource
from dualmode.decoding.ctc import best_path
from dualmode.decoding.greedy import GreedySearch
from dualmode.evaluation.wer import word_errors
from dualmode.model.subnet import Subnet
from dualmode.model.supernet import Supernet
from dualmode.runtime.pytorch import TorchRuntime
from dualmode.text import Tokens


@torch.inference_mode()
def word_error_counts(
    model: Supernet,
    dev: BatchSource,
    tokens: Tokens,
    subnets: Mapping[str, Subnet],
    *,
    blank_penalty: float,
    by_ctc: bool,
) -> Tensor:
    """Number of word errors of each of ``subnets``, and of words, (S + 1,), in ``dev``.

    They are sums over this process's part of ``dev``. ``by_ctc`` decodes with the CTC head, for use
    before the transducer is trained.
    """
    place = model.encoder.norm.gain.device
    references: list[str] = []
    hypotheses: dict[str, list[str]] = {name: [] for name in subnets}
    for batch, _ in dev.batches():
        references += batch.texts
        moved = batch.to(place)
        for name, subnet in subnets.items():
            frames, lengths = model(moved.features, moved.feature_lengths, subnet)
            if by_ctc:
                paths = best_path(model.ctc_log_probs(frames), lengths)
            else:
                search = GreedySearch(TorchRuntime(model, subnet), blank_penalty=blank_penalty)
                projected = model.project_frames(frames, subnet).float().cpu().numpy()
                start = search.start(len(batch.ids))
                state = search.advance(start, projected, lengths.cpu().numpy())
                paths = [[token.id for token in best] for best in search.best(state)]
            hypotheses[name] += [tokens.decode(ids) for ids in paths]
    counts = [word_errors(references, texts) for texts in hypotheses.values()]
    words = counts[0].reference.sum()
    return torch.tensor([*(float(c.errors.sum()) for c in counts), float(words)])
