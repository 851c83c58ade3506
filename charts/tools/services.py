"""The values of the three services' charts. `config` comes from the settings of each service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field
from enum import Enum
from typing import Any, get_type_hints

from aggregator.config import AggregatorSettings
from averages_consumer.config import AveragesConsumerSettings
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
    number_schema,
    objects,
    text,
    text_schema,
    value,
    whole,
)
from hourglass.service.config import OptionInfo, option_fields
from producer.config import ProducerSettings

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
    "mqtt_password": "extraEnv takes it from a Secret",
    "mqtt_password_file": "extraEnv names a file of a volume",
    "mqtt_ca_file": "extraEnv names a file of a volume",
    "mqtt_cert_file": "extraEnv names a file of a volume",
    "mqtt_key_file": "extraEnv names a file of a volume",
}
#: Options whose default in a pod differs from that of a process in a terminal.
DEFAULTS_IN_PODS: Mapping[str, Any] = {
    # Longer than most outages: a pod that waits reports it in its metrics, one that restarts does
    # not.
    "connect_within_s": 900,
    # Kubernetes keeps it in the pod's status, where it outlives the log.
    "tally_file": "/dev/termination-log",
}
PORT = number_schema("integer", minimum=1, maximum=65535)
SCHEMAS: Mapping[str, Schema] = {
    "log_level": {"enum": ["debug", "info", "warning", "error"]},
    "pipeline": text_schema(pattern="^[A-Za-z0-9._-]{0,64}$"),
    # Not 0, which takes any free port: the pod declares its ports.
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
    help="Values shared with other charts under the same parent; this chart uses imageRegistry.",
    default={},
    schema={"type": "object", "properties": {"imageRegistry": text_schema()}},
)
ENABLED = Value(
    help="Not used here; for the condition of a parent chart.",
    default=True,
    schema={"type": "boolean"},
    shown=False,
)
#: Helm itself adds the library's values, which are empty, to the chart's.
LIBRARY = Value(help="Not used.", default={}, schema={"type": "object"}, shown=False)
#: Values that Helm or a parent chart adds.
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
COUNT_OR_PERCENT: Schema = {"type": ["integer", "string"], "pattern": "^[0-9]+%?$"}
PULL_SECRET: Schema = {
    "type": ["string", "integer", "object"],
    "additionalProperties": False,
    "required": ["name"],
    "properties": {"name": text_schema()},
}


def camel(option: str) -> str:
    """`linger_ms` as `lingerMs`."""
    first, *rest = option.split("_")
    return first + "".join(word.capitalize() for word in rest)


def config(settings: type) -> Group:
    """The options of a service, without those that other values set."""
    hints = get_type_hints(settings)
    members = {
        camel(field.name): _option(field, info, hints[field.name])
        for field, info in option_fields(settings)
        if field.name not in SET_OTHERWISE and field.name not in NOT_IN_CHARTS
    }
    return Group(
        help="The service's options, each an environment variable: httpPort is "
        "HOURGLASS_HTTP_PORT. Empty leaves the default to the service.",
        members=members,
    )


def _option(field: Field[Any], info: OptionInfo, kind: type) -> Value:
    default = DEFAULTS_IN_PODS.get(field.name, field.default)
    unit = f" Unit: {info.unit}." if info.unit else ""
    about = info.help.replace("; 0 takes a free one", "")  # not allowed in a chart
    return value(
        default.value if isinstance(default, Enum) else default,
        about + unit,
        SCHEMAS.get(field.name, _option_schema(info, kind)),
    )


def _option_schema(info: OptionInfo, kind: type) -> Schema:
    if issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if kind is bool:
        return {"type": "boolean"}
    if kind is str:
        return text_schema()
    return number_schema(
        "integer" if kind is int else "number", minimum=info.minimum, maximum=info.maximum
    )


def image(repository: str, tag: str = "") -> Group:
    return group(
        "The image.",
        registry=text("", "Registry; empty uses the container engine's default."),
        repository=text(repository, "Repository.", minLength=1),
        # As a number 1.10 would be 1.1.
        tag=value(
            tag,
            "Tag; empty uses the chart's appVersion." if not tag else "Tag.",
            {"type": ["string", "integer"]},
        ),
        digest=text("", "Digest, sha256:…; overrides the tag.", pattern="^(sha256:.+)?$"),
        pullPolicy=choice("IfNotPresent", "Pull policy.", "Always", "IfNotPresent", "Never"),
        pullSecrets=value(
            [],
            "Pull Secrets, each as its name or as an object with its name.",
            {"type": "array", "items": PULL_SECRET},
        ),
    )


REDIS = group(
    "The Redis Cluster.",
    urls=value(
        [], "Some nodes of the cluster, each as host:port; required. No credentials.", HOST_AND_PORT
    ),
    existingSecret=text(
        "", "Secret with user name and password; empty for a cluster without authentication."
    ),
    usernameKey=text("username", "Key of the user name in the Secret; optional."),
    passwordKey=text("password", "Key of the password in the Secret."),
    tls=group(
        "TLS.",
        enabled=flag(False, "Connect with TLS."),
        existingSecret=text("", "Secret with PEM files; empty trusts the image's CA certificates."),
        caKey=text("ca.crt", "Key of the CA certificates; empty uses the image's."),
        certKey=text("", "Key of the client certificate, usually tls.crt; empty sends none."),
        keyKey=text("", "Key of the client certificate's private key, usually tls.key."),
    ),
)


def _probe(help: str, *, period_s: int, failures: int) -> Group:
    return group(
        help,
        periodSeconds=whole(period_s, "Time between two probes. Unit: s.", least=1),
        timeoutSeconds=whole(5, "Timeout of a probe. Unit: s.", least=1),
        failureThreshold=whole(
            failures, "Consecutive failures until the probe counts as failed.", least=1
        ),
    )


def resources(*, cpu: str, memory: str, limit: str) -> Value:
    return value(
        {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit}},
        "Resource requests and limits of the container.",
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
    "NetworkPolicy: allows scrapes in; DNS, Redis and the service's other targets out.",
    enabled=flag(True, "Create a NetworkPolicy."),
    metricsFrom=objects("Peers that may scrape, in addition to `helm test`; empty allows all."),
    redisTo=objects("Peers of Redis; empty allows any peer at the ports of Redis."),
    redisPorts=value(
        [],
        "Ports of Redis nodes that are not in redis.urls.",
        {"type": "array", "items": PORT},
    ),
    extraIngress=objects("Additional ingress rules."),
    extraEgress=objects("Additional egress rules."),
)


SERVICE_ACCOUNT = group(
    "ServiceAccount. Its token is not mounted.",
    create=flag(True, "Create a ServiceAccount."),
    name=text("", "Its name; empty uses the full name, or default if none is created."),
    annotations=value({}, "Annotations.", TEXTS_BY_NAME),
)


def _monitor(kind: str) -> Group:
    return group(
        f"{kind} of the Prometheus Operator. Enable a PodMonitor or a ServiceMonitor, not both.",
        enabled=flag(False, f"Create a {kind}."),
        labels=value({}, "Labels by which Prometheus selects it.", TEXTS_BY_NAME),
        interval=text("15s", "Scrape interval.", pattern="^[0-9]+(ms|s|m)$"),
        scrapeTimeout=text("", "Scrape timeout; empty uses Prometheus' default."),
        relabelings=objects("Relabelings of the target."),
        metricRelabelings=objects("Relabelings of the samples."),
    )


def _prometheus_rule(alerts: Sequence[str]) -> Group:
    return group(
        "PrometheusRule with the alerts and recording rules.",
        enabled=flag(False, "Create a PrometheusRule."),
        labels=value({}, "Labels by which Prometheus selects it.", TEXTS_BY_NAME),
        alertLabels=value(
            {}, "Labels for each alert; they override the alert's own.", TEXTS_BY_NAME
        ),
        disabled=value(
            [], "Names of alerts to omit.", {"type": "array", "items": {"enum": [*alerts]}}
        ),
        runbooks=text(
            "docs/runbooks", "Address of the runbooks, the prefix of each alert's runbook_url."
        ),
        extraRules=objects("Additional rules."),
    )


DASHBOARD = group(
    "ConfigMaps with the Grafana dashboards of the whole pipeline, for Grafana's sidecar.",
    enabled=flag(False, "Create the ConfigMaps."),
    namespace=text("", "Their namespace; empty uses the release's."),
    labels=value(
        {"grafana_dashboard": "1"}, "Labels by which the sidecar selects them.", TEXTS_BY_NAME
    ),
    annotations=value({}, "Annotations, such as the name of a folder.", TEXTS_BY_NAME),
    runbooks=text("docs/runbooks", "Address of the runbooks, the prefix of the panels' links."),
)
AUTOSCALING = group(
    "HorizontalPodAutoscaler. Enable autoscaling or keda, not both.",
    enabled=flag(False, "Create a HorizontalPodAutoscaler; replicaCount is then ignored."),
    minReplicas=whole(1, "Minimum number of replicas.", least=1),
    maxReplicas=whole(5, "Maximum number of replicas.", least=1),
    targetCPUUtilizationPercentage=value(
        80,
        "Target CPU utilization, in per cent of the request; null omits it.",
        number_schema("integer", minimum=1, or_null=True),
    ),
    additionalMetrics=objects("Additional metrics, as in autoscaling/v2."),
    behavior=value({}, "Scaling behavior, as in autoscaling/v2.", ANY_OBJECT),
)
KEDA = group(
    "KEDA ScaledObject by the aggregate lag in Prometheus. Enable keda or autoscaling, not both.",
    enabled=flag(False, "Create a ScaledObject; replicaCount is then ignored."),
    minReplicas=whole(
        1, "Minimum number of replicas; without a replica no hour is sealed.", least=1
    ),
    maxReplicas=whole(5, "Maximum number of replicas.", least=1),
    pollingIntervalSeconds=whole(15, "Polling interval. Unit: s.", least=1),
    cooldownSeconds=whole(
        300, "Time before scaling to 0; not used with a minimum of 1 or more. Unit: s."
    ),
    prometheus=group(
        "The source of the lag.",
        serverAddress=text("", "Address of Prometheus; required. A template."),
        query=text(
            "", "Query; empty uses max(hourglass_aggregate_lag) of this namespace. A template."
        ),
        lagPerReplica=whole(
            20_000,
            "Waiting entries for each replica; a packed entry holds many readings.",
            least=1,
        ),
        authenticationRef=text("", "Name of a TriggerAuthentication."),
        extraMetadata=value({}, "Additional metadata of the trigger.", TEXTS_BY_NAME),
    ),
    fallback=value(
        {"failureThreshold": 4, "replicas": 2, "behavior": "currentReplicasIfHigher"},
        "Replicas while the lag is unknown; {} keeps their number.",
        ANY_OBJECT,
    ),
    behavior=value({}, "Scaling behavior, as in autoscaling/v2.", ANY_OBJECT),
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
    """`own`: values of this service alone; `pods`: the resources of its pods."""
    return Group(
        help="",
        members={
            **BROUGHT_ALONG,
            "nameOverride": text("", "Replaces the chart's name in names and labels."),
            "fullnameOverride": text("", "Replaces the full name, made of release and chart."),
            **{name: member for name, member in own.items() if name == "kind"},
            "replicaCount": value(
                1,
                f"Number of pods. {replicas} 0 stops the service; null leaves it to kubectl scale.",
                number_schema("integer", minimum=0, or_null=True),
            ),
            "image": image(repository),
            "redis": REDIS,
            "config": config(settings),
            **{name: member for name, member in own.items() if name != "kind"},
            "tracing": group(
                "Traces.",
                endpoint=text(
                    "",
                    "OTLP endpoint over HTTP; empty disables tracing.",
                    pattern="^(https?://.+)?$",
                ),
            ),
            "resources": pods,
            "probes": group(
                "Probes. A service that waits for Redis is live and not ready.",
                startup=_probe("Startup probe, /livez.", period_s=1, failures=60),
                liveness=_probe(
                    "Liveness probe, /livez; it does not depend on Redis.", period_s=10, failures=3
                ),
                readiness=_probe("Readiness probe, /readyz.", period_s=2, failures=3),
            ),
            "terminationGracePeriodSeconds": whole(
                10, "Time to stop; the service needs two seconds. Unit: s.", least=3
            ),
            "updateStrategy": value({}, "Update strategy; {} uses the default.", ANY_OBJECT),
            "revisionHistoryLimit": whole(3, "Number of old revisions to keep."),
            "podDisruptionBudget": group(
                "PodDisruptionBudget.",
                enabled=flag(True, "Create a PodDisruptionBudget."),
                maxUnavailable=value(1, "Pods that may be unavailable.", COUNT_OR_PERCENT),
                minAvailable=value(
                    None,
                    "Pods that must stay available; overrides maxUnavailable.",
                    {**COUNT_OR_PERCENT, "type": ["integer", "string", "null"]},
                ),
            ),
            "topologySpreadConstraints": objects(
                "Topology spread constraints; one without a labelSelector gets the service's.",
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    # Without it, a rollout counts the pods that it replaces.
                    "matchLabelKeys": ["pod-template-hash"],
                },
            ),
            "networkPolicy": network,
            "podMonitor": _monitor("PodMonitor"),
            "serviceMonitor": _monitor("ServiceMonitor"),
            "prometheusRule": _prometheus_rule(alert_names(repository.partition("/")[2])),
            **(dashboard or {}),
            "serviceAccount": SERVICE_ACCOUNT,
            "podSecurityContext": value(
                RESTRICTED_POD,
                "Security context of the pod; meets Pod Security restricted.",
                ANY_OBJECT,
            ),
            "containerSecurityContext": value(
                RESTRICTED_CONTAINER, "Security context of the container.", ANY_OBJECT
            ),
            "podLabels": value({}, "Labels of the pods. Templates.", TEXTS_BY_NAME),
            "podAnnotations": value({}, "Annotations of the pods. Templates.", TEXTS_BY_NAME),
            "priorityClassName": text("", "Priority class."),
            "nodeSelector": value({}, "Node selector.", TEXTS_BY_NAME),
            "tolerations": objects("Tolerations."),
            "affinity": value({}, "Affinity. A template.", ANY_OBJECT),
            "lifecycle": value({}, "Lifecycle hooks of the container.", ANY_OBJECT),
            "extraEnv": objects(
                "Additional environment variables; they override config. Templates."
            ),
            "extraEnvFrom": objects("Additional sources of environment variables. Templates."),
            "extraVolumes": objects("Additional volumes. Templates."),
            "extraVolumeMounts": objects("Additional volume mounts. Templates."),
            "extraInitContainers": objects("Init containers. Templates."),
            "extraContainers": objects("Additional containers. Templates."),
            "extraManifests": value(
                [],
                "Additional objects, as YAML or as text. Templates.",
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
            "StatefulSet (a replaced pod keeps its devices) or Deployment (a pod has new devices).",
            "StatefulSet",
            "Deployment",
        )
    },
    replicas="Each pod runs config.devices devices.",
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
            "The warehouse: PostgreSQL, or an SQLite file.",
            existingSecret=text(
                "",
                "Secret with a postgresql:// URL; empty uses an SQLite file in /data on a claim.",
            ),
            urlKey=text("url", "Key of the URL in the Secret."),
            port=value(5432, "Port of PostgreSQL, for the NetworkPolicy.", PORT),
            sqlite=group(
                "The SQLite file, for a single replica.",
                fileName=text("hourglass.db", "Name of the file.", pattern="^[^/]+$"),
                persistence=group(
                    "PersistentVolumeClaim of the file.",
                    enabled=flag(
                        True, "Create a claim; without a claim the rows are lost with the pod."
                    ),
                    existingClaim=text("", "Name of an existing claim."),
                    storageClassName=text("", "Storage class; empty uses the default."),
                    size=text("1Gi", "Size."),
                    accessModes=value(
                        ["ReadWriteOnce"],
                        "Access modes.",
                        {"type": "array", "items": {"type": "string"}},
                    ),
                    keep=flag(True, "Keep the claim when the release is uninstalled."),
                ),
            ),
        ),
        "ingress": group(
            "Ingress to the web page, which has no login.",
            enabled=flag(False, "Create an Ingress."),
            className=text("", "Ingress class; empty uses the default."),
            host=text("", "Host name; empty matches any."),
            annotations=value({}, "Annotations for the controller.", TEXTS_BY_NAME),
            tlsSecret=text("", "Secret with the host's certificate; empty disables TLS."),
        ),
    },
    replicas="More than one require PostgreSQL.",
    pods=resources(cpu="25m", memory="96Mi", limit="256Mi"),
    network=Group(
        help=NETWORK.help,
        members={
            **NETWORK.members,
            "pageFrom": objects("Peers that may open the web page; empty allows all."),
        },
    ),
)
