"""The charts as files: what is generated is current, what is named is there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.tools.__main__ import generated
from tests.charts.helm import (
    ALL,
    CHARTS,
    REDIS,
    ROOT,
    SERVICES,
    Helm,
    Refused,
    containers,
    kinds,
    workload,
)

ENVIRONMENTS = ROOT / "deploy" / "environments"
PROFILES = ROOT / "deploy" / "profiles"


def test_generated_files_are_current() -> None:
    stale = [str(p) for p, text in generated().items() if p.read_text(encoding="utf-8") != text]
    assert not stale, "run make charts"


@pytest.mark.parametrize("chart", ALL)
def test_lint_finds_nothing(helm: Helm, chart: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(dict(REDIS)) if chart in SERVICES else "")
    output = helm.run("lint", "--strict", CHARTS / chart, "--values", values)
    assert "0 chart(s) failed" in output


@pytest.mark.parametrize("chart", ALL)
def test_a_package_needs_nothing_beside_it(helm: Helm, chart: str, tmp_path: Path) -> None:
    helm.run("package", CHARTS / chart, "--destination", tmp_path)
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        names = archive.getnames()
    assert f"{chart}/charts/hourglass-common/templates/_pod.tpl" in names
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(dict(REDIS)) if chart in SERVICES else "")
    text = helm.run("template", chart, package, "--namespace", "hourglass", "--values", values)
    rendered = [each for each in yaml.safe_load_all(text) if each]
    assert kinds(rendered) == kinds(helm.render(chart))


@pytest.mark.parametrize("chart", ALL)
def test_the_notes_say_what_to_do_next(helm: Helm, chart: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(dict(REDIS)) if chart in SERVICES else "")
    try:
        output = helm.run(
            "install", chart, CHARTS / chart, "--dry-run=client", "--namespace", "weather",
            "--values", values,
        )  # fmt: skip
    except Refused as reason:
        if "cluster unreachable" in str(reason):
            pytest.skip("this Helm needs a cluster even for a dry run, and there is none")
        raise
    notes = output.partition("NOTES:")[2]
    assert f"helm test {chart} -n weather" in notes
    forwarded = "-n weather port-forward service/averages-consumer-page 8081:80"
    assert (forwarded in notes) == (chart == "averages-consumer")
    assert "<no value>" not in output


@pytest.mark.parametrize("chart", ALL)
def test_versions_agree(chart: str) -> None:
    described = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text(encoding="utf-8"))
    library = yaml.safe_load((CHARTS / "hourglass-common" / "Chart.yaml").read_text("utf-8"))
    (dependency,) = described["dependencies"]
    assert dependency["version"] == library["version"] == described["version"]
    assert described["apiVersion"] == "v2"
    assert "kubeVersion" in described


@pytest.mark.parametrize("script", ["auth.sh", "keeper.sh", "ready.sh", "users.sh"])
def test_scripts_are_shell_that_any_posix_shell_reads(script: str) -> None:
    path = CHARTS / "redis-cluster-dev" / "files" / script
    subprocess.run(["sh", "-n", str(path)], check=True)


def environments() -> list[Path]:
    return sorted(ENVIRONMENTS.glob("*/*.yaml"))


@pytest.mark.parametrize("file", environments(), ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_an_environment_is_installable(helm: Helm, file: Path) -> None:
    assert workload(helm.render(file.stem, file, required=False))


@pytest.mark.parametrize("tag", ["1.0", "6680217", "1e5", "v1"])
def test_make_up_gives_helm_a_tag_that_looks_like_a_number_as_a_text(
    newest: Helm, tag: str
) -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "up", "CHARTS=producer", "REGISTRY=", f"TAG={tag}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (flags,) = re.findall(r'image="(.*image\.tag.*)"', recipe.stdout)
    file = ENVIRONMENTS / "development" / "producer.yaml"
    rendered = newest.run("template", "p", CHARTS / "producer", "--values", file, *flags.split())
    assert f'image: "hourglass/producer:{tag}"' in rendered


@pytest.mark.parametrize(
    ("variables", "times"),
    [
        ([], 1),
        (["CHARTS=averages-consumer aggregator producer redis-cluster-dev"], 1),
        (["CHARTS=producer"], 0),
        (["ENVIRONMENT=production"], 1),
        (["ENVIRONMENT=production", "CHARTS=aggregator producer"], 0),
    ],
    ids=str,
)
def test_make_down_removes_the_namespace_with_all_charts_only(
    variables: list[str], times: int
) -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "down", *variables],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "helm uninstall" in recipe.stdout
    assert recipe.stdout.count("kubectl delete namespace") == times


def test_the_development_environment_goes_without_a_trace(newest: Helm) -> None:
    for chart in ALL:
        file = ENVIRONMENTS / "development" / f"{chart}.yaml"
        manifests = newest.render(chart, file, required=False)
        assert "helm.sh/resource-policy" not in yaml.safe_dump_all(manifests)
        retention = workload(manifests)["spec"].get("persistentVolumeClaimRetentionPolicy")
        assert retention is None or retention["whenDeleted"] == "Delete"


def skaffold(config: str = "hourglass") -> dict[str, Any]:
    """One of the configurations in the file, by its name."""
    documents = yaml.safe_load_all((ROOT / "skaffold.yaml").read_text(encoding="utf-8"))
    return next(each for each in documents if each["metadata"]["name"] == config)


CONFIGS = ("hourglass", "audit")


def pipelines() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The releases of the whole file and of each profile, which may replace them."""
    whole = skaffold()
    yield "whole", whole["deploy"]["helm"]["releases"]
    for profile in whole["profiles"]:
        yield profile["name"], profile["deploy"]["helm"]["releases"]


