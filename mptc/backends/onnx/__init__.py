"""IR → ONNX: standard operators alone, lengths known at run time."""
