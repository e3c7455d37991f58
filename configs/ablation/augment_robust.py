# Robustness augmentation on: blur, JPEG, darkness and erased patches (baseline: ../scrfd_2.5g.py, off).
_base_ = '../scrfd_2.5g.py'

train_pipeline = _base_.train_pipeline
train_pipeline[5:5] = [
    dict(type='RandomGaussianBlur', sigma=(0.5, 3.0), prob=0.2),
    dict(type='RandomJPEG', quality=(20, 80), prob=0.2),
    dict(type='RandomGammaDark', gamma=(1.5, 3.0), prob=0.2),
    dict(type='RandomFaceErasing'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
