"""What can be told of the images and of compose.yaml without building anything: locks, ports, settings, versions."""

import asyncio
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from caption_svc.settings import CaptionSettings
from docs.generate import SERVICES
from encoder_svc.settings import EncoderSettings
from http_svc.settings import HttpSettings
from lensmesh_chassis.process.probe import main as probe
from lensmesh_chassis.process.server import running
from lensmesh_chassis.process.server_info import version
from lensmesh_chassis.settings import ServiceSettings, describe
from router_svc.settings import RouterSettings
from search_svc.settings import SearchSettings
from tests.support.every_shape import FakeApp, settings
from tests.support.tools import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
PARTS: dict[str, dict[str, Any]] = COMPOSE["services"]
LOCKS = ROOT / "deploy" / "images"
IMAGES: dict[str, type[ServiceSettings]] = {
    "router": RouterSettings,
    "encoder": EncoderSettings,
    "caption": CaptionSettings,
    "search": SearchSettings,
    "http": HttpSettings,
}
TARGETS = (*IMAGES, "cli")
HEALTH, METRICS = 50059, 9464


def pins(text: str) -> set[str]:
    """Each package with its version and its hashes, without the condition under which it is wanted."""
    return {re.sub(r" ;[^\\\n]*", " ", pin) for pin in re.split(r"\n(?=\S)", text.strip())}


def names(lock: Path) -> set[str]:
    return {pin.partition("==")[0] for pin in pins(lock.read_text())}


def stage(target: str) -> str:
    """A stage's own lines."""
    found = re.search(rf"^FROM \S+ AS {target}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
    assert found, target
    return found[1]


@pytest.mark.parametrize("image", TARGETS)
def test_images_install_what_everybody_tests_with(image: str) -> None:
    """Each image's lock is a part of the project's, hashes included, and no address is in it."""
    lock = LOCKS / f"{image}.lock"
    assert pins(lock.read_text()) <= pins((ROOT / "requirements.lock").read_text()), "run `make lock`"
    assert not re.search(r"https?://|--index-url|--find-links", lock.read_text())
    assert names(lock) & {"torch", "torchvision", "transformers"} == (
        {"torch", "torchvision", "transformers"} if image in ("encoder", "caption") else set()
    )
    assert ("sentry-sdk" in names(lock)) == (image != "cli")
    assert ("openvino" in names(lock)) == (image in ("encoder", "caption"))
    assert ("opencv-python-headless" in names(lock)) == (image in ("encoder", "router"))


def test_without_cuda_everything_else_stays() -> None:
    lock = LOCKS / "encoder.lock"
    patterns = ["torch", "torchvision", "triton", "nvidia-*", "cuda-*"]
    command = [sys.executable, str(LOCKS / "without.py"), *patterns]
    left = subprocess.run(command, input=lock.read_text(), capture_output=True, text=True, check=True).stdout
    assert pins(left) < pins(lock.read_text())
    gone = {pin.partition("==")[0] for pin in pins(lock.read_text()) - pins(left)}
    assert {"torch", "torchvision", "triton"} < gone
    assert all(re.fullmatch(r"torch|torchvision|triton|nvidia-.*|cuda-.*", name) for name in gone)


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_base_is_named_by_its_version() -> None:
    [base] = re.findall(r"^ARG BASE=(.*)$", DOCKERFILE, re.M)
    assert re.search(r":\d+\.\d+\.\d+-", base)
    froms = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.M)
    stages = {name for _, name in froms}
    assert all(source == "${BASE}" or source in stages for source, _ in froms)
    assert f"ARG VERSION={version()}\n" in DOCKERFILE


@pytest.mark.parametrize(("image", "cls"), IMAGES.items())
def test_ports_are_those_of_the_code(image: str, cls: type[ServiceSettings]) -> None:
    port = cls.model_fields["listen"].default.rpartition(":")[2]
    lines = stage(image)
    variables = dict(re.findall(r"(LENSMESH_\w+)=(\S+)", lines))
    prefix = cls.model_config.get("env_prefix", "")
    assert variables == {
        f"{prefix}LISTEN": f"0.0.0.0:{port}",
        f"{prefix}HEALTH_LISTEN": f"0.0.0.0:{HEALTH}",
        f"{prefix}METRICS_LISTEN": f"0.0.0.0:{METRICS}",
    }
    assert f"EXPOSE {port} {HEALTH} {METRICS}\n" in lines
    assert f'"lensmesh_chassis.process.probe", "127.0.0.1:{HEALTH}"]' in lines
    assert f'ENTRYPOINT ["python", "-m", "{image}_svc"]' in lines


def test_model_services_wait_without_spinning() -> None:
    assert "OMP_WAIT_POLICY=PASSIVE" in stage("models")
    for name in ("encoder", "caption", "encoder-gpu", "caption-gpu"):
        assert PARTS[name]["environment"]["OMP_WAIT_POLICY"] == "PASSIVE"


def test_only_what_is_listed_goes_into_a_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    packages = {name for name in wheel["packages"] if name.startswith("lensmesh_")}
    assert {rule for rule in rules if rule.startswith("!")} == {
        *("!pyproject.toml", "!README.md", "!LICENSE", "!deploy/images", "!gen", "!lensmesh_*", "!*_svc")
    }
    assert {path.name for path in ROOT.glob("lensmesh_*") if path.is_dir()} == packages


