"""SCRFD and YuNet in NVIDIA's TensorRT, version 10 and later, without ONNX Runtime; detectors and deploy import it.

A model file is compiled to an *engine* for one GPU, one TensorRT version and one range of input shapes. Compiling takes
seconds to minutes, so engines are kept in the cache folder.

What was tested: names and signatures are those of TensorRT 10.0 to 11.4 and cuda-python 12.9 to 13.4
(``tools/analysis/check_tensorrt_api.py``); parsing and compiling ran without a GPU, in the library of TensorRT-RTX 1.7
under the Python bindings of TensorRT 11.4; no engine has been run on a GPU yet.
"""

from facedet_mm.detectors.tensorrt.detector import TensorRTDetector, TensorRTSession
from facedet_mm.detectors.tensorrt.source import Precision, ShapeRange

__all__ = ["Precision", "ShapeRange", "TensorRTDetector", "TensorRTSession"]
