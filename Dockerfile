# The runtime half on CPUs: ONNX Runtime, and OpenVINO for --device openvino.
#
#   docker build -t facedet-mm .
#   docker run --rm --user "$(id -u)" -v "$PWD:/work" facedet-mm detect photo.jpg --out annotated
#
# Downloaded models are in /cache: add -v facedet-cache:/cache to keep them between runs.
FROM python:3.12-slim-bookworm

# Libraries that OpenCV links to; Debian keeps only the newest versions, so none are pinned
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

# hadolint ignore=DL3013
RUN --mount=type=bind,target=/src,rw pip install --no-cache-dir '/src[openvino]'

RUN useradd --uid 10001 facedet && install -d -m 1777 /cache /work
ENV FACEDET_HOME=/cache
VOLUME /cache
WORKDIR /work
USER 10001
ENTRYPOINT ["facedet"]
CMD ["--help"]
