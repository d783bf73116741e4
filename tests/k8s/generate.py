"""What the chart has of the code and of its own values: made here, and checked by a test.

usage: python -m tests.k8s.generate     (`make docs` runs it)

- README.md of the chart: the table of its values, from values.yaml and the comments in it
- values.schema.json: `config`, from the settings; the rest of the file is written by hand
- dashboards/*.json: Grafana's JSON, from the tables of panels in dashboards.py
- files/refused-networks.yaml: what the NetworkPolicy leaves out, from the validators' table
"""

import json
import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from pathlib import Path
from typing import Any, Final

import yaml

from tests.k8s import dashboards
from thorn_stream.config.settings import Settings
from thorn_stream.core.addresses import GLOBAL_UNICAST, REFUSED_NETWORKS

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "helm" / "thorn-stream"
_KEY: Final = re.compile(r"^( *)([A-Za-z][A-Za-z0-9]*):")
_LONG: Final = 90


def values_table(text: str) -> Iterator[tuple[str, str, str]]:
    """Path, default and meaning of each value that has a comment above it."""
    values = yaml.safe_load(text)
    route: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        found = _KEY.match(line)
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip("# ").rstrip())
            continue
        if found is not None:
            del route[len(found[1]) // 2 :]
            route.append(found[2])
            if comment:
                value = values
                for name in route:
                    value = value[name]
                yield ".".join(route), _default(value), " ".join(comment)
        comment = []


def _default(value: Any) -> str:
    text = json.dumps(value)
    return f"`{text}`" if len(text) <= _LONG else "see values.yaml"


_README: Final = """\
<!-- The table is made from values.yaml by `make docs`. -->

# thorn-stream

Dispatchers of thorn_stream on Kubernetes: a Deployment that reads Kafka and calls webhooks. How to
use it: [docs/kubernetes.md](../../docs/kubernetes.md). Examples of values: [ci/](ci/).

```sh
helm install thorn helm/thorn-stream -f values.yaml
helm test thorn --logs
```

Two values only you know: `image.repository`, where you pushed the image to, and, with alerts,
`prometheusRule.runbookBase`, where the runbooks can be read. The notes after an installation say
which is missing.

Secrets are never rendered: `config` refers to them (`env:NAME`, `file:PATH`), `extraEnv` and
`extraVolumes` bring them in. Every object that may be left out has a switch, `....enabled`; what
the cluster offers is never asked. Misspelt values are refused, those under `config` too.

| Value | Default | Meaning |
| --- | --- | --- |
"""


def readme() -> str:
    text = (CHART / "values.yaml").read_text()
    rows = (f"| `{path}` | {default} | {text} |" for path, default, text in values_table(text))
    return _README + "\n".join(rows) + "\n"


def schema() -> str:
    """values.schema.json with the settings' own schema as that of `config`."""
    path = CHART / "values.schema.json"
    own = json.loads(path.read_text())
    settings = Settings.model_json_schema()
    own["$defs"] = settings.pop("$defs")
    for name in ("title", "description"):
        settings.pop(name)
    own["properties"]["config"] = settings
    return json.dumps(own, indent=2) + "\n"


def refused() -> str:
    """Both families, as the `except` of an ipBlock, which has to lie within its `cidr`."""
    networks = [row.network for row in REFUSED_NETWORKS]
    four = collapse_addresses(n for n in networks if isinstance(n, IPv4Network))
    six = collapse_addresses(
        n for n in networks if isinstance(n, IPv6Network) and n.subnet_of(GLOBAL_UNICAST)
    )
    data = {
        "global": str(GLOBAL_UNICAST),
        "ipv4": [str(network) for network in four],
        "ipv6": [str(network) for network in six],
    }
    head = "# Made by `make docs` from thorn_stream/core/addresses.py, where each has its source.\n"
    return head + yaml.safe_dump(data, sort_keys=False)


def made() -> dict[Path, str]:
    """Each file that is made, and what should be in it."""
    return {
        CHART / "README.md": readme(),
        CHART / "values.schema.json": schema(),
        CHART / "files" / "refused-networks.yaml": refused(),
        **{CHART / "dashboards" / name: text for name, text in dashboards.made().items()},
    }


def main() -> None:
    for path, text in made().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
