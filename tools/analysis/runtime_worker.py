"""One process of ``tools/benchmark.py runtime``; runs in the Python of other packages too.

Reads a JSON line with its job from standard input, then JSON lists of image names; answers each with a JSON list of
milliseconds, one per image.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before any package imports ONNX Runtime


def facedet_mm(job):
    """Our detector."""
    from facedet_mm.detectors import build_detector

    detector = build_detector(
        job["model"],
        device=job["device"],
        score_thr=job["score_thr"],
        input_size=job["size"],
        threads=job["threads"],
        close_ups=job["close_ups"],
    )
    return lambda image: lambda: detector.detect(image)


def onnxruntime(job):
    """ONNX Runtime alone: one run of the file as it is, with its own defaults, on an input that is ready."""
    from onnxruntime import InferenceSession

    from facedet_mm.detectors import OnnxDetector
    from facedet_mm.detectors.preprocess import fit, make_blob

    detector = OnnxDetector(job["model"], input_size=job["size"])
    size, network = detector.options.input_size, detector.network
    del detector
    session = InferenceSession(job["model"], providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def prepare(image):
        box = fit(image.shape[1], image.shape[0], size, network.divisor)
        blob = make_blob([image], [box], network.normalization)
        return lambda: session.run(None, {name: blob})

    return prepare


def insightface(job):
    """The ``insightface`` package."""
    from insightface.model_zoo.scrfd import SCRFD

    detector = SCRFD(model_file=job["model"])
    detector.prepare(-1, input_size=(640, 640), det_thresh=job["score_thr"])
    return lambda image: lambda: detector.detect(image, input_size=(640, 640))


def uniface(job):
    """The ``uniface`` package, on our file instead of one that it downloads."""
    from uniface.detection import scrfd

    scrfd.verify_model_weights = lambda _: job["model"]
    detector = scrfd.SCRFD(confidence_threshold=job["score_thr"], providers=["CPUExecutionProvider"])
    return lambda image: lambda: detector.detect(image)


def opencv(job):
    """OpenCV's own YuNet, at the size that fits into 640 × 640."""
    import cv2

    detector = cv2.FaceDetectorYN.create(job["model"], "", (640, 640), job["score_thr"], 0.4, 5000)

    def prepare(image):
        scale = 640 / max(image.shape[:2])
        size = (640, 640)

        def run():
            canvas = cv2.copyMakeBorder(
                resized := cv2.resize(image, None, fx=scale, fy=scale),
                0, 640 - resized.shape[0], 0, 640 - resized.shape[1], cv2.BORDER_CONSTANT,
            )  # fmt: skip
            detector.setInputSize(size)
            return detector.detect(canvas)

        return run

    return prepare


def limit_threads(threads):
    """Sets the number of threads of every session of ONNX Runtime and of OpenCV."""
    import cv2
    import onnxruntime

    create = onnxruntime.InferenceSession.__init__

    def create_limited(session, model, sess_options=None, *args, **kwargs):
        sess_options = sess_options or onnxruntime.SessionOptions()
        sess_options.intra_op_num_threads = threads
        create(session, model, sess_options, *args, **kwargs)

    onnxruntime.InferenceSession.__init__ = create_limited
    cv2.setNumThreads(threads)


def main():
    job = json.loads(sys.stdin.readline())
    if job["threads"]:
        limit_threads(job["threads"])
    answers, sys.stdout = sys.stdout, sys.stderr  # what a package prints must not mix with the answers
    prepare = globals()[job["package"]](job)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(
            json.dumps([best_time(prepare, name, job["repeats"]) for name in json.loads(line)]),
            file=answers,
            flush=True,
        )


def best_time(prepare, name, repeats):
    """Returns the least milliseconds of a few calls on an image."""
    import cv2

    run = prepare(cv2.imread(name))
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        best = min(best, 1e3 * (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    main()
