"""SCRFD and YuNet in NVIDIA's TensorRT itself, version 10 and later, without ONNX Runtime in between.

A model file becomes an *engine*, compiled for one GPU, one TensorRT and one range of input shapes. That takes from
seconds to minutes, so engines are kept in the cache folder.

How far it was tried: names and signatures are those of TensorRT 10.0 to 11.4 and cuda-python 12.9 to 13.4
(``tools/analysis/check_tensorrt_api.py``); parsing and compiling ran without a GPU, in the library of TensorRT-RTX 1.7
behind the Python bindings of TensorRT 11.4; no engine has been run on a GPU yet.
"""

from facedet_mm.detectors.tensorrt.detector import TensorRTDetector, TensorRTSession
from facedet_mm.detectors.tensorrt.source import Precision, ShapeRange

__all__ = ["Precision", "ShapeRange", "TensorRTDetector", "TensorRTSession"]
