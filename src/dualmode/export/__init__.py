"""Models written for other runtimes.

- :func:`dualmode.export.sherpa_onnx.export_sherpa_onnx`: ONNX graphs for stock sherpa-onnx.
"""
