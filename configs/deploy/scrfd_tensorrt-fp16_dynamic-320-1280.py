_base_ = './scrfd_tensorrt_dynamic-320-1280.py'

backend_config = dict(common_config=dict(fp16_mode=True))
