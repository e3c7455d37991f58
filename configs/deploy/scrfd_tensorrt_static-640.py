_base_ = './_base_/static-640.py'

# Every TensorRT 8 reads opset 13. NMS is mmdeploy's TRTBatchedNMS, which takes at most the best 5,120 boxes and always
# returns keep_top_k rows.
onnx_config = dict(opset_version=13)
codebase_config = dict(post_processing=dict(pre_top_k=5000))
backend_config = dict(
    type='tensorrt',
    common_config=dict(fp16_mode=False, max_workspace_size=1 << 30),
    model_inputs=[
        dict(
            input_shapes=dict(
                input=dict(min_shape=[1, 3, 640, 640], opt_shape=[1, 3, 640, 640], max_shape=[1, 3, 640, 640])))
    ])
