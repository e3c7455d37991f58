_base_ = './_base_/static-640.py'

# The number of output rows depends on the image.
onnx_config = dict(dynamic_axes=dict(dets={1: 'faces'}, labels={1: 'faces'}, landmarks={1: 'faces'}))
backend_config = dict(type='onnxruntime')
