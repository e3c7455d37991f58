"""From a trained checkpoint to something that runs elsewhere: ONNX, quantization, TensorRT, mmdeploy."""
