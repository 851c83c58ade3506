"""What the secured installation needs besides the charts: certificates, passwords, a PostgreSQL."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import trustme

from tests.kubernetes.cluster import Manifest, Namespace
from tests.kubernetes.installation import SERVICES, Images

#: With what a URL and a shell would trip over.
PASSWORD = "p@ss/word:$1"
QUOTED = "p%40ss%2Fword%3A$1"
WAREHOUSE_URL = f"postgresql://hourglass:{QUOTED}@postgres:5432/hourglass"


def secrets(namespace: Namespace) -> list[Manifest]:
    """Who the server is, who the services are, and where the warehouse is."""
    authority = trustme.CA()
    nodes = f"*.redis-cluster-dev-nodes.{namespace.name}.svc.cluster.local"
    server = authority.issue_cert(nodes, "redis-cluster-dev", "localhost", "127.0.0.1")
    return [
        _secret("redis-server", _files(authority, server)),
        _secret("redis-client", _files(authority, authority.issue_cert("hourglass"))),
        _secret("redis-user", {**_users(), "keeper-password": b"another one"}),
        _secret("warehouse", {"url": WAREHOUSE_URL.encode(), "password": PASSWORD.encode()}),
    ]


def _users() -> dict[str, bytes]:
    """Names and passwords under the keys that `redis-cluster-dev` and the services read."""
    users = {"": "operator", **{f"{service}-": service for service in SERVICES}}
    return {
        **{f"{key}username": f"hourglass-{user}".encode() for key, user in users.items()},
        **{f"{key}password": PASSWORD.encode() for key in users},
    }


def postgres(images: Images) -> list[Manifest]:
    """A server that keeps nothing, from the official image or one that keeps its contract."""
    labels = {"app.kubernetes.io/name": "postgres"}
    password = {"secretKeyRef": {"name": "warehouse", "key": "password"}}
    restricted = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    container = {
        "name": "postgres",
        "image": f"{images.redis_registry}/postgres:17".lstrip("/"),
        "env": [
            {"name": "POSTGRES_USER", "value": "hourglass"},
            {"name": "POSTGRES_PASSWORD", "valueFrom": password},
            {"name": "PGDATA", "value": "/var/lib/postgresql/data/server"},
        ],
        "securityContext": restricted,
        "readinessProbe": {
            "exec": {"command": ["pg_isready", "--host=127.0.0.1"]},
            "periodSeconds": 1,
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/postgresql/data"},
            {"name": "run", "mountPath": "/var/run/postgresql"},
            {"name": "account", "mountPath": "/etc/passwd", "subPath": "passwd"},
        ],
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 999,
            "runAsGroup": 999,
            "fsGroup": 999,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "data", "emptyDir": {}},
            {"name": "run", "emptyDir": {}},
            {"name": "account", "configMap": {"name": "postgres"}},
        ],
    }
    # PostgreSQL wants its user to have a name, and images differ in whose number 999 is.
    account = {"passwd": "postgres:x:999:999::/tmp:/bin/sh\n"}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "postgres"},
            "data": account,
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "postgres"},
            "spec": {"selector": labels, "ports": [{"port": 5432}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "postgres", "labels": labels},
            "spec": spec,
        },
    ]


def _files(authority: trustme.CA, certificate: trustme.LeafCert) -> dict[str, bytes]:
    return {
        "ca.crt": authority.cert_pem.bytes(),
        "tls.crt": certificate.cert_chain_pems[0].bytes(),
        "tls.key": certificate.private_key_pem.bytes(),
    }


def _secret(name: str, data: Mapping[str, bytes]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
