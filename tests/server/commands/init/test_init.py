"""`saccade init`: what it asks, what it writes, and that both kinds of file say what was meant."""

import configparser
import itertools
import os
import pty
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from saccade.server.cli import main
from saccade.server.commands.init import systemd
from saccade.server.core.command_line import command_parser
from saccade.server.core.settings import load_settings

MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
KEY = "SACCADE_API_KEY="


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, where the files go; and a Saccade that lies in nobody's home."""
    monkeypatch.chdir(tmp_path)
    for name in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, name, "/opt/saccade")
    monkeypatch.setattr(
        "saccade.server.commands.init.command.saccade_command", lambda: ["/bin/saccade"]
    )
    return tmp_path


def init(*flags: str, model: str = MODEL, gpus: str = "1", expose: str = "local") -> int:
    return main(["init", "--model", model, "--gpus", gpus, "--expose", expose, *flags])


def serving(words: list[str]):
    """The settings and the flags of vLLM that the server would have."""
    _, parser = command_parser("serve")
    arguments = parser.parse_args(words)
    return load_settings(arguments), arguments


def unit(file: Path) -> configparser.ConfigParser:
    """A unit whose keys stand once, but for Environment."""
    text = file.read_text().replace("\nEnvironment=", "\nEnvironment{}=", 1)
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(text.replace("\\\n", ""))
    return parser


def start_words(file: Path) -> list[str]:
    """What the unit starts, as systemd reads it: quotes, then specifiers and variables."""
    words = shlex.split(unit(file)["Service"]["ExecStart"])
    return [word.replace("%%", "%").replace("$$", "$") for word in words]


def verify(file: Path) -> None:
    """By systemd's own tool, where there is one, with a command that exists."""
    if shutil.which("systemd-analyze"):
        whole = file.with_name("verified.service")
        whole.write_text(file.read_text().replace("/bin/saccade", "/bin/true"))
        ended = subprocess.run(
            ["systemd-analyze", "verify", str(whole)], capture_output=True, text=True
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("expose", "gpus"), itertools.product(("local", "network", "internet"), ("0", "1", "4"))
)
def test_a_service(expose, gpus, folder):
    assert init(gpus=gpus, expose=expose) == 0
    file = folder / "saccade.service"
    verify(file)
    command, serve, *words = start_words(file)
    assert (command, serve) == ("/bin/saccade", "serve")
    settings, arguments = serving(words)
    assert arguments.model_tag == MODEL
    assert arguments.host == ("0.0.0.0" if expose == "network" else "127.0.0.1")
    assert arguments.port == 8000
    assert arguments.tensor_parallel_size == max(1, int(gpus))
    service = unit(file)["Service"]
    assert service["DynamicUser"] == service["ProtectHome"] == "yes"
    assert ("PrivateDevices" in service) == (gpus == "0")
    assert ("CUDA_VISIBLE_DEVICES=0" in file.read_text()) == (gpus != "0")
    # The key is in a file of its own, and there is no start without it.
    key_file = folder / "saccade.env"
    assert key_file.exists() == (expose != "local")
    assert service["EnvironmentFile"].startswith("-") == (expose == "local")
    assert ("ExecStartPre" in service) == (expose != "local")
    defaults, _ = serving(["demo"])
    stricter = settings.max_request_bytes < defaults.max_request_bytes
    assert stricter == (settings.max_n < defaults.max_n) == (expose == "internet")
    assert arguments.disable_fastapi_docs == (expose == "internet")


@pytest.mark.parametrize(
    ("expose", "gpus"), itertools.product(("local", "network", "internet"), ("1", "4"))
)
def test_a_compose_file(expose, gpus, folder):
    assert init("--kind", "compose", gpus=gpus, expose=expose) == 0
    service = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["saccade"]
    _, arguments = serving([word.replace("$$", "$") for word in service["command"]])
    assert arguments.model_tag == MODEL
    assert arguments.tensor_parallel_size == int(gpus)
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": int(gpus), "capabilities": ["gpu"]}
    address = "0.0.0.0" if expose == "network" else "127.0.0.1"
    assert service["ports"] == [f"{address}:8000:8000"]
    # Compose itself refuses to start without the key.
    required = service["environment"].get("SACCADE_API_KEY", "")
    assert required.startswith("${SACCADE_API_KEY:?") == (expose != "local")


