"""Sets of installed packages for the tests of the doctor."""

FITTING = {
    "numpy": "2.2.6", "opencv-python": "4.12.0.88", "onnxruntime": "1.23.0", "scipy": "1.15", "tqdm": "4.66",
    "shtab": "1.7", "torch": "2.13.0+cpu", "onedl-mmengine": "0.10.12", "onedl-mmcv": "2.3.6",
    "onedl-mmdetection": "3.5.1", "onnx": "1.23.2", "tensorboard": "2.21", "setuptools": "80.1", "av": "17.0",
    "packaging": "26.0", "platformdirs": "4.3", "pooch": "1.8.2", "requests": "2.32",
    "pillow": "11.3",
}  # fmt: skip
"""Distribution → version of an installation in which everything fits."""
