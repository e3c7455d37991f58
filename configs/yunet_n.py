# The model that ships with the package. The authors trained on two GPUs with 16 images each.
_base_ = [
    './_base_/datasets/wider_face.py', './_base_/schedules/schedule_640e.py', './_base_/tta.py',
    './_base_/default_runtime.py'
]

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='FaceDataPreprocessor', mean=[0, 0, 0], std=[1, 1, 1], bgr_to_rgb=False, pad_size_divisor=32,
        test_size=640),
    backbone=dict(type='YuNetBackbone', stem_channels=16, stage_channels=(64, 64, 64, 64, 64)),
    neck=dict(type='TinyFPN', in_channels=[64, 64, 64]),
    bbox_head=dict(
        type='YuNetHead', in_channels=64, feat_channels=64, shared_convs=1, with_landmarks=True,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0),
        loss_obj=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0),
        loss_bbox=dict(type='EIoULoss', reduction='sum', loss_weight=5.0),
        loss_landmarks=dict(type='SmoothL1Loss', beta=1 / 9, loss_weight=0.1)),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    test_cfg=dict(
        nms_pre=-1, min_bbox_size=0, score_thr=0.02, nms=dict(type='nms', iou_threshold=0.45), max_per_img=20000))

crop_faces = dict(type='RandomSquareCrop', scales=(0.5, 0.7, 0.9, 1.1, 1.3, 1.5), size=640)
train_pipeline = [*_base_.load_faces, crop_faces, dict(type='RandomFaceFlip', prob=0.5), _base_.pack_faces]
train_dataloader = dict(
    batch_size=16, dataset=dict(ann_file='retinaface_gt/train/label.txt', pipeline=train_pipeline))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1500, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=640, milestones=[400, 544], gamma=0.1, by_epoch=True),
]
auto_scale_lr = dict(base_batch_size=32)