def test_a_key_is_new_and_its_owners_alone(folder, capsys):
    old = os.umask(0)
    try:
        assert init(expose="network") == 0
    finally:
        os.umask(old)
    key_file = folder / "saccade.env"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    (line,) = [line for line in key_file.read_text().splitlines() if line.startswith(KEY)]
    key = line.removeprefix(KEY)
    assert len(key) >= 32
    assert key not in (folder / "saccade.service").read_text() + capsys.readouterr().out
    # It is kept when the service is written anew.
    assert init("--force", expose="internet") == 0
    assert line in key_file.read_text()
    (folder / "other").mkdir()
    assert init("--output", "other/saccade.service", expose="network") == 0
    assert line not in (folder / "other" / "saccade.env").read_text()


@pytest.mark.parametrize(
    ("mode", "text", "told"),
    [(0o644, f"{KEY}secret\n", "chmod 600"), (0o600, "HF_TOKEN=x\n", KEY)],
)
def test_a_key_file_that_will_not_do(mode, text, told, folder, capsys):
    key_file = folder / "saccade.env"
    key_file.write_text(text)
    key_file.chmod(mode)
    assert init(expose="network") == 2
    assert told in capsys.readouterr().err
    assert not (folder / "saccade.service").exists()
    assert key_file.read_text() == text


def test_nothing_is_written_through_a_link(folder):
    (folder / "saccade.env").symlink_to(folder / "elsewhere")
    assert init(expose="network") != 0
    assert not (folder / "elsewhere").exists()


def test_a_file_that_exists_is_kept(folder, capsys):
    file = folder / "saccade.service"
    file.write_text("mine")
    assert init() == 2
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert init("--force") == 0
    assert file.read_text() != "mine"


def test_a_folder_that_does_not_exist(capsys):
    assert init("--output", "none/saccade.service") == 1
    assert capsys.readouterr().err == (
        "saccade init: error: none/saccade.service: No such file or directory\n"
    )


@pytest.mark.parametrize(
    "flags",
    [
        ["--gpus", "1", "--expose", "local"],
        ["--model", MODEL, "--expose", "local"],
        ["--model", MODEL, "--gpus", "1"],
    ],
)
def test_it_asks_nothing_without_a_terminal(flags, folder, monkeypatch, capsys):
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main(["init", *flags]) == 2
    assert "is missing, and there is no terminal to ask on" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "flags",
    [
        ["--model", "no such folder"],
        ["--model", "-rf/x"],
        ["--gpus", "-1"],
        ["--gpus", "all"],
        ["--expose", "world"],
    ],
)
def test_answers_that_cannot_be_used(flags, capsys):
    with pytest.raises(SystemExit) as end:
        main(["init", *flags])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert flags[0] in error
    assert len(error.splitlines()) == 1


def test_there_is_no_image_for_a_cpu(folder, capsys):
    assert init("--kind", "compose", gpus="0") == 2
    assert "--kind systemd" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_folder_with_an_awkward_name(folder):
    model = folder / '100 % of $HOME\'s "best"'
    model.mkdir()
    assert init(model=str(model)) == 0
    verify(folder / "saccade.service")
    assert start_words(folder / "saccade.service")[2] == str(model)
    assert init("--kind", "compose", model=str(model)) == 0
    service = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["saccade"]
    bind = service["volumes"][-1]
    assert service["command"][0] == bind["target"]
    assert bind["source"].replace("$$", "$") == str(model)
    assert bind["read_only"] is True


def test_an_installation_in_a_home(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "prefix", "/home/ada/venv")
    monkeypatch.setattr(systemd.getpass, "getuser", lambda: "ada")
    assert init() == 0
    service = unit(folder / "saccade.service")["Service"]
    assert (service["User"], service["ProtectHome"]) == ("ada", "read-only")
    assert "DynamicUser" not in service
    monkeypatch.setattr(systemd.getpass, "getuser", lambda: "root")
    assert init("--force") == 2
    assert "/home/ada/venv is in a home" in capsys.readouterr().err


def test_it_asks_three_questions_on_a_terminal(folder):
    ours, theirs = pty.openpty()
    # An answer that cannot be used is asked for again; an empty one is the default.
    os.write(ours, b"what is this\n\n2\nnetwork\n")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", "saccade.server.cli", "init", "--kind", "compose"],
        cwd=folder,
        env=environment,
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=120,
    )
    os.close(ours)
    os.close(theirs)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Which model?") == 2
    assert "is no folder and not like" in ended.stdout
    assert ended.stdout.count("How many GPUs?") == 1
    assert ended.stdout.count("Who reaches it?") == 1
    service = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["saccade"]
    assert service["command"][0] == MODEL
    assert "--tensor-parallel-size=2" in service["command"]
    assert service["ports"] == ["0.0.0.0:8000:8000"]
