# RetinaFace with MobileNet-0.25, after its PyTorch implementation: one GPU with 32 images.
_base_ = [
    './_base_/datasets/wider_face.py', './_base_/schedules/schedule_640e.py', './_base_/tta.py',
    './_base_/default_runtime.py'
]

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='FaceDataPreprocessor', mean=[104, 117, 123], std=[1, 1, 1], bgr_to_rgb=False, pad_size_divisor=32,
        test_size=640),
    backbone=dict(
        type='MobileNetV1',
        stem_planes=(8, 16),
        stage_planes=(32, 64, 128, 256),
        stage_blocks=(2, 2, 6, 2),
        act_cfg=dict(type='LeakyReLU', negative_slope=0.1)),
    neck=dict(
        type='RetinaFaceNeck',
        in_channels=[32, 64, 128, 256],
        out_channels=64,
        start_level=1,
        act_cfg=dict(type='LeakyReLU', negative_slope=0.1)),
    bbox_head=dict(
        type='RetinaFaceHead',
        in_channels=64,
        with_landmarks=True,
        negatives=7,
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            scales=[1, 2],
            base_sizes=[16, 64, 256],
            centers=[(4, 4), (8, 8), (16, 16)],
            strides=[8, 16, 32]),
        loss_cls=dict(type='CrossEntropyLoss', reduction='none', loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0, reduction='sum', loss_weight=2.0),
        loss_landmarks=dict(type='SmoothL1Loss', beta=1.0, reduction='sum', loss_weight=1.0)),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.35, neg_iou_thr=0.35, min_pos_iou=0.2)),
    test_cfg=dict(
        nms_pre=-1, min_bbox_size=0, score_thr=0.02, nms=dict(type='nms', iou_threshold=0.4), max_per_img=20000))

crop_faces = dict(_base_.crop_faces, scales=(0.3, 0.45, 0.6, 0.8, 1.0))
train_pipeline = [*_base_.load_faces, crop_faces, *_base_.augmentations, _base_.pack_faces]
train_dataloader = dict(
    batch_size=32, dataset=dict(ann_file='retinaface_gt/train/label.txt', pipeline=train_pipeline))

train_cfg = dict(max_epochs=250)
param_scheduler = [dict(type='MultiStepLR', begin=0, end=250, milestones=[190, 220], gamma=0.1, by_epoch=True)]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=32)
