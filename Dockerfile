# The tag is the vLLM that the tests run on: this image brings CUDA, torch, triton and vLLM.
FROM vllm/vllm-openai:v0.32.0

# For the operations on the CPU (image resizing, JPEG decoding), which are compiled below.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libjpeg-dev \
    && rm -rf /var/lib/apt/lists/*

COPY . /opt/saccade

# Adds what the image lacks. What it has stays: pip fails rather than replace any of these.
RUN python3 -m pip list --format=freeze \
        | grep -iE '^(vllm|torch|torchvision|triton|transformers|tokenizers|numpy)==' \
        > /tmp/constraints.txt \
    && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir \
        --constraint /tmp/constraints.txt /opt/saccade \
    && rm /tmp/constraints.txt

# For the processor that builds the image: build it where it runs. Anywhere else, or if this fails,
# PyTorch's own operations run, and `saccade doctor` says so.
RUN cd / && python3 -m saccade.kernels.cpu.build || true

RUN useradd --create-home --uid 10001 saccade \
    && mkdir /home/saccade/.cache \
    && chown saccade:saccade /home/saccade/.cache
USER saccade
WORKDIR /home/saccade

EXPOSE 8000
# The start period covers a first download of the weights.
HEALTHCHECK --interval=15s --timeout=10s --start-period=30m --retries=4 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=8)"]

ENTRYPOINT ["saccade", "serve"]
CMD ["demo"]
