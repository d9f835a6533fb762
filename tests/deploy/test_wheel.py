"""A release: the sdist, and the wheel made from it, installed where there is no checkout.

The dependencies are gigabytes and minutes, so that the environment does not install them again: it
sees those of the environment that runs the tests, by links, and of Saccade nothing but the wheel.
Commands run in a folder of their own, with a fresh home and cache.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import httpx
import pytest
import yaml

from saccade.server.commands.child import LIGHT_FLAGS, ServerProcess

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["project"]["version"]
UV = [sys.executable, "-m", "uv"]


def tracked() -> list[Path]:
    """The files of the repository as they are now, without what nobody commits."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, which is built from the repository's files alone."""
    folder = tmp_path_factory.mktemp("release")
    for file in tracked():
        copy = folder / "source" / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, copy)
    flags = ["--no-build-isolation", "--python", sys.executable, "--offline"]
    subprocess.run(
        [*UV, "build", *flags, "--out-dir", str(folder / "dist"), str(folder / "source")],
        check=True,
        capture_output=True,
    )
    names = {file.name for file in (folder / "dist").iterdir() if file.name != ".gitignore"}
    assert names == {f"saccade-{VERSION}.tar.gz", f"saccade-{VERSION}-py3-none-any.whl"}
    return folder / "dist" / f"saccade-{VERSION}-py3-none-any.whl"


def environment_with(wheel: Path, folder: Path, without: tuple[str, ...] = ()) -> Path:
    """An environment with the wheel and, by links, all that is installed here but this project."""
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    left_out = re.compile("|".join((r"saccade[-.]", "__editable__", *without)))
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if entry.suffix != ".pth" and not left_out.match(entry.name):
                (dependencies / entry.name).symlink_to(entry)
    environment = folder / "environment"
    quiet = {"check": True, "capture_output": True}
    subprocess.run([*UV, "venv", "--python", sys.executable, str(environment)], **quiet)
    python = str(environment / "bin" / "python")
    subprocess.run(
        [*UV, "pip", "install", "--no-deps", "--offline", "--python", python, str(wheel)], **quiet
    )
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    return environment


class Installed:
    """An environment, and a home and a working folder that nobody has used."""

    def __init__(self, environment: Path, folder: Path) -> None:
        self.saccade = str(environment / "bin" / "saccade")
        self.folder = folder
        self.cache = folder / "cache" / "saccade"
        (folder / "home").mkdir(parents=True)
        self.work = folder / "work"
        self.work.mkdir()
        (self.site,) = environment.glob("lib/python*/site-packages/saccade")

    def variables(self) -> dict[str, str]:
        ours = ("PYTHON", "VIRTUAL_ENV", "SACCADE_", "XDG_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **kept,
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }

    def run(self, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.saccade, *arguments],
            cwd=self.work,
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=timeout,
        )


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    return Installed(environment_with(wheel, folder), folder / "user")


class InstalledServer(ServerProcess):
    """`saccade serve` of the wheel."""

    def __init__(self, installed: Installed) -> None:
        self._installed = installed
        super().__init__("demo", LIGHT_FLAGS)

    def command(self, model: str) -> list[str]:
        return [self._installed.saccade, "serve", model]

    def environment(self) -> dict[str, str]:
        return self._installed.variables()


def test_the_wheel_has_what_the_packages_have(wheel: Path) -> None:
    folders = PROJECT["tool"]["setuptools"]["package-dir"].values()
    # Remarks for whoever reads the repository.
    ours = {
        f"saccade/{file}" for file in tracked() if file.parts[0] in folders and file.suffix != ".md"
    }
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
        names -= {name for name in names if name.endswith(".md")}
        licence = opened.read(f"saccade-{VERSION}.dist-info/licenses/LICENSE")
    assert names == ours
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_everything_names_the_same_version(installed: Installed) -> None:
    assert installed.run("--version").stdout == f"saccade {VERSION}\n"
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == VERSION
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    assert compose["services"]["saccade"]["image"] == f"saccade:{VERSION}"
    for file in ("README.md", "docs/installing.md"):
        assert set(re.findall(r"saccade-([\d.]+\d)", (ROOT / file).read_text())) == {VERSION}


