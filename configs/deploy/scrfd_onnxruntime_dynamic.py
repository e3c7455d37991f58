_base_ = './_base_/dynamic.py'

backend_config = dict(type='onnxruntime')
