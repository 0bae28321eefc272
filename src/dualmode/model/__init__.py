"""The supernet: layers, encoder, masks, predictor, joiner and the model directory."""
