# Blur, JPEG, darkness and erased patches, for a pipeline whose last step is PackFaceInputs.
robust_augmentations = [
    dict(type='RandomGaussianBlur', sigma=(0.5, 3.0), prob=0.2),
    dict(type='RandomJPEG', quality=(20, 80), prob=0.2),
    dict(type='RandomGammaDark', gamma=(1.5, 3.0), prob=0.2),
    dict(type='RandomFaceErasing'),
]
