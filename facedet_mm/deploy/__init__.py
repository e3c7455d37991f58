"""Model files for other devices, without torch: quantization and TensorRT engines; imported by cli and tools."""
