import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conftest import leave_out

OVERLAYS = Path(__file__).parents[3] / "deploy" / "k8s" / "overlays"


def render(overlay: str) -> list[dict[str, Any]]:
    if not shutil.which("kubectl"):
        leave_out("no kubectl to render the manifests")
    done = subprocess.run(
        ["kubectl", "kustomize", str(OVERLAYS / overlay)],
        capture_output=True,
        text=True,
        check=True,
    )
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("overlay", ["cpu", "cpu-tls", "gpu"])
def test_an_overlay_renders_and_is_valid(overlay: str) -> None:
    manifests = render(overlay)
    assert len(manifests) > 10
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.33", strict=True)


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_every_container_is_probed_bounded_and_unprivileged(overlay: str) -> None:
    for manifest in render(overlay):
        if manifest["kind"] not in ("Deployment", "StatefulSet"):
            continue
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= container.keys()
            assert container["resources"]["limits"]["memory"]
            assert container["securityContext"]["readOnlyRootFilesystem"]
            if manifest["kind"] == "Deployment":
                assert container["livenessProbe"]["grpc"]["service"] == "liveness"


def test_only_the_gpu_overlay_asks_for_a_gpu() -> None:
    asks = {
        overlay: [
            container["resources"]["limits"].get("nvidia.com/gpu")
            for manifest in render(overlay)
            if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == "embedder"
            for container in manifest["spec"]["template"]["spec"]["containers"]
        ]
        for overlay in ("cpu", "gpu")
    }
    assert asks == {"cpu": [None], "gpu": [1]}


def test_services_are_headless_so_that_clients_balance() -> None:
    services = [one for one in render("cpu") if one["kind"] == "Service"]
    assert len(services) == 4
    assert all(one["spec"]["clusterIP"] == "None" for one in services)


def test_with_tls_every_service_has_certificates_and_probes_that_use_tls() -> None:
    variables = {}
    for manifest in render("cpu-tls"):
        if manifest["kind"] != "Deployment":
            continue
        name, pod = manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]
        [container] = pod["containers"]
        variables[name] = {row["name"] for row in container["env"] if "_TLS_" in row["name"]}
        assert {"name": "tls", "secret": {"secretName": f"{name}-tls"}} in pod["volumes"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if name == "gateway":
                assert container[probe]["httpGet"]["scheme"] == "HTTPS"
            else:
                assert "services.probe" in container[probe]["exec"]["command"]
    own = {"MEMETWIN_TLS_CERT", "MEMETWIN_TLS_KEY", "MEMETWIN_TLS_CA"}
    both = own | {"MEMETWIN_TLS_CLIENT_CA"}
    assert variables == {"embedder": both, "search": both, "gateway": own}