def test_skaffold_builds_what_the_dockerfile_has() -> None:
    stages = re.findall(
        r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE
    )
    artifacts = [each for name in CONFIGS for each in skaffold(name)["build"]["artifacts"]]
    assert len(artifacts) == 4
    for artifact in artifacts:
        assert artifact["image"] == f"hourglass/{artifact['docker']['target']}"
        assert artifact["docker"]["target"] in stages


@pytest.mark.parametrize(("name", "releases"), list(pipelines()), ids=lambda p: str(p)[:20])
def test_skaffold_installs_what_is_there(
    newest: Helm, name: str, releases: list[dict[str, Any]]
) -> None:
    installed = [release["name"] for release in releases]
    assert installed == [each for each in ALL[-1:] + ALL[:-1] if each in installed]
    assert ("redis-cluster-dev" in installed) == (name != "external-redis")
    built = {artifact["image"] for artifact in skaffold()["build"]["artifacts"]}
    for release in releases:
        assert release["chartPath"] == f"charts/{release['name']}"
        assert all(other in installed for other in release.get("dependsOn", []))
        files = [ROOT / file for file in release["valuesFiles"]]
        assert workload(newest.render(release["name"], *files, required=False))
        for path, template in release.get("setValueTemplates", {}).items():
            variables = set(re.findall(r"\.IMAGE_(?:REPO|TAG|DIGEST)_(\w+)", template))
            assert variables, path
            assert variables <= {re.sub(r"[-/.:]", "_", image) for image in built}


def test_skaffold_verifies_in_the_cluster() -> None:
    for pipeline in (skaffold("audit"), *skaffold("audit")["profiles"]):
        for case in pipeline["verify"]:
            job = job_of(case)
            (container,) = job["spec"]["template"]["spec"]["containers"]
            assert container["name"] == case["container"]["name"]
            assert container["args"] == case["container"]["args"] == ["audit"]
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            # Skaffold's own is that of the kubectl context, whatever its releases are in.
            releases = skaffold()["deploy"]["helm"]["releases"]
            assert {release["namespace"] for release in releases} == {job["metadata"]["namespace"]}


