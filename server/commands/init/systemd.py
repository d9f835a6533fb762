"""A systemd service."""

import getpass
import re
import shlex
import sys
from pathlib import Path

from saccade.server.commands.init.plan import PORT, Exposure, Plan

_HOMES = ("/home", "/root", "/run/user")
_KEY_FILE = "/etc/saccade/saccade.env"

_PROXY = f"""#
# The server listens on this machine alone. In front of it put a proxy, for TLS and for limits per
# client (the server knows no clients beside their keys); let it pass /v1/ and not /metrics. Caddy:
#
#   api.example.com {{
#       reverse_proxy /v1/* 127.0.0.1:{PORT}
#   }}
"""


def service(plan: Plan, command: list[str], version: str, file: str, key_file: str) -> str:
    """The text of the unit.

    Args:
        command: What starts ``saccade``.
        file: Where this is written.
        key_file: Where the key was written, if the plan needs one.

    Raises:
        ValueError: no service that is not root could read what it needs.
    """
    lines = [
        f"# Saccade {version}: {plan.summary}.",
        "#",
        *(
            [f"#   sudo install -D -m 600 {shlex.quote(key_file)} {_KEY_FILE}"]
            if plan.needs_key
            else []
        ),
        f"#   sudo install -m 644 {shlex.quote(file)} /etc/systemd/system/saccade.service",
        "#   sudo systemctl daemon-reload",
        "#   sudo systemctl enable --now saccade",
        "#   journalctl --unit saccade --follow",
    ]
    text = "\n".join(lines) + "\n"
    if plan.exposure is Exposure.INTERNET:
        text += _PROXY
    host = "0.0.0.0" if plan.exposure is Exposure.NETWORK else "127.0.0.1"  # noqa: S104
    serve = [*command, "serve", plan.model, f"--host={host}", f"--port={PORT}"]
    flags = plan.flags()
    start = " \\\n    ".join([" ".join(map(_quoted, serve)), *(_quoted(flag) for _, flag in flags)])
    told = "".join(f"# {flag.partition('=')[0]}: {why}\n" for why, flag in flags)
    return f"""{text}
[Unit]
Description=Saccade, serving {plan.model.replace("%", "%%")}
Wants=network-online.target
After=network-online.target
# Give up after five failed starts: a wrong flag does not mend itself.
StartLimitIntervalSec=30min
StartLimitBurst=5

[Service]
Type=exec
{told}ExecStart={start}
{_environment(plan)}
# SIGTERM goes to the first process alone, which lets the requests under way finish (25 s) and ends
# the engine's processes itself.
KillMode=mixed
TimeoutStopSec=60
# The server exits with 1 when its engine dies, and with 2 when a flag is wrong.
Restart=on-failure
RestartPreventExitStatus=2
RestartSec=5
# Each request takes a connection, each of its media another.
LimitNOFILE=65536
# Memory holds what people have sent.
LimitCORE=0

{_user(plan, command)}
{_SANDBOX}{_DEVICES_GPU if plan.gpus else _DEVICES_CPU}
[Install]
WantedBy=multi-user.target
"""


def _environment(plan: Plan) -> str:
    lines = [
        "# Downloaded checkpoints, and the operations that are compiled at the first start.",
        "CacheDirectory=saccade",
        "CacheDirectoryMode=0700",
        "WorkingDirectory=%C/saccade",
        "Environment=HOME=%C/saccade XDG_CACHE_HOME=%C/saccade HF_HOME=%C/saccade/huggingface",
    ]
    if plan.gpus:
        indices = ",".join(map(str, range(plan.gpus)))
        lines.append(f"Environment=CUDA_VISIBLE_DEVICES={indices}")
    else:
        lines.append(
            "# Memory of the KV cache, in GiB (default: 4).\n#Environment=VLLM_CPU_KVCACHE_SPACE=8"
        )
    if plan.needs_key:
        lines += [
            "# SACCADE_API_KEY, several separated by commas; HF_TOKEN for gated checkpoints.",
            f"EnvironmentFile={_KEY_FILE}",
            "# Not without a key.",
            "ExecStartPre=/bin/sh -c 'test -n \"$$SACCADE_API_KEY\"'",
        ]
    else:
        lines += [
            "# HF_TOKEN for gated checkpoints, in a file that root alone may read.",
            f"EnvironmentFile=-{_KEY_FILE}",
        ]
    return "\n".join(lines)


def _user(plan: Plan, command: list[str]) -> str:
    """Whom it runs as: nobody in particular, unless what it needs lies in somebody's home."""
    needed = [Path(command[0]).parent, Path(sys.prefix), Path(sys.base_prefix)]
    needed += [plan.folder] if plan.folder else []
    private = next(
        (path for path in needed if any(path.is_relative_to(home) for home in _HOMES)), None
    )
    if private is None:
        return "# A user of its own, made at the start.\nDynamicUser=yes\nProtectHome=yes"
    user = getpass.getuser()
    if user == "root":
        raise ValueError(
            f"{private} is in a home that only root may read, and the service is not to be root: "
            "install Saccade in /opt, for example, and models in /srv"
        )
    return (
        f"# {private} lies in a home, which others may not read; better is a place in /opt.\n"
        f"User={user}\nProtectHome=read-only"
    )


_SANDBOX = """# The file system is read-only but for the cache.
ProtectSystem=strict
PrivateTmp=yes
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
# Netlink tells PyTorch's processes which network interfaces there are.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# No MemoryDenyWriteExecute: PyTorch and Triton write code at run time.
"""
_DEVICES_CPU = "PrivateDevices=yes\n"
_DEVICES_GPU = "# No PrivateDevices: it would hide the GPUs.\n"


def _quoted(word: str) -> str:
    """A word of a command line of systemd's: no specifiers, no variables."""
    word = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[\w@%+=:,./$-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
