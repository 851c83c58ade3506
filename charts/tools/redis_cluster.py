"""The values of the Redis Cluster for development."""

from __future__ import annotations

from charts.tools.services import (
    BROUGHT_ALONG,
    RESTRICTED_CONTAINER,
    RESTRICTED_POD,
    SERVICE_ACCOUNT,
    image,
    resources,
)
from charts.tools.values import (
    ANY_OBJECT,
    TEXTS_BY_NAME,
    Group,
    choice,
    flag,
    group,
    objects,
    text,
    value,
    whole,
)

REDIS_CLUSTER_DEV = Group(
    help="",
    members={
        **BROUGHT_ALONG,
        "nameOverride": text("", "Replaces the chart's name in names and labels."),
        "fullnameOverride": text("", "Replaces the full name, made of release and chart."),
        "shards": whole(
            3, "Number of masters. It cannot change later: slots are not moved.", least=1
        ),
        "replicasPerShard": whole(0, "Number of replicas of each master."),
        "clusterDomain": text("cluster.local", "The Kubernetes cluster's domain."),
        "nodeTimeoutMs": whole(
            5000, "Time without an answer after which a node counts as failed. Unit: ms.", least=500
        ),
        "maxmemory": text(
            "320mb",
            "Data limit of a server; then it refuses writes. Well below resources.limits.memory.",
            pattern="^[0-9]+(k|kb|m|mb|g|gb)?$",
        ),
        "extraConfig": text("", "Additional lines of redis.conf."),
        "image": image("redis", "8"),
        "persistence": group(
            "A PersistentVolumeClaim for each pod.",
            enabled=flag(
                True, "Create a claim for each pod; without a claim a pod's data is lost with it."
            ),
            storageClassName=text("", "Storage class; empty uses the default."),
            size=text("1Gi", "Size of each claim."),
            whenDeleted=choice(
                "Retain",
                "Whether claims are kept when the release is uninstalled.",
                "Retain",
                "Delete",
            ),
        ),
        "serviceAccount": SERVICE_ACCOUNT,
        "auth": group(
            "Redis users: those of deploy/redis/users.acl, and one for the keeper.",
            enabled=flag(True, "Require user name and password."),
            existingSecret=text(
                "",
                "Secret with keeper-password, the operator's password, and producer-password, "
                "aggregator-password, averages-consumer-password and auditor-password. A user "
                "without a password cannot log in. Empty generates one, which upgrades keep.",
            ),
        ),
        "tls": group(
            "TLS, for clients and between the nodes.",
            enabled=flag(False, "Accept TLS connections only."),
            existingSecret=text(
                "",
                "Secret with ca.crt, tls.crt and tls.key for *.NAME-nodes.NAMESPACE.svc.DOMAIN; "
                "empty generates one, which upgrades keep.",
            ),
            clientCertificates=choice(
                "optional",
                "Whether clients must send a certificate of that CA.",
                "optional",
                "required",
            ),
        ),
        "resources": resources(cpu="50m", memory="64Mi", limit="512Mi"),
        "podDisruptionBudget": group(
            "PodDisruptionBudget that allows one unavailable pod.",
            enabled=flag(True, "Create a PodDisruptionBudget."),
        ),
        "networkPolicy": group(
            "NetworkPolicy: allows clients in, and traffic between the nodes.",
            enabled=flag(True, "Create a NetworkPolicy."),
            clientsFrom=objects(
                "Peers that may connect, in addition to `helm test`; empty allows all."
            ),
        ),
        "podSecurityContext": value(
            {**RESTRICTED_POD, "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999},
            "Security context of the pod; meets Pod Security restricted.",
            ANY_OBJECT,
        ),
        "containerSecurityContext": value(
            RESTRICTED_CONTAINER, "Security context of the containers.", ANY_OBJECT
        ),
        "podLabels": value({}, "Labels of the pods.", TEXTS_BY_NAME),
        "podAnnotations": value({}, "Annotations of the pods.", TEXTS_BY_NAME),
        "nodeSelector": value({}, "Node selector.", TEXTS_BY_NAME),
        "tolerations": objects("Tolerations."),
        "affinity": value({}, "Affinity.", ANY_OBJECT),
    },
)
