# Blur, JPEG compression, darkness and erased patches, to be added to the `augmentations` of a training pipeline.
robust_augmentations = [
    dict(type='RandomGaussianBlur', sigma=(0.5, 3.0), prob=0.2),
    dict(type='RandomJPEG', quality=(20, 80), prob=0.2),
    dict(type='RandomGammaDark', gamma=(1.5, 3.0), prob=0.2),
    dict(type='RandomFaceErasing'),
]
