"""Lay out JSON schemas for kubeconform: those of Kubernetes, and of the CRDs.

usage: schemas.py TOOLS_DIR     (reads TOOLS_DIR/crds, writes TOOLS_DIR/schemas/<version>)
"""

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

VERSIONS = ("1.30", "1.34", "1.36")


def closed(node: Any) -> Any:
    """The schema of a CRD as JSON Schema; closed, but for what keeps unknown fields."""
    if isinstance(node, list):
        return [closed(part) for part in node]
    if not isinstance(node, dict):
        return node
    out = {key: closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        keeps = node.get("x-kubernetes-preserve-unknown-fields", False)
        out.setdefault("additionalProperties", bool(keeps))
    if node.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if out.get("nullable") and isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    return out


def crds(folder: Path) -> dict[str, Any]:
    """File name as kubeconform looks for it -> schema."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            spec = document["spec"]
            for version in spec["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                name = f"{spec['group']}_{spec['names']['kind'].lower()}_{version['name']}.json"
                found[name] = schema
    return found


def main() -> None:
    """Write them all."""
    root = Path(sys.argv[1])
    own = crds(root / "crds")
    package = files("kubernetes_validate") / "kubernetes-json-schema"
    for version in VERSIONS:
        target = root / "schemas" / version
        target.mkdir(parents=True, exist_ok=True)
        for entry in (package / f"v{version}.0-local-strict").iterdir():
            # they name each other by an address on the web; here it is by file
            text = entry.read_text().replace('"/api/_definitions.json', '"_definitions.json')
            text = text.replace('"$id": "https', '"$comment": "https')
            (target / entry.name).write_text(text)
        for name, schema in own.items():
            (target / name).write_text(json.dumps(schema))


if __name__ == "__main__":
    main()