def job_of(case: dict[str, Any]) -> dict[str, Any]:
    file = ROOT / case["executionMode"]["kubernetesCluster"]["jobManifestPath"]
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def test_the_audit_of_another_redis_differs_by_where_it_is_and_who_may_ask() -> None:
    (here,) = skaffold("audit")["verify"]
    (profile,) = skaffold("audit")["profiles"]
    assert profile["name"] == "external-redis"
    (elsewhere,) = profile["verify"]
    jobs = job_of(here), job_of(elsewhere)
    environments = [each["spec"]["template"]["spec"]["containers"][0].pop("env") for each in jobs]
    assert jobs[0] == jobs[1]
    values = yaml.safe_load((PROFILES / "external-redis.yaml").read_text("utf-8"))["redis"]
    assert [each["name"] for each in environments[0]] == [each["name"] for each in environments[1]]
    url, username, _ = environments[1]
    assert url["value"] == f"redis://{values['urls'][0]}"
    assert username["valueFrom"]["secretKeyRef"]["name"] == values["existingSecret"]


def test_skaffold_forwards_ports_of_what_it_installs(newest: Helm) -> None:
    releases = skaffold()["deploy"]["helm"]["releases"]
    made = {
        (each["kind"].lower(), each["metadata"]["name"]): each["spec"]
        for release in releases
        for each in newest.render(release["name"], *map(ROOT.joinpath, release["valuesFiles"]))
        if each["kind"] in ("StatefulSet", "Deployment", "Service")
    }
    local: dict[int, str] = {}
    for forward in skaffold()["portForward"]:
        spec = made[forward["resourceType"], forward["resourceName"]]
        offered = (
            spec["ports"]
            if forward["resourceType"] == "service"
            else containers(spec["template"]["spec"])[0]["ports"]
        )
        assert forward["port"] in {each.get("port", each.get("containerPort")) for each in offered}
        local[forward["localPort"]] = forward["resourceName"]
    assert len(local) == len(skaffold()["portForward"])
    assert local[8081] == "averages-consumer-page", "the port that the docs name"


@pytest.mark.extended
@pytest.mark.parametrize("profile", ["", *(each["name"] for each in skaffold()["profiles"])])
def test_skaffold_itself_takes_the_file(profile: str) -> None:
    """Where there is one, of 2.15 or newer: it refuses what its schema does not know."""
    binary = shutil.which("skaffold")
    if binary is None:
        pytest.skip("no skaffold on PATH")
    read = subprocess.run(
        [binary, "diagnose", "--yaml-only", "--profile", profile],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    whole = next(
        each for each in yaml.safe_load_all(read.stdout) if each["metadata"]["name"] == "hourglass"
    )
    releases = dict(pipelines())[profile or "whole"]
    taken = [each["name"] for each in whole["deploy"]["helm"]["releases"]]
    assert taken == [each["name"] for each in releases]


def test_no_profile_patches_by_number() -> None:
    assert all("patches" not in profile for profile in skaffold()["profiles"])
    names = {profile["name"] for profile in skaffold()["profiles"]}
    assert names == {"single-shard", "external-redis", "load", "monitoring"}


def test_flags_that_the_docs_give_are_taken(newest: Helm) -> None:
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^make up (.*HELM_FLAGS.*)$", text, re.MULTILINE)
    assert commands
    for variables in map(shlex.split, commands):
        given = dict(variable.split("=", 1) for variable in variables)
        for chart in given.get("CHARTS", " ".join(ALL)).split():
            flags = shlex.split(given["HELM_FLAGS"])
            values = ENVIRONMENTS / "development" / f"{chart}.yaml"
            files = [ROOT / each if each.startswith("deploy/") else each for each in flags]
            made = newest.run("template", chart, CHARTS / chart, "--values", values, *files)
            plain = newest.run("template", chart, CHARTS / chart, "--values", values)
            assert made != plain, f"{chart}: {flags}"


def test_profiles_have_no_values_file_that_nothing_uses() -> None:
    used = {
        file for _, releases in pipelines() for each in releases for file in each["valuesFiles"]
    }
    there = {str(path.relative_to(ROOT)) for path in PROFILES.glob("*.yaml")}
    assert there <= used
