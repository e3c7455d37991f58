_base_ = './scrfd.py'

# One image of 640 x 640: fitted in with its proportions kept, padded with gray (zero after normalization).
onnx_config = dict(input_shape=[640, 640])
