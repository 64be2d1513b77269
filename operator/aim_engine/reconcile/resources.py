"""Resource types that the operator reads or writes."""

from __future__ import annotations

from aim_engine.api.meta import GROUP, LABEL_MANAGED_BY, LABEL_RECIPE, MANAGED_BY, VERSION
from aim_engine.kube.resource import Resource

DEPLOYMENTS_AIM = Resource(GROUP, VERSION, "aimdeployments", "AIMDeployment")
RECIPES = Resource(GROUP, VERSION, "aimrecipes", "AIMRecipe", namespaced=False)
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")

CHILDREN = {r.kind: r for r in (DEPLOYMENTS, SERVICES, CLAIMS, BUDGETS)}
"""Kinds that are rendered. Revisions are children too, but are kept apart: they are the record, not the result."""

OURS = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
RECIPE_CONFIG_MAPS = f"{LABEL_RECIPE}=true"
OUR_CONFIG_MAPS = f"{LABEL_RECIPE} in (true,decision)"
"""Server-side label selectors, so that other people's objects cost nothing."""

WATCHED: dict[Resource, str | None] = {
    DEPLOYMENTS_AIM: None,
    RECIPES: None,
    CONFIG_MAPS: OUR_CONFIG_MAPS,
    NAMESPACES: None,
    PRIORITY_CLASSES: None,
    REVISIONS: OURS,
    DEPLOYMENTS: OURS,
    SERVICES: OURS,
    CLAIMS: OURS,
    BUDGETS: OURS,
}
"""Kinds that kopf watches, with the label selector of each. Nodes and Pods have their own thin watch."""