def test_nothing_of_the_checkout_is_seen(installed: Installed) -> None:
    code = "import saccade.server, saccade.demo; print(saccade.server.__file__)"
    python = Path(installed.saccade).with_name("python")
    shown = subprocess.run(
        [python, "-c", code],
        cwd=installed.work,
        env=installed.variables(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert Path(shown) == installed.site / "server" / "__init__.py"
    assert not list(installed.site.rglob("compiled-*"))


def test_plan(installed: Installed) -> None:
    image = installed.site / "demo" / "media" / "shapes.jpg"
    done = installed.run("plan", str(image), "--json")
    assert done.returncode == 0, done.stderr
    (medium,) = json.loads(done.stdout)["media"]
    assert medium["upright_size"] == [224, 168]


def test_init(installed: Installed) -> None:
    flags = ("--model", "demo", "--gpus", "0", "--expose", "local", "--output", "one.service")
    done = installed.run("init", *flags)
    # Only root cannot have it in a home.
    assert done.returncode == 0 or "is in a home" in done.stderr, done.stderr


def test_doctor_says_that_nothing_is_compiled_here(installed: Installed) -> None:
    done = installed.run("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("SLOW: kernels: the operations on the CPU are not compiled")
    assert "\n  mend: saccade doctor --fix" in done.stdout
    assert done.stdout.endswith("all is well\n")
    assert not installed.cache.exists()


@pytest.mark.usefixtures("starts_engine")
def test_the_first_start_compiles_and_serves(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with InstalledServer(installed) as server:
        server.wait_ready(600)
        log = server.log_tail(1000)
        models = httpx.get(f"{server.url}/v1/models").json()["data"]
        docs = httpx.get(f"{server.url}/docs")
        assert server.stop() == 0
    (compiled,) = installed.cache.glob("compiled-*.so")
    assert "compiling the operations on the CPU" in log
    assert f"compiled: {compiled}" in log
    assert [model["id"] for model in models] == ["demo"]
    assert docs.status_code == 200
    assert not list(installed.site.rglob("compiled-*"))
    assert not list(tmp_path.iterdir()), "the server writes nothing where it is started"
    done = installed.run("doctor", "--verbose")
    assert done.returncode == 0, done.stdout
    assert "not compiled" not in done.stdout
    assert "\n  on the CPU        compiled for this processor" in done.stdout


@pytest.mark.usefixtures("starts_engine")
def test_demo(installed: Installed) -> None:
    done = installed.run("demo", "--boxes", "found.png")
    assert done.returncode == 0, done.stderr
    assert "\ngreen\n[right: green]\n" in done.stdout
    assert "\nOPEN\n[right: OPEN]\n" in done.stdout
    assert (installed.work / "found.png").exists()


def test_doctor_mends_what_is_damaged(installed: Installed) -> None:
    done = installed.run("doctor", "--verbose")
    if "not compiled" in done.stdout:
        assert installed.run("doctor", "--fix").returncode == 0
    (compiled,) = installed.cache.glob("compiled-*.so")
    compiled.write_bytes(b"cut off")
    done = installed.run("doctor", "--fix")
    assert done.returncode == 0, done.stdout
    before, _, after = done.stdout.partition("after that:\n")
    assert "SLOW: kernels: the operations on the CPU are compiled, but not loaded" in before
    assert f"\n  compiled: {compiled}\n" in before
    assert after.startswith("fine: ")
    assert after.endswith("all is well\n")


def test_without_vllm_the_commands_say_so(wheel: Path, tmp_path: Path) -> None:
    environment = environment_with(wheel, tmp_path, without=("vllm",))
    bare = Installed(environment, tmp_path / "user")
    serve = bare.run("serve", "demo")
    assert serve.returncode == 1
    (line,) = [line for line in serve.stderr.splitlines() if "Triton" not in line]
    assert "vLLM is not installed: install Saccade with the extra cuda or cpu" in line
    doctor = bare.run("doctor")
    assert doctor.returncode == 1
    assert doctor.stdout.startswith("WRONG: versions: vLLM or the model class cannot be imported")
    image = bare.site / "demo" / "media" / "shapes.jpg"
    assert bare.run("plan", str(image)).returncode == 0


def test_a_package_that_cannot_be_imported_is_uninstalled(
    wheel: Path, installed: Installed, tmp_path: Path
) -> None:
    """As PyPI's torchvision beside a CPU build of torch."""
    environment = environment_with(wheel, tmp_path, without=("torchvision",))
    broken = tmp_path / "torchvision-1-py3-none-any.whl"
    with zipfile.ZipFile(broken, "w") as opened:
        opened.writestr("torchvision/__init__.py", "raise RuntimeError('operator does not exist')")
        info = "torchvision-1.dist-info"
        opened.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: torchvision\nVersion: 1\n"
        )
        opened.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        opened.writestr(f"{info}/RECORD", "")
    python = str(environment / "bin" / "python")
    subprocess.run(
        [*UV, "pip", "install", "--no-deps", "--offline", "--python", python, str(broken)],
        check=True,
        capture_output=True,
    )
    torn = Installed(environment, tmp_path / "user")
    if installed.cache.exists():  # what would take a minute to compile again
        shutil.copytree(installed.cache, torn.cache)
    assert torn.run("doctor").returncode == 1
    done = torn.run("doctor", "--fix")
    before, _, after = done.stdout.partition("after that:\n")
    assert before.startswith("WRONG: versions: torchvision is installed but cannot be imported")
    assert "\n  uninstalled: torchvision\n" in before
    assert done.returncode == 0, done.stdout
    assert "torchvision" not in after
