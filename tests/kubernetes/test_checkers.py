"""The checks of the wiring can fail: each of these mistakes, made on purpose, is found and named."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.kubernetes import arrows, envoy, ports, references, settings
from tests.kubernetes.manifests import Manifest, Objects
from tests.kubernetes.rendering import FOLDERS, Variant, render, with_secrets

PROD = next(variant for variant in FOLDERS if variant.name == "overlays/prod")
DEV = next(variant for variant in FOLDERS if variant.name == "overlays/dev")
EXAMPLE = next(variant for variant in FOLDERS if variant.name.startswith("examples/"))


def container(objects: Objects, component: str, name: str = "service") -> Manifest:
    """One container of a rendering, to be changed."""
    return next(one for one in objects.pod(component).containers if one["name"] == name)


def config(objects: Objects, prefix: str) -> Manifest:
    """The ConfigMap whose name begins so."""
    return next(one for one in objects.of("ConfigMap") if one["metadata"]["name"].startswith(prefix))


def dangling_config_map(objects: Objects) -> None:
    container(objects, "encoder")["envFrom"][0]["configMapRef"]["name"] = "encoder-setting"


def secret_without_its_key(objects: Objects) -> None:
    objects.get("Secret", "pgvector")["stringData"] = {"pass": "word"}


def no_service_account(objects: Objects) -> None:
    objects.all.remove(objects.get("ServiceAccount", "search"))


def no_identity(objects: Objects) -> None:
    objects.all.remove(objects.get("Certificate", "caption-identity"))


def claim_by_another_name(objects: Objects) -> None:
    objects.get("PersistentVolumeClaim", "weights")["metadata"]["name"] = "models"


def scales_nothing(objects: Objects) -> None:
    objects.get("HorizontalPodAutoscaler", "encoder")["spec"]["scaleTargetRef"]["name"] = "encoders"


def scaled_and_fixed(objects: Objects) -> None:
    objects.get("Deployment", "encoder")["spec"]["replicas"] = 3


def selects_nobody(objects: Objects) -> None:
    objects.get("Service", "caption")["spec"]["selector"]["app.kubernetes.io/component"] = "captioner"


def guards_nobody(objects: Objects) -> None:
    policy = objects.get("NetworkPolicy", "encoder")
    policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] = "encode"


def scrapes_a_port_that_nobody_has(objects: Objects) -> None:
    objects.get("PodMonitor", "lensmesh")["spec"]["podMetricsEndpoints"][0]["port"] = "prometheus"


def target_of_another_name(objects: Objects) -> None:
    config(objects, "router-settings")["data"]["LENSMESH_ROUTER_CAPTION_TARGETS"] = "captioner:50052"


def target_at_another_port(objects: Objects) -> None:
    config(objects, "router-settings")["data"]["LENSMESH_ROUTER_SEARCH_TARGETS"] = "search:50054"


def target_past_the_sidecar(objects: Objects) -> None:
    config(objects, "router-settings")["data"]["LENSMESH_ROUTER_SEARCH_TARGETS"] = "127.0.0.1:52054"


def store_elsewhere(objects: Objects) -> None:
    secret = objects.get("Secret", "search-store")
    secret["stringData"]["LENSMESH_SEARCH_STORE_URL"] = "postgresql://lensmesh:x@postgres:5432/lensmesh"


def socket_that_nobody_makes(objects: Objects) -> None:
    config(objects, "router-settings")["data"]["LENSMESH_ROUTER_ENCODER_TARGETS"] = "unix:/run/encoder.sock"


def probe_at_a_wrong_port(objects: Objects) -> None:
    container(objects, "encoder")["readinessProbe"]["grpc"]["port"] = 50051


def probe_of_another_service(objects: Objects) -> None:
    container(objects, "search")["readinessProbe"]["grpc"]["service"] = "lensmesh.search.v1.Search"


def liveness_that_follows_the_store(objects: Objects) -> None:
    container(objects, "search")["livenessProbe"]["grpc"]["service"] = "lensmesh.search.v1.SearchService"


def no_startup_probe(objects: Objects) -> None:
    del container(objects, "encoder")["startupProbe"]


def listens_elsewhere(objects: Objects) -> None:
    config(objects, "encoder-settings")["data"]["LENSMESH_ENCODER_LISTEN"] = "0.0.0.0:50061"


def listens_on_the_loopback(objects: Objects) -> None:
    config(objects, "search-settings")["data"]["LENSMESH_SEARCH_LISTEN"] = "127.0.0.1:50053"


def service_port_that_nobody_translates(objects: Objects) -> None:
    objects.get("Service", "encoder")["spec"]["ports"][0]["port"] = 80


def two_on_one_port(objects: Objects) -> None:
    pod = objects.pod("app")
    pod.containers[0]["ports"][0]["containerPort"] = 50059


def misspelt_setting(objects: Objects) -> None:
    config(objects, "encoder-settings")["data"]["LENSMESH_ENCODER_MAX_BACTH"] = "64"


def setting_of_another_service(objects: Objects) -> None:
    config(objects, "router-settings")["data"]["LENSMESH_ENCODER_MAX_BATCH"] = "64"


def value_out_of_range(objects: Objects) -> None:
    config(objects, "caption-settings")["data"]["LENSMESH_CAPTION_MAX_BATCH"] = "0"


def killed_while_it_drains(objects: Objects) -> None:
    config(objects, "router-settings")["data"]["LENSMESH_ROUTER_DRAIN_SECONDS"] = "60"


def failed_while_it_starts(objects: Objects) -> None:
    objects.get("Deployment", "encoder")["spec"]["progressDeadlineSeconds"] = 300


def queue_larger_than_the_memory(objects: Objects) -> None:
    config(objects, "encoder-settings")["data"]["LENSMESH_ENCODER_MAX_QUEUE_BYTES"] = str(4 * 2**30)


def more_connections_than_the_store_takes(objects: Objects) -> None:
    config(objects, "search-settings")["data"]["LENSMESH_SEARCH_POOL_SIZE"] = "50"


def no_default_deny(objects: Objects) -> None:
    objects.all.remove(objects.get("NetworkPolicy", "default-deny"))


def an_arrow_with_one_end(objects: Objects) -> None:
    objects.get("NetworkPolicy", "router")["spec"]["egress"].pop()


def an_arrow_to_a_wrong_port(objects: Objects) -> None:
    objects.get("NetworkPolicy", "caption")["spec"]["ingress"][0]["ports"][0]["port"] = 50052


def envoy_port_that_is_closed(objects: Objects) -> None:
    container(objects, "router", "envoy")["ports"][0]["containerPort"] = 51059


def envoy_without_its_certificate(objects: Objects) -> None:
    container(objects, "router", "envoy")["volumeMounts"][1]["mountPath"] = "/etc/tls"


def envoy_calls_nobody(objects: Objects) -> None:
    objects.get("Service", "encoder")["spec"]["ports"][0]["port"] = 50051


def envoy_expects_another_identity(objects: Objects) -> None:
    objects.get("Certificate", "encoder-identity")["spec"]["uris"] = ["spiffe://elsewhere/ns/lensmesh/sa/encoder"]


MISTAKES: list[tuple[Variant, Callable[[Objects], None], Callable[[Objects], Iterable[str]], str]] = [
    (DEV, dangling_config_map, references.references, "no ConfigMap encoder-setting"),
    (PROD, secret_without_its_key, references.references, "Secret pgvector has no password"),
    (DEV, no_service_account, references.references, "no ServiceAccount search"),
    (PROD, no_identity, references.references, "no Secret caption-identity"),
    (PROD, claim_by_another_name, references.references, "no PersistentVolumeClaim weights"),
    (PROD, scales_nothing, references.references, "scales encoders, which is not there"),
    (PROD, scaled_and_fixed, references.references, "encoder has a number of replicas and an autoscaler"),
    (DEV, selects_nobody, references.selectors, "Service caption selects 0"),
    (DEV, guards_nobody, references.selectors, "NetworkPolicy encoder names pods that nobody makes"),
    (PROD, scrapes_a_port_that_nobody_has, references.selectors, "finds no port prometheus"),
    (DEV, target_of_another_name, references.targets, "there is no Service captioner"),
    (DEV, target_at_another_port, references.targets, "Service search has the ports [50053], not 50054"),
    (PROD, target_past_the_sidecar, references.targets, "no Envoy of the pod listens on 127.0.0.1:52054"),
    (PROD, store_elsewhere, references.targets, "there is no Service postgres"),
    (
        EXAMPLE,
        socket_that_nobody_makes,
        references.targets,
        "no container of the pod listens on unix:/run/encoder.sock",
    ),
    (DEV, probe_at_a_wrong_port, ports.ports, "readinessProbe of service asks 50051, health is told on 50059"),
    (DEV, probe_of_another_service, ports.ports, "asks for lensmesh.search.v1.Search, which search does not serve"),
    (DEV, liveness_that_follows_the_store, ports.ports, "liveness the process'"),
    (DEV, no_startup_probe, ports.ports, "startupProbe of service is missing"),
    (DEV, listens_elsewhere, ports.ports, "service listens on [9464, 50059, 50061] and opens [9464, 50051, 50059]"),
    (DEV, listens_on_the_loopback, ports.ports, "opens [9464, 50053, 50059]"),
    (DEV, service_port_that_nobody_translates, ports.ports, "is headless and says 80, the pods have 50051"),
    (EXAMPLE, two_on_one_port, ports.ports, "port 50059 is opened twice"),
    (DEV, misspelt_setting, settings.settings, "did you mean LENSMESH_ENCODER_MAX_BATCH?"),
    (DEV, setting_of_another_service, settings.settings, "LENSMESH_ENCODER_MAX_BATCH means nothing to router"),
    (DEV, value_out_of_range, settings.settings, "LENSMESH_CAPTION_MAX_BATCH is wrong"),
    (DEV, killed_while_it_drains, settings.settings, "needs 85 s to end and gets 60"),
    (DEV, failed_while_it_starts, settings.settings, "may start for 600 s, and its rollout is called failed after 300"),
    (DEV, queue_larger_than_the_memory, settings.settings, "encoder may take 9042 MiB and has 2048"),
    (PROD, more_connections_than_the_store_takes, settings.numbers, "may open 350 connections of 150"),
    (DEV, no_default_deny, arrows.policies, "nothing denies by default"),
    (DEV, an_arrow_with_one_end, arrows.policies, "only one end allows router -> search:50053"),
    (PROD, an_arrow_to_a_wrong_port, arrows.policies, "router -> caption:50052: nobody listens there"),
    (PROD, envoy_port_that_is_closed, envoy.sidecars, "Envoy listens on [9902, 51050] and the container opens"),
    (PROD, envoy_without_its_certificate, envoy.sidecars, "/var/run/lensmesh/tls/tls.crt, where no Secret is mounted"),
    (PROD, envoy_calls_nobody, envoy.sidecars, "Envoy calls encoder:51051, which no Service is"),
    (PROD, envoy_expects_another_identity, envoy.sidecars, "sa/encoder, which no Certificate has"),
]


@pytest.mark.parametrize(
    ("variant", "mistake", "check", "said"), MISTAKES, ids=lambda one: getattr(one, "__name__", "")
)
def test_a_mistake_is_found(variant: Variant, mistake: Any, check: Any, said: str) -> None:
    objects = Objects(with_secrets(render(variant)))
    assert list(check(objects)) == []
    mistake(objects)
    assert any(said in finding for finding in check(objects)), list(check(objects))
