"""The README.md of an export for sherpa-onnx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualmode.features import Framing
from dualmode.model.subnet import ChunkedContext, Subnet


@dataclass(frozen=True)
class ExportedRecognizer:
    """An exported recogniser.

    Attributes:
        name: ``device`` or ``server``.
        folder: folder with encoder, decoder, joiner and tokens.
        subnet: subnet that the graphs compute.
        framing: of the model.
        tail_s: silence that a stream needs after its last sample; 0 for full context.
    """

    name: str
    folder: Path
    subnet: Subnet
    framing: Framing
    tail_s: float


def readme(model: str, exported: Sequence[ExportedRecognizer], *, int8: bool) -> str:
    """Text of the README: the exported recognisers and the commands to run them."""
    suffix = ".int8" if int8 else ""
    sections = [
        _online(one, suffix) if isinstance(one.subnet.context, ChunkedContext) else _offline(suffix)
        for one in exported
    ]
    frame_ms = exported[0].framing.frame_ms
    return f"""# {model} for sherpa-onnx

ONNX graphs of a dualmode model, for sherpa-onnx 1.10.46 or newer (`pip install sherpa-onnx`).
Mean and variance normalisation are inside the encoders; the recipe's blank penalty is inside the
joiners; one frame is 40 ms{_REPEATED if frame_ms == 80 else ""}. Audio is 16 kHz, one channel.
{_INT8 if int8 else ""}
{"".join(sections)}"""


_REPEATED = """
(sherpa-onnx assumes that), so the encoders give each frame of 80 ms of the model twice"""
_INT8 = """
`encoder.int8.onnx` and `joiner.int8.onnx` contain the same networks with matrix products in int8,
with one scale per output channel. Measure their word error rate before you ship them.
"""


def _online(one: ExportedRecognizer, suffix: str) -> str:
    context = one.subnet.context
    assert isinstance(context, ChunkedContext)
    frame_ms = one.framing.frame_ms
    return f"""
## {one.name}: streaming

Chunks of {context.chunk * frame_ms} ms, {context.lookahead * frame_ms} ms of look-ahead, \
{context.left * frame_ms} ms of left context, sparsity {one.subnet.sparsity:g}.

**Append {one.tail_s:g} s of silence** after the last sample: sherpa-onnx never runs a partial
chunk, so the last words would be lost without it.

    sherpa-onnx \\
      --tokens={one.name}/tokens.txt \\
      --encoder={one.name}/encoder{suffix}.onnx \\
      --decoder={one.name}/decoder.onnx \\
      --joiner={one.name}/joiner{suffix}.onnx \\
      recording.wav

```python
import numpy as np
import sherpa_onnx
import soundfile

recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
    tokens="{one.name}/tokens.txt",
    encoder="{one.name}/encoder{suffix}.onnx",
    decoder="{one.name}/decoder.onnx",
    joiner="{one.name}/joiner{suffix}.onnx",
)
samples, rate_hz = soundfile.read("recording.wav", dtype="float32")
stream = recognizer.create_stream()
stream.accept_waveform(rate_hz, samples)
stream.accept_waveform(rate_hz, np.zeros(round({one.tail_s:g} * rate_hz), dtype=np.float32))
stream.input_finished()
while recognizer.is_ready(stream):
    recognizer.decode_stream(stream)
print(recognizer.get_result(stream))
```

Hotwords need `decoding_method="modified_beam_search"`, `modeling_unit="bpe"` and
`bpe_vocab="{one.name}/bpe.vocab"`.
"""


def _offline(suffix: str) -> str:
    return f"""
## server: whole recordings

Divide recordings that are longer than those of training, for example with sherpa-onnx's voice
activity detection.

    sherpa-onnx-offline \\
      --tokens=server/tokens.txt \\
      --encoder=server/encoder{suffix}.onnx \\
      --decoder=server/decoder.onnx \\
      --joiner=server/joiner{suffix}.onnx \\
      recording.wav

```python
import sherpa_onnx
import soundfile

recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(
    tokens="server/tokens.txt",
    encoder="server/encoder{suffix}.onnx",
    decoder="server/decoder.onnx",
    joiner="server/joiner{suffix}.onnx",
)
samples, rate_hz = soundfile.read("recording.wav", dtype="float32")
stream = recognizer.create_stream()
stream.accept_waveform(rate_hz, samples)
recognizer.decode_stream(stream)
print(stream.result.text)
```
"""
