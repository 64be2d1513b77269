"""The webhooks of the ValidatingWebhookConfiguration. The chart makes the object empty; the validator fills it in once it answers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from aim_engine.api.meta import GROUP, LABEL_RECIPE, VERSION
from aim_engine.reconcile.config import AdmissionConfig

_SPEC_CHANGED = 'request.operation != "UPDATE" || !has(object.spec) || !has(oldObject.spec) || object.spec != oldObject.spec'
_RECIPE_CHANGED = (
    'request.operation != "UPDATE" || !has(object.data) || !has(oldObject.data) || object.data != oldObject.data || '
    f"!has(oldObject.metadata.labels) || !('{LABEL_RECIPE}' in oldObject.metadata.labels) || "
    f"oldObject.metadata.labels['{LABEL_RECIPE}'] != 'true'"
)
_KINDS = (
    ("aimdeployments", GROUP, VERSION, "Namespaced", _SPEC_CHANGED),
    ("aimrecipes", GROUP, VERSION, "Cluster", _SPEC_CHANGED),
    ("configmaps", "", "v1", "Namespaced", _RECIPE_CHANGED),
)


def webhooks(
    config: AdmissionConfig, namespace: str, ca_bundle: bytes, watch_namespaces: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """One webhook per kind; each refuses nothing that is ours alone or that did not change."""
    return [_webhook(config, namespace, ca_bundle, watch_namespaces, *kind) for kind in _KINDS]


def _webhook(
    config: AdmissionConfig, namespace: str, ca_bundle: bytes, watch_namespaces: Sequence[str],
    plural: str, group: str, version: str, scope: str, changed: str,
) -> dict[str, Any]:  # fmt: skip
    own = ", ".join(f"'{user}'" for user in config.exempt_users)
    conditions = [
        {"name": "changed", "expression": changed},
        {"name": "not-being-deleted", "expression": "!has(object.metadata.deletionTimestamp)"},
        *([{"name": "not-our-own", "expression": f"!(request.userInfo.username in [{own}])"}] if own else []),
    ]
    selector = {"matchLabels": {LABEL_RECIPE: "true"}} if plural == "configmaps" else {}
    namespaces: dict[str, Any] = {}
    if watch_namespaces and scope == "Namespaced":
        names = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": sorted(watch_namespaces)}
        namespaces = {"matchExpressions": [names]}
    return {
        "name": f"{plural}.{GROUP}",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "caBundle": base64.b64encode(ca_bundle).decode(),
            "service": {"name": config.service_name, "namespace": namespace, "path": f"/{plural}", "port": config.service_port},
        },
        "failurePolicy": config.failure_policy.value,
        "matchConditions": conditions,
        "matchPolicy": "Equivalent",
        "namespaceSelector": namespaces,
        "objectSelector": selector,
        "rules": [
            {
                "apiGroups": [group], "apiVersions": [version], "operations": ["CREATE", "UPDATE"],
                "resources": [plural], "scope": scope,
            }
        ],
        "sideEffects": "None",
        "timeoutSeconds": config.timeout_seconds,
    }  # fmt: skip
