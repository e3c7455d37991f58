"""Model files for other devices, without torch: quantization, TensorRT engines; imported by cli and tools."""
