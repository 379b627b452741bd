"""What `helm test` asks, in the operator's image and as its account.

In: the address of /readyz, the served namespaces (comma-separated; empty: all), the account that Kubernetes mounts.
Out: a line for each thing that works and exit code 0; or a sentence with what to do, and 1. Rule: standard library.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API = "/apis/wsgi.dev/v1alpha1"
CRD = "kubectl apply --server-side --force-conflicts -f charts/wsgi-operator/crds/"


def asked(address: str) -> str:
    """One answer of plain HTTP.

    Raises:
        OSError: there was none, or it was no 200.
    """
    with urllib.request.urlopen(address, timeout=5) as answer:
        return answer.read().decode()


def ready(address: str) -> str:
    """What the operator says of itself; asked for half a minute, for a name may be new to the cluster's DNS."""
    last: OSError = OSError("it was not asked")
    for _ in range(15):
        try:
            return asked(address).strip()
        except OSError as error:
            last = error
            time.sleep(2)
    raise SystemExit(
        f"the operator does not answer at {address}: {last}. See its log; a NetworkPolicy may be in between"
    )


def api(path: str) -> dict:
    """One answer of the API server, asked as the operator's account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    bracketed = f"[{host}]" if ":" in host else host
    token = (ACCOUNT / "token").read_text().strip()
    request = urllib.request.Request(f"https://{bracketed}:{port}{path}", headers={"Authorization": f"Bearer {token}"})
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        what = f"the API server answers {refusal.code} to GET {path}"
        remedy = {403: "the account's role is not the chart's", 404: f"the CRD is not there: {CRD}"}
        raise SystemExit(f"{what}: {remedy.get(refusal.code, refusal.reason)}") from None


def main(address: str, namespaces: str) -> None:
    """Ask all of it."""
    print(f"the operator says: {ready(address)}")
    served = {resource["name"] for resource in api(API)["resources"]}
    if not {"wsgiservers", "wsgiservers/status"} <= served:
        raise SystemExit(f"the CRD is an older one ({', '.join(sorted(served))}): {CRD}")
    print("the CRD is served, with its status")
    for place in [f"/namespaces/{name}" for name in namespaces.split(",")] if namespaces else [""]:
        count = len(api(f"{API}{place}/wsgiservers")["items"])
        print(f"WSGIServers{place.replace('/namespaces/', ' in ') or ' in the cluster'}: {count}")


if __name__ == "__main__":
    main(*sys.argv[1:])
