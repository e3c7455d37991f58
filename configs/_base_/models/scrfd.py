# What all SCRFD models share; each size adds its backbone and widths.
model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='FaceDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[128.0, 128.0, 128.0],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        test_size=640),
    neck=dict(type='PAFPN', start_level=1, add_extra_convs='on_output', num_outs=3),
    bbox_head=dict(
        type='SCRFDHead',
        num_classes=1,
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            scales=[1, 2],
            base_sizes=[16, 64, 256],
            strides=[8, 16, 32]),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='DIoULoss', loss_weight=2.0),
        loss_landmarks=dict(type='SmoothL1Loss', beta=1 / 9, loss_weight=0.1)),
    train_cfg=dict(assigner=dict(type='SparseATSSAssigner', topk=9)),
    # min_bbox_size=0 drops boxes in the padding, which clipping leaves without area
    test_cfg=dict(
        nms_pre=-1,
        min_bbox_size=0,
        score_thr=0.02,
        nms=dict(type='nms', iou_threshold=0.45),
        max_per_img=20000))