def test_compose_sets_real_settings_only() -> None:
    known = {setting.env for cls in SERVICES.values() for setting in describe(cls)} | {"LENSMESH_TARGET"}
    for name, part in PARTS.items():
        used = {variable for variable in part.get("environment", {}) if variable.startswith("LENSMESH_")}
        assert used <= known, name
        kind = name.removesuffix("-gpu")
        if kind in IMAGES:
            prefix = IMAGES[kind].model_config.get("env_prefix", "")
            assert all(variable.startswith(str(prefix)) for variable in used), name


def test_compose_wires_what_the_images_serve() -> None:
    ports = {kind: cls.model_fields["listen"].default.rpartition(":")[2] for kind, cls in IMAGES.items()}
    told = PARTS["router"]["environment"]
    for kind in ("encoder", "caption", "search"):
        assert told[f"LENSMESH_ROUTER_{kind.upper()}_TARGETS"] == f"{kind}:{ports[kind]}"
    assert PARTS["http"]["environment"]["LENSMESH_HTTP_ROUTER_TARGET"] == f"router:{ports['router']}"
    assert PARTS["http"]["ports"] == [f"127.0.0.1:{ports['http']}:{ports['http']}"]
    # Published on this machine alone, and yet no page of another name may be bound to it.
    assert PARTS["http"]["environment"]["LENSMESH_HTTP_HOSTS"] == "http"
    assert PARTS["router"]["ports"] == [f"127.0.0.1:{ports['router']}:{ports['router']}"]
    assert PARTS["lensmesh"]["environment"]["LENSMESH_TARGET"] == f"router:{ports['router']}"
    for kind in ("encoder", "caption"):
        assert PARTS[f"{kind}-gpu"]["networks"]["default"]["aliases"] == [kind]
        assert PARTS[f"{kind}-gpu"]["profiles"] == ["gpu"]
        assert PARTS[kind]["profiles"] == ["cpu"]
    store = PARTS["search"]["environment"]["LENSMESH_SEARCH_STORE_URL"]
    default = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", store).removeprefix("${STORE_URL:-").removesuffix("}")
    SearchSettings(store_url=SecretStr(default))
    assert default.endswith("@postgres:5432/lensmesh")
    defaults = (ROOT / ".env").read_text()
    assert re.search(r"^COMPOSE_PROFILES=cpu,pgvector$", defaults, re.M)
    assert "PASSWORD" not in defaults


@pytest.mark.parametrize("kind", ["encoder", "caption"])
def test_compose_keeps_over_a_restart_what_ended_a_model_service(kind: str) -> None:
    for name in (kind, f"{kind}-gpu"):
        folder = PARTS[name]["environment"][f"LENSMESH_{kind.upper()}_STATE_DIR"]
        (volume,) = [one.partition(":")[0] for one in PARTS[name]["volumes"] if one.endswith(f":{folder}")]
        assert volume in COMPOSE["volumes"]
        assert folder not in PARTS[name]["tmpfs"]
        # A new volume takes its owner from the image.
        assert re.search(rf"^COPY .*--chown=10001:10001 {folder} {folder}$", stage(kind), re.M)


def test_compose_is_closed_but_for_this_machine() -> None:
    for name, part in PARTS.items():
        assert part["read_only"] is True, name
        assert part["cap_drop"] == ["ALL"], name
        assert part["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in part.get("ports", [])), name
        for volume in part.get("volumes", []):
            source, _, options = volume.partition(":")
            if source.startswith("."):
                assert (ROOT / source).is_dir(), volume
                assert options.endswith(":ro"), volume
            else:
                assert source in COMPOSE["volumes"], volume


def test_compose_names_every_image_by_version() -> None:
    for name, part in PARTS.items():
        image, _, tag = part["image"].partition(":")
        assert re.search(r"\d+\.\d+", tag), name
        if image.startswith("lensmesh-"):
            assert tag.removesuffix("-gpu") == version()
            assert part["build"]["target"] == image.removeprefix("lensmesh-")
            assert part["build"]["target"] in TARGETS
        elif name != "jaeger":
            assert part["healthcheck"]["test"][0] == "CMD", name


def test_compose_shows_traces_and_metrics() -> None:
    """Traces go to Jaeger, and Prometheus keeps the exemplars that lead to them."""
    for name in ("router", "encoder", "caption", "encoder-gpu", "caption-gpu", "search", "http"):
        assert PARTS[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://jaeger:4317"
    assert "--enable-feature=exemplar-storage" in PARTS["prometheus"]["command"]
    sources = yaml.safe_load((ROOT / "deploy/observability/grafana/provisioning/datasources/lensmesh.yml").read_text())[
        "datasources"
    ]
    assert {source["url"] for source in sources} == {"http://prometheus:9090", "http://jaeger:16686"}
    scraped = yaml.safe_load((ROOT / "deploy/observability/prometheus/prometheus.yml").read_text())["scrape_configs"]
    for job in scraped:
        [found] = job["dns_sd_configs"]
        assert found["port"] == METRICS
        assert set(found["names"]) <= PARTS.keys()


async def test_the_probe_tells_by_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Docker passes one in where its own configuration names it.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with running(settings(health_listen="127.0.0.1:0"), FakeApp, "fake") as server:
        assert await asyncio.to_thread(probe, [server.health_address]) == 0
        assert await asyncio.to_thread(probe, [server.health_address, "nobody.v1.Service"]) == 1
        server.runtime.health.not_serving("", "a test")
        assert await asyncio.to_thread(probe, [server.health_address]) == 1
    assert await asyncio.to_thread(probe, ["127.0.0.1:1"]) == 1
    assert probe([]) == 2
