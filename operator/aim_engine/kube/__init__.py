"""Thin asynchronous Kubernetes client: what the operator needs and nothing else, on one bounded connection pool."""

from aim_engine.kube.client import ApiError, KubeClient, Resource
from aim_engine.kube.connection import Connection, connect
from aim_engine.kube.reflector import Reflector

__all__ = ["ApiError", "Connection", "KubeClient", "Reflector", "Resource", "connect"]
