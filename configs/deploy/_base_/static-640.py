_base_ = './scrfd.py'

# One image of 640 x 640 pixels, resized with its aspect ratio kept and padded with gray (zero after normalization).
onnx_config = dict(input_shape=[640, 640])
