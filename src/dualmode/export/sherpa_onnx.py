"""Export a model as ONNX graphs for stock sherpa-onnx.

``OUT/device`` is an online transducer (sherpa-onnx's streaming ``ebranchformer``), ``OUT/server``
an offline one (``conformer``). Each folder is self-contained: encoder, decoder, joiner and tokens.
README.md has the commands.
"""

from __future__ import annotations

from pathlib import Path

import torch

from dualmode.config import Recipe
from dualmode.decoding.stream import TAIL_S
from dualmode.export.onnx_graphs import (
    JoinerGraph,
    OfflineEncoder,
    OnlineEncoder,
    PredictorGraph,
    with_baked_mask,
    write_graph,
)
from dualmode.export.quantization import quantize_graph
from dualmode.export.sherpa_readme import ExportedRecognizer, readme
from dualmode.features import MELS, Framing
from dualmode.model.directory import LoadedModel
from dualmode.model.subnet import ChunkedContext, Subnet
from dualmode.model.supernet import Supernet
from dualmode.text import Tokens
from dualmode.whole_files import replace_text

QUANTIZED = ("encoder", "joiner")  # the predictor is an embedding and a small product


def needed_tail_s(context: ChunkedContext, framing: Framing) -> float:
    """Silence, in seconds, to append so that sherpa-onnx loses no word at the end of a stream.

    sherpa-onnx runs only whole steps, when more mel frames than a step reads are available, so that
    many mel frames of silence move the last sample into a chunk. The silence of a session's
    tail is added, since words may be emitted later than they are spoken.
    """
    return round((framing.mels_read(context.window) + 1) / 100 + TAIL_S, 2)


def export_sherpa_onnx(
    loaded: LoadedModel,
    out: Path,
    subnets: dict[str, Subnet],
    *,
    int8: bool = False,
    card: str = "",
) -> list[ExportedRecognizer]:
    """Write recognisers of a model for sherpa-onnx 1.10.46 or newer.

    Args:
        loaded: the model.
        out: folder to write; existing files are replaced.
        subnets: ``device`` with chunked context, ``server`` with full context, or one of them.
        int8: also write ``encoder.int8.onnx`` and ``joiner.int8.onnx``.
        card: the model's card, copied to MODEL_CARD.md.

    Raises:
        ExportError: the packages that writing ONNX needs are missing.
        SubnetError: the model does not contain a subnet.
    """
    exported, framing = [], loaded.model.encoder.framing
    for name, subnet in subnets.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        _write_recognizer(loaded, folder, subnet)
        if int8:
            for part in QUANTIZED:
                quantize_graph(folder / f"{part}.onnx", folder / f"{part}.int8.onnx")
        _write_tokens(loaded.tokens, folder)
        context = subnet.context
        tail_s = needed_tail_s(context, framing) if isinstance(context, ChunkedContext) else 0.0
        exported.append(ExportedRecognizer(name, folder, subnet, framing, tail_s))
    # Files for dualmode's own runtime "onnx".
    loaded.tokens.save(out)
    replace_text(out / "config.yaml", _recipe_of(loaded.recipe, subnets).to_yaml())
    if card:
        replace_text(out / "MODEL_CARD.md", card)
    replace_text(out / "README.md", readme(loaded.recipe.name, exported, int8=int8))
    return exported


def _recipe_of(recipe: Recipe, subnets: dict[str, Subnet]) -> Recipe:
    """The recipe with the exported context as its device."""
    context = subnets["device"].context if "device" in subnets else None
    if not isinstance(context, ChunkedContext):
        return recipe
    frames = {
        "chunk_frames": context.chunk,
        "left_frames": context.left,
        "lookahead_frames": context.lookahead,
    }
    device = recipe.training.device_subnet.model_copy(update=frames)
    training = recipe.training.model_copy(update={"device_subnet": device})
    return recipe.model_copy(update={"training": training})


def _write_recognizer(loaded: LoadedModel, folder: Path, subnet: Subnet) -> None:
    net, baked = with_baked_mask(loaded.model, subnet)
    context = subnet.context
    if isinstance(context, ChunkedContext):
        _write_online_encoder(net, baked, context, folder / "encoder.onnx", subnet.sparsity)
    else:
        _write_offline_encoder(net, baked, folder / "encoder.onnx", subnet.sparsity)
    scorer = net.scorer(baked)
    tokens, width = scorer.context_tokens, net.joiner.out.weight.shape[1]
    write_graph(
        PredictorGraph(scorer),
        (torch.zeros(2, tokens, dtype=torch.int64),),
        folder / "decoder.onnx",
        names=(["y"], ["predictions"]),
        dynamic={"y": {0: "N"}},
        metadata={"vocab_size": net.vocabulary, "context_size": tokens},
    )
    write_graph(
        JoinerGraph(scorer, net.vocabulary, loaded.recipe.decoding.blank_penalty),
        (torch.zeros(2, width), torch.zeros(2, width)),
        folder / "joiner.onnx",
        names=(["frames", "predictions"], ["logits"]),
        dynamic={"frames": {0: "N"}, "predictions": {0: "N"}},
        metadata={
            "joiner_dim": width,
            "blank_penalty": f"{loaded.recipe.decoding.blank_penalty:g}",
        },
    )


def _write_online_encoder(
    net: Supernet, subnet: Subnet, context: ChunkedContext, path: Path, sparsity: float
) -> None:
    encoder, framing = net.encoder, net.encoder.framing
    read = framing.mels_read(context.window)
    module = OnlineEncoder(net, subnet, context)
    kinds = ("key", "value", "conv", "fusion")
    states = [f"{kind}_{layer}" for layer in range(len(encoder.layers)) for kind in kinds]
    inputs = ["x", *states, "processed"]
    write_graph(
        module,
        (
            torch.zeros(2, read, MELS),
            module.initial_states(2),
            torch.zeros(2, dtype=torch.int64),
        ),
        path,
        names=(inputs, ["frames", *(f"new_{name}" for name in inputs[1:])]),
        dynamic={name: {0: "N"} for name in inputs},
        metadata={
            "model_type": "ebranchformer",
            "T": read,
            "decode_chunk_len": framing.stride_mels * context.chunk,
            "num_hidden_layers": len(encoder.layers),
            "hidden_size": encoder.width,
            "intermediate_size": 2 * encoder.width,
            "csgu_kernel_size": encoder.reach + 1,
            "merge_conv_kernel": 1,
            "left_context_len": context.left,
            "num_heads": encoder.heads,
            "head_dim": encoder.width // encoder.heads,
            "sparsity": f"{sparsity:g}",
            "tail_seconds": f"{needed_tail_s(context, framing):g}",
            "maintainer": "dualmode",
        },
    )


def _write_offline_encoder(net: Supernet, subnet: Subnet, path: Path, sparsity: float) -> None:
    write_graph(
        OfflineEncoder(net, subnet),
        (torch.zeros(2, 64, MELS), torch.tensor([64, 40])),
        path,
        names=(["x", "lengths"], ["frames", "frame_lengths"]),
        dynamic={"x": {0: "N", 1: "M"}, "lengths": {0: "N"}},
        metadata={
            "model_type": "conformer",
            "sparsity": f"{sparsity:g}",
            "maintainer": "dualmode",
        },
    )


def _write_tokens(tokens: Tokens, folder: Path) -> None:
    lines = [f"{piece} {number}\n" for number, piece in enumerate(tokens.pieces)]
    replace_text(folder / "tokens.txt", "".join(lines))
    scores = [f"{piece}\t{score}\n" for piece, score in tokens.scores]
    replace_text(folder / "bpe.vocab", "".join(scores))
