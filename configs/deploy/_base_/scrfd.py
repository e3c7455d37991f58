# What all backends share. `dets` (B, K, 5) x1 y1 x2 y2 score and `landmarks` (B, K, 5, 2) are in pixels of the
# input; a model without landmarks has no third output.
onnx_config = dict(
    type='onnx',
    export_params=True,
    keep_initializers_as_inputs=False,
    opset_version=17,
    save_file='end2end.onnx',
    input_names=['input'],
    output_names=['dets', 'labels', 'landmarks'],
    input_shape=None,
    optimize=False)

# These thresholds replace those of the model's test_cfg.
codebase_config = dict(
    type='mmdet',
    task='ObjectDetection',
    model_type='face_end2end',
    module=['facedet_mm.plugin.deploy.mmdeploy_rewriters'],
    post_processing=dict(
        score_threshold=0.02,
        iou_threshold=0.45,
        # WIDER FACE has up to 709 faces per image, and its protocol counts detections down to score 0.02. With the
        # best 1,000 per image, Hard AP is 0.1 points lower than with the best 3,000; more do not raise it.
        max_output_boxes_per_class=3000,
        keep_top_k=3000,
        pre_top_k=100000,  # more than there are
        background_label_id=-1))
