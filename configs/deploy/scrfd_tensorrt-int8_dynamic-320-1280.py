_base_ = './scrfd_tensorrt-fp16_dynamic-320-1280.py'

# FP16 stays allowed: layers without an INT8 kernel run in it.
backend_config = dict(common_config=dict(int8_mode=True))
calib_config = dict(create_calib=True, calib_file='calib_data.h5')
