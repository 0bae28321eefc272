"""Export of models for other runtimes.

- :func:`dualmode.export.engine.export_engine`: one recogniser as an artifact of the device engine.
- :func:`dualmode.export.sherpa_onnx.export_sherpa_onnx`: ONNX graphs for stock sherpa-onnx.
"""
