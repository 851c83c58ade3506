"""Each release tests itself, and goes without a trace."""

from __future__ import annotations

import pytest

from tests.kubernetes.cluster import cluster_wide_of
from tests.kubernetes.conftest import Story
from tests.kubernetes.installation import (
    OPERATOR,
    WORKLOADS,
    Installation,
    audit_job,
    await_on_cluster,
)

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

MADE_BY_MAKE = "app.kubernetes.io/created-by"


@pytest.mark.parametrize("release", WORKLOADS)
def test_a_release_passes_its_own_test(installation: Installation, release: str) -> None:
    output = installation.namespace.helm("test", release, "--timeout", "3m")
    assert "Succeeded" in output


def test_the_audit_is_a_job_of_the_auditors(installation: Installation) -> None:
    namespace = installation.namespace
    job = audit_job(installation.images, namespace)
    name = job["metadata"]["name"]

    def ended() -> set[str]:
        conditions = namespace.get("job", name)["status"].get("conditions", ())
        return {each["type"] for each in conditions} & {"Complete", "Failed"}

    namespace.apply(job)
    assert await_on_cluster(ended, "the audit does not end") == {"Complete"}
    namespace.kubectl("delete", "job", name)


def test_make_down_leaves_nothing_in_a_namespace_of_yours(
    installation: Installation, story: Story, base_namespace: str
) -> None:
    namespace = installation.namespace
    namespace.kubectl("label", "namespace", namespace.name, f"{MADE_BY_MAKE}-")
    namespace.kubectl("delete", "pod", OPERATOR)
    installation.make("down")
    with story.namespace(f"{base_namespace}-empty") as empty:
        empty.create()
        await_on_cluster(
            lambda: namespace.everything() == empty.everything(),
            "more is left than in an empty namespace",
        )
    assert cluster_wide_of(namespace) == []


def test_make_down_removes_the_namespace_that_make_up_made(installation: Installation) -> None:
    namespace = installation.namespace
    namespace.kubectl("label", "namespace", namespace.name, f"{MADE_BY_MAKE}=hourglass-make-up")
    installation.make("down")
    assert not namespace.exists
