"""What a cluster must do for containers before anything of ours is installed in it. The user's own cluster must, too."""

from __future__ import annotations

import base64
import json

import pytest

from aim_engine import __version__
from cluster.commands import CommandCluster
from cluster.manifests import PORT, container, engine, job, pod, service
from testbed import certs
from testbed.api import ApiStatusError

MODEL = "Qwen/Qwen3-32B"
NO_ENDPOINT_YET = 503
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
WEBHOOK = f"""
import http.server, json, os, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {{"uid": review["request"]["uid"], "allowed": False, "status": {{"message": "the pod says no"}}}}
        body = json.dumps({{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
open("/scratch/pem", "w").write(os.environ["PEM"])
server = http.server.ThreadingHTTPServer(("0.0.0.0", {PORT}), Handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/scratch/pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
FETCH_IN_POD = (
    "import sys,urllib.request;print(urllib.request.urlopen(sys.argv[1],timeout=30).read().decode())"
)


@pytest.fixture
def engine_pod(live_cluster: CommandCluster, live_namespace: str, engine_image: str) -> str:
    """A ready engine behind a Service of its name."""
    live_cluster.apply(
        pod("engine", live_namespace, engine(engine_image, MODEL)), service("engine", live_namespace)
    )
    live_cluster.wait_pod(live_namespace, "engine")
    return "engine"


def in_pod(cluster: CommandCluster, namespace: str, *command: str) -> str:
    """Output of a command in the pod named "engine"."""
    return cluster.kubectl("exec", f"--namespace={namespace}", "engine", "--", *command).stdout


def test_our_image_runs_as_nobody_with_a_root_file_system_that_cannot_be_written(
    live_cluster: CommandCluster, live_namespace: str, operator_image: str
) -> None:
    script = "id -u; touch /opt/x || echo refused; aim-engine --version; grep NoNewPrivs /proc/self/status"
    live_cluster.apply(job("look", live_namespace, container(operator_image, "sh", "-c", script)))
    live_cluster.wait_job(live_namespace, "look")
    log = live_cluster.kubectl("logs", f"--namespace={live_namespace}", "job/look").stdout.split("\n")
    assert log[0] == "65532"
    assert "refused" in log
    assert __version__ in log
    assert "NoNewPrivs:\t1" in log


def test_a_failed_job_is_told_with_its_last_words(
    live_cluster: CommandCluster, live_namespace: str, operator_image: str
) -> None:
    live_cluster.apply(
        job("fail", live_namespace, container(operator_image, "sh", "-c", "echo no luck; exit 3"))
    )
    with pytest.raises(RuntimeError, match=r"(?s)Job fail failed.*no luck"):
        live_cluster.wait_job(live_namespace, "fail")


def test_an_engine_pod_says_what_an_engine_says(
    live_cluster: CommandCluster, live_namespace: str, engine_pod: str
) -> None:
    def ask(path: str, body: str | None = None) -> str:
        script = "import sys,urllib.request;" + (
            "b=sys.argv[2].encode() if len(sys.argv)>2 else None;"
            "r=urllib.request.Request(sys.argv[1],b,{'Content-Type':'application/json'});"
            "print(urllib.request.urlopen(r,timeout=30).read().decode())"
        )
        words = [f"http://127.0.0.1:{PORT}{path}", *([body] if body else [])]
        return in_pod(live_cluster, live_namespace, "python3", "-c", script, *words)

    assert json.loads(ask("/v1/models"))["data"][0]["id"] == MODEL
    question = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    assert json.loads(ask("/v1/chat/completions", json.dumps(question)))["usage"]["completion_tokens"] == 2
    assert f'vllm:generation_tokens_total{{engine="0",model_name="{MODEL}"}} 2.0' in ask("/metrics")


def test_a_pod_reaches_a_service_by_its_name_and_the_api_by_its_account(
    live_cluster: CommandCluster, live_namespace: str, engine_pod: str
) -> None:
    for host in ("engine", f"engine.{live_namespace}.svc.cluster.local"):
        url = f"http://{host}:{PORT}/v1/models"
        words = (f"--namespace={live_namespace}", "engine", "--", "python3", "-c", FETCH_IN_POD, url)

        def answered(words: tuple[str, ...] = words) -> str:
            return live_cluster.kubectl("exec", *words, check=False).stdout

        # Name and address of a Service reach the node a moment after the pod is ready.
        assert MODEL in live_cluster.wait_for(answered, 240, f"{url} to answer")
    script = (
        "import ssl,urllib.request as r;d='/var/run/secrets/kubernetes.io/serviceaccount/';"
        "q=r.Request('https://kubernetes.default.svc/version',headers={'Authorization':'Bearer '+open(d+'token').read()});"
        "print(r.urlopen(q,context=ssl.create_default_context(cafile=d+'ca.crt'),timeout=30).read().decode())"
    )
    assert json.loads(in_pod(live_cluster, live_namespace, "python3", "-c", script))["major"]


def test_logs_and_exec_answer(live_cluster: CommandCluster, live_namespace: str, engine_pod: str) -> None:
    log = live_cluster.kubectl("logs", f"--namespace={live_namespace}", "engine").stdout
    assert f"serving {MODEL}" in log
    assert in_pod(live_cluster, live_namespace, "cat", "/etc/hostname") == "engine\n"


def test_port_forward_leads_to_a_service(
    live_cluster: CommandCluster, live_namespace: str, engine_pod: str
) -> None:
    words = ["kubectl", "port-forward", f"--namespace={live_namespace}", "service/engine", f":{PORT}"]
    with live_cluster.background(words) as forward:
        live_cluster.wait_for(
            lambda: "Forwarding from" in forward.output(), 240, f"a port\n{forward.output()}"
        )
        port = forward.output().split("127.0.0.1:", 1)[1].split()[0]
        status, body = live_cluster.fetch(f"http://localhost:{port}/metrics")
    assert status == 200
    assert "vllm:num_requests_running" in body


def test_the_api_server_reaches_a_service(
    live_cluster: CommandCluster, live_namespace: str, engine_pod: str
) -> None:
    path = f"/api/v1/namespaces/{live_namespace}/services/engine:{PORT}/proxy/v1/models"

    def served() -> str:
        try:
            return str(live_cluster.request("GET", path)["data"][0]["id"])
        except ApiStatusError as error:
            if error.code != NO_ENDPOINT_YET:
                raise
            return ""

    assert live_cluster.wait_for(served, 240, "the Service to answer") == MODEL


def test_the_api_server_asks_a_webhook_behind_a_service(
    live_cluster: CommandCluster, live_namespace: str, operator_image: str
) -> None:
    authority = certs.certificate_authority("webhook-ca")
    pair = certs.server_certificate(authority, (f"hook.{live_namespace}.svc",))
    pem = (pair.certificate_pem + pair.key_pem).decode()
    main = container(
        operator_image,
        *("python", "-c", WEBHOOK),
        env=[{"name": "PEM", "value": pem}],
        volumeMounts=[{"name": "tmp", "mountPath": "/scratch"}],
        readinessProbe={"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    )
    volumes = [{"name": "tmp", "emptyDir": {}}]
    live_cluster.apply(pod("hook", live_namespace, main, volumes=volumes), service("hook", live_namespace))
    live_cluster.wait_pod(live_namespace, "hook")
    live_cluster.apply(webhook(live_namespace, base64.b64encode(authority.certificate_pem).decode()))
    bad = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bad", "namespace": live_namespace}}
    path = f"/api/v1/namespaces/{live_namespace}/configmaps"

    def refused() -> bool:
        try:
            live_cluster.request("POST", f"{path}?dryRun=All", bad)
        except ApiStatusError as error:
            return "the pod says no" in str(error)
        return False

    try:
        live_cluster.wait_for(refused, 240, "the webhook to refuse")
    finally:
        live_cluster.request("DELETE", f"{WEBHOOKS}/{live_namespace}")


def webhook(namespace: str, authority: str) -> dict[str, object]:
    """A configuration that asks the Service "hook" about ConfigMaps of one namespace."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [
            {
                "name": "hook.tests.example",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "timeoutSeconds": 5,
                "failurePolicy": "Ignore",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "resources": ["configmaps"],
                        "operations": ["CREATE"],
                    }
                ],
                "clientConfig": {
                    "caBundle": authority,
                    "service": {"name": "hook", "namespace": namespace, "port": PORT, "path": "/"},
                },
            }
        ],
    }


def test_pod_security_is_enforced(
    live_cluster: CommandCluster, live_namespace: str, engine_image: str
) -> None:
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    live_cluster.request("PATCH", f"/api/v1/namespaces/{live_namespace}", {"metadata": {"labels": label}})
    pods = f"/api/v1/namespaces/{live_namespace}/pods"
    lax = {"name": "main", "image": engine_image}

    def refused() -> bool:
        try:
            live_cluster.request("POST", f"{pods}?dryRun=All", pod("lax", live_namespace, lax))
        except ApiStatusError as error:
            return 'violates PodSecurity "restricted' in str(error)
        return False

    live_cluster.wait_for(refused, 240, "the standard to be enforced")
    live_cluster.request("POST", pods, pod("strict", live_namespace, engine(engine_image, MODEL)))
