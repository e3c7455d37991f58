_base_ = './scrfd.py'

# Batch, height and width are dynamic; height and width are multiples of 32.
onnx_config = dict(
    dynamic_axes=dict(
        input={0: 'batch', 2: 'height', 3: 'width'},
        dets={0: 'batch', 1: 'faces'},
        labels={0: 'batch', 1: 'faces'},
        landmarks={0: 'batch', 1: 'faces'}))
