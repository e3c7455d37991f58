_base_ = [
    './models/scrfd.py', './datasets/wider_face.py', './schedules/schedule_640e.py', './tta.py', './default_runtime.py'
]
