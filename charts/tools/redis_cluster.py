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
        "nameOverride": text("", "Instead of the chart's name, in names and labels."),
        "fullnameOverride": text("", "Instead of the release's and the chart's name."),
        "shards": whole(3, "Masters. Not changed later: slots are not moved.", least=1),
        "replicasPerShard": whole(0, "Replicas of each master."),
        "clusterDomain": text("cluster.local", "The Kubernetes cluster's domain."),
        "nodeTimeoutMs": whole(
            5000, "Silence after which a node counts as failed. Unit: ms.", least=500
        ),
        "maxmemory": text(
            "320mb",
            "Data that a server takes before it refuses more; well below resources.limits.memory.",
            pattern="^[0-9]+(k|kb|m|mb|g|gb)?$",
        ),
        "extraConfig": text("", "More lines of redis.conf."),
        "image": image("redis", "8"),
        "persistence": group(
            "A PersistentVolumeClaim for each pod.",
            enabled=flag(True, "Without, a pod's data goes with it."),
            storageClassName=text("", "Storage class; empty for the default one."),
            size=text("1Gi", "Size of each."),
            whenDeleted=choice(
                "Retain", "What uninstalling does to the claims.", "Retain", "Delete"
            ),
        ),
        "serviceAccount": SERVICE_ACCOUNT,
        "auth": group(
            "Users: those of deploy/redis/users.acl, and one for the cluster.",
            enabled=flag(True, "Ask for user name and password."),
            existingSecret=text(
                "",
                "Secret with keeper-password, the operator's password, and producer-password, "
                "aggregator-password, averages-consumer-password and auditor-password; whose "
                "password is missing cannot log in. Empty generates one, which upgrades keep.",
            ),
        ),
        "tls": group(
            "TLS, for clients and between the nodes.",
            enabled=flag(False, "Talk TLS only."),
            existingSecret=text(
                "",
                "Secret with ca.crt, tls.crt and tls.key for *.NAME-nodes.NAMESPACE.svc.DOMAIN; "
                "empty generates one, which upgrades keep.",
            ),
            clientCertificates=choice(
                "optional",
                "Whether clients must show one of that authority.",
                "optional",
                "required",
            ),
        ),
        "resources": resources(cpu="50m", memory="64Mi", limit="512Mi"),
        "podDisruptionBudget": group(
            "PodDisruptionBudget of one pod at a time.", enabled=flag(True, "Make one.")
        ),
        "networkPolicy": group(
            "NetworkPolicy: clients in; the nodes among themselves.",
            enabled=flag(True, "Make one."),
            clientsFrom=objects("Peers that may connect, `helm test` besides; empty for all."),
        ),
        "podSecurityContext": value(
            {**RESTRICTED_POD, "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999},
            "Of the pod; meets Pod Security's restricted.",
            ANY_OBJECT,
        ),
        "containerSecurityContext": value(RESTRICTED_CONTAINER, "Of the containers.", ANY_OBJECT),
        "podLabels": value({}, "Labels of the pods.", TEXTS_BY_NAME),
        "podAnnotations": value({}, "Annotations of the pods.", TEXTS_BY_NAME),
        "nodeSelector": value({}, "Labels of the nodes to run on.", TEXTS_BY_NAME),
        "tolerations": objects("Taints to tolerate."),
        "affinity": value({}, "Affinity.", ANY_OBJECT),
    },
)
