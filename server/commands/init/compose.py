"""A file for Docker Compose."""

import json
import shlex

from saccade.server.commands.init.plan import PORT, Exposure, Plan

_MODEL = "/model"

_PROXY = """#
# The port is open to this machine alone. In front of it put a proxy, for TLS and for limits per
# client (the server knows no clients beside their keys); let it pass /v1/ and not /metrics.
"""


def compose(plan: Plan, version: str, file: str, key_file: str) -> str:
    """The text of the file.

    Args:
        file: Where this is written.
        key_file: Where the key was written, if the plan needs one.

    Raises:
        ValueError: there is no image for the plan.
    """
    if not plan.gpus:
        raise ValueError("the image is for GPUs: --kind systemd serves on a CPU")
    env_file = f"--env-file {shlex.quote(key_file)} " if plan.needs_key else ""
    text = f"""# Saccade {version}: {plan.summary}.
#
#   docker build --tag saccade:{version} .        in a checkout; on the machine that runs it
#   docker compose --file {shlex.quote(file)} {env_file}up --detach
"""
    if plan.exposure is Exposure.INTERNET:
        text += _PROXY
    model = _MODEL if plan.folder else plan.model
    command = [("", model), ("Within the container.", "--host=0.0.0.0"), ("", f"--port={PORT}")]
    lines = []
    for why, flag in [*command, *plan.flags()]:
        lines += [f"      # {why}"] if why else []
        lines.append(f"      - {_string(flag)}")
    address = "0.0.0.0" if plan.exposure is Exposure.NETWORK else "127.0.0.1"  # noqa: S104
    key = (
        "      # Not without a key; several are separated by commas.\n"
        "      SACCADE_API_KEY: ${SACCADE_API_KEY:?is not set, see --env-file}\n"
        if plan.needs_key
        else ""
    )
    folder = (
        f"      - type: bind\n        source: {_string(str(plan.folder))}\n"
        f"        target: {_MODEL}\n        read_only: true\n"
        if plan.folder
        else ""
    )
    return f"""{text}
services:
  saccade:
    image: saccade:{version}
    command:
{chr(10).join(lines)}
    environment:
      # For gated checkpoints.
      HF_TOKEN: ${{HF_TOKEN:-}}
{key}    ports:
      - {address}:{PORT}:{PORT}
    volumes:
      # Downloaded checkpoints.
      - model-cache:/home/saccade/.cache
{folder}    # Tensor parallel workers talk through shared memory.
    shm_size: 8gb
    init: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    # The server exits when its engine dies.
    restart: unless-stopped
    # Longer than the server takes to finish the requests under way.
    stop_grace_period: 60s
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: {plan.gpus}
              capabilities: [gpu]

volumes:
  model-cache:
"""


def _string(text: str) -> str:
    """A YAML string in which Compose replaces nothing; JSON's strings are YAML's too."""
    return json.dumps(text.replace("$", "$$"))
