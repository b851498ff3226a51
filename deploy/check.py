"""Looks through the image's recipe, the chart and the compose file: `make check-deploy`.

The chart is rendered with the template engine that Helm uses (Go's, with sprig's functions); of
Helm's own functions it uses none. What comes out is held against Kubernetes' own schemas.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import go_template
import jsonschema
import kubernetes_validate
import yaml

DEPLOY = Path(__file__).resolve().parent
CHART = DEPLOY / "helm" / "merino"
OF_OTHERS = {"monitoring.coreos.com/v1"}
"""Kinds whose schemas Kubernetes does not have."""
VERSIONS = ("1.29", "1.32", "1.37")
SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        "nameOverride": "gate",
        "image": {"repository": "ghcr.io/a/merino", "tag": "1.2.3", "pullSecrets": ["pull"]},
        "envFromSecrets": ["providers", "stripe"],
        "env": [{"name": "A", "value": "1"}],
        "persistence": {"storageClass": "fast", "annotations": {"a": "b"}, "size": "1Ti"},
        "backup": {"enabled": True, "existingClaim": "backups", "keySecret": "key"},
        "drainSeconds": 120,
        "service": {"type": "LoadBalancer", "port": 8443, "annotations": {"a": "b"}},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {"enabled": True, "from": [{"podSelector": {}}]},
        "serviceAccount": {"annotations": {"a": "b"}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"a": "b"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
    },
    "a claim of one's own": {
        "persistence": {"existingClaim": "mine"},
        "backup": {"enabled": True, "existingClaim": "backups"},
        "networkPolicy": {"enabled": True},
    },
}
REFUSED: dict[str, dict[str, Any]] = {
    "backups that lie nowhere": {"backup": {"enabled": True}},
    "a misspelt value": {"drainSecond": 3},
    "a drain of no time": {"drainSeconds": 0},
    "more than one relay": {"replicas": 3},
    "a port that is none": {"service": {"port": 0}},
}


def main() -> None:
    checks = [*recipe(), *chart(), *compose()]
    faults = [fault for _, found in checks for fault in found]
    for what, found in checks:
        print(f"{'wrong' if found else 'fine ':5}  {what}")
    for fault in faults:
        print(f"  {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


Checks = Iterator[tuple[str, list[str]]]


def recipe() -> Checks:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    yield "the image's recipe, by hadolint", done.stdout.splitlines()


def chart() -> Checks:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    yield "the schema knows every value", sorted(_unknown(values, schema, ""))
    for name, given in SETS.items():
        merged = merge(values, given)
        yield f"values: {name}", [error.message for error in validator.iter_errors(merged)]
        objects = list(rendered(merged))
        for version in VERSIONS:
            yield (
                f"chart with {name}, Kubernetes {version}",
                [fault for each in objects for fault in invalid(each, version)],
            )
        yield f"chart with {name}: its parts fit", list(misfits(objects, merged))
    for name, given in REFUSED.items():
        is_refused = any(True for _ in validator.iter_errors(merge(values, given)))
        yield f"values are refused: {name}", [] if is_refused else ["they are taken"]


def merge(values: Any, given: Any) -> Any:
    if not isinstance(values, dict) or not isinstance(given, dict):
        return copy.deepcopy(given)
    return {**values, **{name: merge(values.get(name), each) for name, each in given.items()}}


def _unknown(values: Any, schema: Any, path: str) -> Iterator[str]:
    for name, value in values.items():
        inner = schema.get("properties", {}).get(name)
        if inner is None:
            yield f"{path}{name} is in values.yaml and not in values.schema.json"
        elif isinstance(value, dict) and "properties" in inner:
            yield from _unknown(value, inner, f"{path}{name}.")


def rendered(values: Any) -> Iterator[dict[str, Any]]:
    """What Helm would apply."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    given = {
        "Values": values,
        "Release": {"Name": "shop", "Namespace": "ai", "Service": "Helm"},
        "Chart": {name[0].upper() + name[1:]: value for name, value in about.items()},
    }
    names = (CHART / "templates" / "_names.tpl").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as place:
        for path in sorted((CHART / "templates").iterdir()):
            if path.name.startswith("_"):
                continue
            whole = Path(place) / path.name
            whole.write_text(names + path.read_text(encoding="utf-8"), encoding="utf-8")
            text = go_template.render(whole, given).decode()
            if path.suffix == ".yaml":
                yield from (each for each in yaml.safe_load_all(text) if each)


def invalid(found: dict[str, Any], version: str) -> list[str]:
    if found["apiVersion"] in OF_OTHERS:
        return []
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        where = ".".join(map(str, error.path))
        return [f"{found['kind']} {found['metadata']['name']}: {where}: {error.message}"]
    return []


def misfits(objects: list[dict[str, Any]], values: Any) -> Iterator[str]:
    """What no schema sees."""
    by_kind = {each["kind"]: each for each in objects}
    relay, service = by_kind["StatefulSet"], by_kind["Service"]
    pod = relay["spec"]["template"]
    labels = pod["metadata"]["labels"]
    if not relay["spec"]["selector"]["matchLabels"].items() <= labels.items():
        yield "the StatefulSet does not select its own pods"
    if not service["spec"]["selector"].items() <= labels.items():
        yield "the Service does not select the pods"
    if relay["spec"]["serviceName"] != service["metadata"]["name"]:
        yield "the StatefulSet names another Service"
    if pod["spec"]["terminationGracePeriodSeconds"] < values["drainSeconds"] + 10:
        yield "the pod is killed before it has drained"
    if any(each["metadata"].get("namespace") != "ai" for each in objects):
        yield "an object is in no namespace"
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        template = spec.get("template")
        if template is not None:
            yield from _unmounted(each["kind"], template["spec"], relay)
    policy = by_kind.get("NetworkPolicy")
    chosen = policy["spec"]["podSelector"]["matchLabels"] if policy else {}
    if not chosen.items() <= labels.items():
        yield "the NetworkPolicy does not select the pods"


def _unmounted(kind: str, spec: dict[str, Any], relay: dict[str, Any]) -> Iterator[str]:
    volumes = {each["name"] for each in spec.get("volumes", [])}
    if kind == "StatefulSet":
        volumes |= {
            each["metadata"]["name"] for each in relay["spec"].get("volumeClaimTemplates", [])
        }
    for container in spec["containers"]:
        mounted = {each["name"] for each in container["volumeMounts"]}
        if mounted != volumes:
            yield f"{kind}: volumes {sorted(volumes)}, mounted {sorted(mounted)}"
        if not container["securityContext"]["readOnlyRootFilesystem"]:
            yield f"{kind}: {container['name']} may write everywhere"


def compose() -> Checks:
    found = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    service = found["services"]["merino"]
    faults = []
    named = {each.partition(":")[0] for each in service["volumes"]}
    if missing := {each for each in named if not each.startswith(".")} - found["volumes"].keys():
        faults.append(f"volumes that are not declared: {missing}")
    if not service["read_only"] or service["cap_drop"] != ["ALL"]:
        faults.append("the container may do more than it needs")
    yield "the compose file", faults


if __name__ == "__main__":
    main()
