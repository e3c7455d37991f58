_base_ = './scrfd_tensorrt-fp16_static-640.py'

# FP16 stays on for layers that have no INT8 kernel.
backend_config = dict(common_config=dict(int8_mode=True))
calib_config = dict(create_calib=True, calib_file='calib_data.h5')
