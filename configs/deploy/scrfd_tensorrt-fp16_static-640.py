_base_ = './scrfd_tensorrt_static-640.py'

backend_config = dict(common_config=dict(fp16_mode=True))
