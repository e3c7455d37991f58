_base_ = './scrfd_2.5g.py'

model = dict(bbox_head=dict(with_landmarks=True, share_levels=False, norm_cfg=dict(_delete_=True, type='BN')))
train_dataloader = dict(dataset=dict(ann_file='retinaface_gt/train/label.txt'))
