_base_ = './scrfd.py'

# One picture of 640 x 640: fitted in with its proportions kept, padded with grey (zero after normalisation).
onnx_config = dict(input_shape=[640, 640])
