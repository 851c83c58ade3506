"""The values of the three services' charts. What a service can be told comes from its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field
from enum import Enum
from typing import Any, get_type_hints

from aggregator.settings import AggregatorSettings
from averages_consumer.settings import AveragesConsumerSettings
from charts.tools.rules import alert_names
from charts.tools.values import (
    ANY_OBJECT,
    LIST_OF_OBJECTS,
    QUANTITIES,
    TEXTS_BY_NAME,
    Group,
    Schema,
    Value,
    choice,
    flag,
    group,
    objects,
    text,
    value,
    whole,
)
from hourglass.settings import OptionInfo, option_fields
from producer.settings import ProducerSettings

#: Options that the charts set by other values than `config`, and how.
SET_OTHERWISE: Mapping[str, str] = {
    "redis_url": "redis.urls and redis.tls.enabled",
    "redis_username": "redis.existingSecret",
    "redis_password": "redis.existingSecret",
    "redis_ca_file": "redis.tls",
    "redis_cert_file": "redis.tls",
    "redis_key_file": "redis.tls",
    "name": "the pod's name",
    "warehouse_url": "warehouse",
}
#: Options that a chart has no use for, and why.
NOT_IN_CHARTS: Mapping[str, str] = {
    "redis_password_file": "the Secret's password comes as an environment variable",
    "warehouse_url_file": "the Secret's URL comes as an environment variable",
}
#: Where a pod is better off with another default than a process that somebody watches.
DEFAULTS_IN_PODS: Mapping[str, Any] = {
    # Longer than most outages: whoever waits says so in its metrics, whoever starts again does not.
    "connect_within_s": 900,
    # Kubernetes keeps it in the pod's status, where it outlives the log.
    "tally_file": "/dev/termination-log",
}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
SCHEMAS: Mapping[str, Schema] = {
    "log_level": {"enum": ["debug", "info", "warning", "error"]},
    "pipeline": {"type": "string", "pattern": "^[A-Za-z0-9._-]{0,64}$"},
    # Not 0, any that is free: a pod's ports are named beforehand.
    "http_port": PORT,
    "web_port": PORT,
}

RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
GLOBAL = Value(
    help="Shared with other charts under the same parent; of it imageRegistry is used.",
    default={},
    schema={"type": "object", "properties": {"imageRegistry": {"type": "string"}}},
)
ENABLED = Value(
    help="Not read here; for a parent chart's condition.",
    default=True,
    schema={"type": "boolean"},
    shown=False,
)
#: Helm itself puts the library's values, which are none, among the chart's.
LIBRARY = Value(help="Not read.", default={}, schema={"type": "object"}, shown=False)
#: What Helm or a parent chart brings along.
BROUGHT_ALONG: Mapping[str, Value] = {
    "global": GLOBAL,
    "enabled": ENABLED,
    "hourglass-common": LIBRARY,
}
HOST_AND_PORT: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "string", "pattern": "^[^\\s,@/]+:[0-9]+$"},
}
COUNT_OR_PERCENT: Schema = {"type": ["integer", "string"]}


def camel(option: str) -> str:
    """`linger_ms` as `lingerMs`."""
    first, *rest = option.split("_")
    return first + "".join(word.capitalize() for word in rest)


def config(settings: type) -> Group:
    """The options of a service, but for those that other values set."""
    hints = get_type_hints(settings)
    members = {
        camel(field.name): _option(field, info, hints[field.name])
        for field, info in option_fields(settings)
        if field.name not in SET_OTHERWISE and field.name not in NOT_IN_CHARTS
    }
    return Group(
        help="The service's options, each an environment variable: httpPort is "
        "HOURGLASS_HTTP_PORT. An empty one is left to the service.",
        members=members,
    )


def _option(field: Field[Any], info: OptionInfo, kind: type) -> Value:
    default = DEFAULTS_IN_PODS.get(field.name, field.default)
    unit = f" Unit: {info.unit}." if info.unit else ""
    about = info.help.replace("; 0 takes a free one", "")  # which a pod's port cannot
    return value(
        default.value if isinstance(default, Enum) else default,
        about + unit,
        SCHEMAS.get(field.name, _option_schema(info, kind)),
    )


def _option_schema(info: OptionInfo, kind: type) -> Schema:
    if issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    names = {int: "integer", float: "number", bool: "boolean", str: "string"}
    limits = {"minimum": info.minimum, "maximum": info.maximum}
    return {
        "type": names[kind],
        **{name: limit for name, limit in limits.items() if limit is not None},
    }


def image(repository: str, tag: str = "") -> Group:
    return group(
        "The image.",
        registry=text("", "Registry; empty leaves it to the container engine."),
        repository=text(repository, "Repository.", minLength=1),
        tag=text(tag, "Tag; empty takes the chart's appVersion." if not tag else "Tag."),
        digest=text("", "Digest, sha256:…; it wins over the tag.", pattern="^(sha256:.+)?$"),
        pullPolicy=choice("IfNotPresent", "When to pull.", "Always", "IfNotPresent", "Never"),
        pullSecrets=value(
            [], "Names of pull Secrets.", {"type": "array", "items": {"type": "string"}}
        ),
    )


REDIS = group(
    "The Redis Cluster.",
    urls=value([], "Some of its nodes, host:port each; required. No credentials.", HOST_AND_PORT),
    existingSecret=text("", "Secret with user name and password; empty for a cluster without."),
    usernameKey=text("username", "Key of the user name in it; the key may be missing."),
    passwordKey=text("password", "Key of the password in it."),
    tls=group(
        "TLS.",
        enabled=flag(False, "Talk TLS to the cluster."),
        existingSecret=text("", "Secret with PEM files; empty trusts the image's authorities."),
        caKey=text("ca.crt", "Key of the authorities' certificates; empty for the image's."),
        certKey=text("", "Key of the client certificate, tls.crt mostly; empty shows none."),
        keyKey=text("", "Key of the client certificate's key, tls.key mostly."),
    ),
)


def _probe(help: str, *, period_s: int, failures: int) -> Group:
    return group(
        help,
        periodSeconds=whole(period_s, "Time between two probes.", least=1),
        timeoutSeconds=whole(5, "Time a probe may take.", least=1),
        failureThreshold=whole(failures, "Failures in a row that count.", least=1),
    )


def resources(*, cpu: str, memory: str, limit: str) -> Value:
    return value(
        {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit}},
        "What the container asks for and may use.",
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "requests": QUANTITIES,
                "limits": QUANTITIES,
                "claims": LIST_OF_OBJECTS,
            },
        },
    )


NETWORK = group(
    "NetworkPolicy: in come the scrapes, out go names, Redis and what the service needs besides.",
    enabled=flag(True, "Make one."),
    metricsFrom=objects("Peers that may scrape, `helm test` besides; empty for all."),
    redisTo=objects("Peers that Redis is at; empty for any at its ports."),
    redisPorts=value(
        [],
        "Ports of Redis nodes that redis.urls does not name.",
        {"type": "array", "items": PORT},
    ),
    extraIngress=objects("More ingress rules."),
    extraEgress=objects("More egress rules."),
)


SERVICE_ACCOUNT = group(
    "ServiceAccount; its token is not mounted.",
    create=flag(True, "Make one."),
    name=text("", "Its name; empty takes the full name, or default if none is made."),
    annotations=value({}, "Annotations.", TEXTS_BY_NAME),
)


def _monitor(kind: str) -> Group:
    return group(
        f"{kind} of the Prometheus Operator; this or the other kind.",
        enabled=flag(False, "Make one."),
        labels=value({}, "Labels that a Prometheus selects by.", TEXTS_BY_NAME),
        interval=text("15s", "Time between two scrapes.", pattern="^[0-9]+(ms|s|m)$"),
        scrapeTimeout=text("", "Time a scrape may take; empty leaves it to Prometheus."),
        relabelings=objects("Relabelings of the target."),
        metricRelabelings=objects("Relabelings of the samples."),
    )


def _prometheus_rule(alerts: Sequence[str]) -> Group:
    return group(
        "PrometheusRule with the rules of files.",
        enabled=flag(False, "Make one."),
        labels=value({}, "Labels that a Prometheus selects by.", TEXTS_BY_NAME),
        alertLabels=value(
            {}, "Labels for each alert; they win over the alert's own.", TEXTS_BY_NAME
        ),
        disabled=value(
            [], "Names of alerts to leave out.", {"type": "array", "items": {"enum": [*alerts]}}
        ),
        runbooks=text(
            "docs/runbooks", "Where the runbooks are: each alert's runbook_url begins so."
        ),
        extraRules=objects("Rules besides."),
    )


DASHBOARD = group(
    "ConfigMaps with the Grafana dashboards of the whole pipeline, for Grafana's sidecar.",
    enabled=flag(False, "Make them."),
    namespace=text("", "Its namespace; empty for the release's."),
    labels=value({"grafana_dashboard": "1"}, "Labels that the sidecar selects by.", TEXTS_BY_NAME),
    annotations=value({}, "Annotations, for a folder's name.", TEXTS_BY_NAME),
    runbooks=text("docs/runbooks", "Where the runbooks are: links of panels begin so."),
)
AUTOSCALING = group(
    "HorizontalPodAutoscaler; this or keda.",
    enabled=flag(False, "Make one; replicaCount is then left out."),
    minReplicas=whole(1, "Fewest replicas.", least=1),
    maxReplicas=whole(5, "Most replicas.", least=1),
    targetCPUUtilizationPercentage=value(
        80,
        "CPU in use to aim at, in per cent of the request; null leaves it out.",
        {"type": ["integer", "null"], "minimum": 1},
    ),
    additionalMetrics=objects("More metrics, as in autoscaling/v2."),
    behavior=value({}, "How fast to scale, as in autoscaling/v2.", ANY_OBJECT),
)
KEDA = group(
    "KEDA ScaledObject by the aggregate lag in Prometheus; this or autoscaling.",
    enabled=flag(False, "Make one; replicaCount is then left out."),
    minReplicas=whole(1, "Fewest replicas; none would let nobody seal the hours.", least=1),
    maxReplicas=whole(5, "Most replicas.", least=1),
    pollingIntervalSeconds=whole(15, "Time between two looks.", least=1),
    cooldownSeconds=whole(300, "Time before scaling to none; not used from one replica up."),
    prometheus=group(
        "Where the lag is.",
        serverAddress=text("", "Address of Prometheus; required. A template."),
        query=text("", "Query; empty takes max(hourglass_aggregate_lag) here. A template."),
        lagPerReplica=whole(
            20_000,
            "Entries that one replica is given to work off; a packed one holds many readings.",
            least=1,
        ),
        authenticationRef=text("", "Name of a TriggerAuthentication."),
        extraMetadata=value({}, "More of the trigger's metadata.", TEXTS_BY_NAME),
    ),
    fallback=value(
        {"failureThreshold": 4, "replicas": 2, "behavior": "currentReplicasIfHigher"},
        "What holds while the lag is unknown; {} leaves the replicas as they are.",
        ANY_OBJECT,
    ),
    behavior=value({}, "How fast to scale, as in autoscaling/v2.", ANY_OBJECT),
)


def _service(
    settings: type,
    repository: str,
    *,
    own: Mapping[str, Value | Group],
    replicas: str,
    pods: Value,
    network: Group = NETWORK,
    dashboard: Mapping[str, Group] | None = None,
) -> Group:
    """`own`: what no other service has; `pods`: their resources."""
    return Group(
        help="",
        members={
            **BROUGHT_ALONG,
            "nameOverride": text("", "Instead of the chart's name, in names and labels."),
            "fullnameOverride": text("", "Instead of the release's and the chart's name."),
            **{name: member for name, member in own.items() if name == "kind"},
            "replicaCount": value(
                1,
                f"Pods. {replicas} 0 is none; null leaves the number to kubectl scale.",
                {"type": ["integer", "null"], "minimum": 0},
            ),
            "image": image(repository),
            "redis": REDIS,
            "config": config(settings),
            **{name: member for name, member in own.items() if name != "kind"},
            "tracing": group(
                "Traces.",
                endpoint=text(
                    "",
                    "OTLP endpoint over HTTP; empty sends none.",
                    pattern="^(https?://.+)?$",
                ),
            ),
            "resources": pods,
            "probes": group(
                "Probes. A service that waits for Redis is live, and not ready.",
                startup=_probe("Startup, /livez.", period_s=1, failures=60),
                liveness=_probe("Liveness, /livez: never Redis.", period_s=10, failures=3),
                readiness=_probe("Readiness, /readyz.", period_s=2, failures=3),
            ),
            "terminationGracePeriodSeconds": whole(
                10, "Time to stop in; the service takes two seconds.", least=3
            ),
            "updateStrategy": value({}, "How pods are replaced; {} for the default.", ANY_OBJECT),
            "revisionHistoryLimit": whole(3, "Old revisions kept."),
            "podDisruptionBudget": group(
                "PodDisruptionBudget.",
                enabled=flag(True, "Make one."),
                maxUnavailable=value(1, "Pods that may be away.", COUNT_OR_PERCENT),
                minAvailable=value(
                    None,
                    "Pods that must stay; wins over maxUnavailable.",
                    {"type": ["integer", "string", "null"]},
                ),
            ),
            "topologySpreadConstraints": objects(
                "How pods spread; without a labelSelector they get the service's.",
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                },
            ),
            "networkPolicy": network,
            "podMonitor": _monitor("PodMonitor"),
            "serviceMonitor": _monitor("ServiceMonitor"),
            "prometheusRule": _prometheus_rule(alert_names(repository.partition("/")[2])),
            **(dashboard or {}),
            "serviceAccount": SERVICE_ACCOUNT,
            "podSecurityContext": value(
                RESTRICTED_POD, "Of the pod; meets Pod Security's restricted.", ANY_OBJECT
            ),
            "containerSecurityContext": value(
                RESTRICTED_CONTAINER, "Of the container.", ANY_OBJECT
            ),
            "podLabels": value({}, "Labels of the pods. Templates.", TEXTS_BY_NAME),
            "podAnnotations": value({}, "Annotations of the pods. Templates.", TEXTS_BY_NAME),
            "priorityClassName": text("", "Priority class."),
            "nodeSelector": value({}, "Labels of the nodes to run on.", TEXTS_BY_NAME),
            "tolerations": objects("Taints to tolerate."),
            "affinity": value({}, "Affinity. A template.", ANY_OBJECT),
            "lifecycle": value({}, "Lifecycle hooks of the container.", ANY_OBJECT),
            "extraEnv": objects("More variables; they win over config. Templates."),
            "extraEnvFrom": objects("More sources of variables. Templates."),
            "extraVolumes": objects("More volumes. Templates."),
            "extraVolumeMounts": objects("More volume mounts. Templates."),
            "extraInitContainers": objects("Init containers. Templates."),
            "extraContainers": objects("Containers beside the service. Templates."),
            "extraManifests": value(
                [],
                "Whole objects, as YAML or as text. Templates.",
                {"type": "array", "items": {"type": ["object", "string"]}},
            ),
        },
    )


PRODUCER = _service(
    ProducerSettings,
    "hourglass/producer",
    own={
        "kind": choice(
            "StatefulSet",
            "StatefulSet (device names outlive a pod) or Deployment (a new pod, new devices).",
            "StatefulSet",
            "Deployment",
        )
    },
    replicas="Each is config.devices more devices.",
    pods=resources(cpu="50m", memory="96Mi", limit="256Mi"),
)
AGGREGATOR = _service(
    AggregatorSettings,
    "hourglass/aggregator",
    own={"autoscaling": AUTOSCALING, "keda": KEDA},
    replicas="Any number share the work.",
    pods=resources(cpu="100m", memory="96Mi", limit="256Mi"),
    dashboard={"dashboard": DASHBOARD},
)
AVERAGES_CONSUMER = _service(
    AveragesConsumerSettings,
    "hourglass/averages-consumer",
    own={
        "warehouse": group(
            "Where the averages go: PostgreSQL, or an SQLite file.",
            existingSecret=text(
                "",
                "Secret with a postgresql:// URL; empty for an SQLite file in /data, on a claim.",
            ),
            urlKey=text("url", "Key of the URL in it."),
            port=value(5432, "PostgreSQL's port, for the NetworkPolicy.", PORT),
            sqlite=group(
                "The SQLite file; for one replica only.",
                fileName=text("hourglass.db", "Its name.", pattern="^[^/]+$"),
                persistence=group(
                    "PersistentVolumeClaim for it.",
                    enabled=flag(True, "Make one; without, the rows are lost with the pod."),
                    existingClaim=text("", "A claim that is there already."),
                    storageClassName=text("", "Storage class; empty for the default one."),
                    size=text("1Gi", "Size."),
                    accessModes=value(
                        ["ReadWriteOnce"],
                        "Access modes.",
                        {"type": "array", "items": {"type": "string"}},
                    ),
                    keep=flag(True, "Keep it when the release is uninstalled."),
                ),
            ),
        ),
        "ingress": group(
            "Ingress to the web page, which nobody has to log in to see.",
            enabled=flag(False, "Make one."),
            className=text("", "Ingress class; empty for the default one."),
            host=text("", "Host name; empty for any."),
            annotations=value({}, "Annotations, for the controller.", TEXTS_BY_NAME),
            tlsSecret=text("", "Secret with the host's certificate; empty for no TLS."),
        ),
    },
    replicas="More than one need PostgreSQL.",
    pods=resources(cpu="25m", memory="96Mi", limit="256Mi"),
    network=Group(
        help=NETWORK.help,
        members={
            **NETWORK.members,
            "pageFrom": objects("Peers that may open the web page; empty for all."),
        },
    ),
)
