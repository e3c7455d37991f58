# Views that `tools/test.py --tta` merges, by the rules of the runtime's detectors.
tta_model = dict(type='FaceTTAModel', iou_thr=0.45)
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='KeepRatioResize', scale=(side, side)) for side in (640, 960, 1280, 1600)],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='PackDetInputs',
                  meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale', 'scale_factor', 'flip',
                             'flip_direction'))],
        ])]
