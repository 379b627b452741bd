"""What the demo stands on: a cluster, images in it, empty namespaces, the operator installed.

In: `KUBECONFIG`, or nothing. Out: `Ground`. Rule: `cluster/` decides which cluster and how images get there; a cluster
that was there before is used and left, and the demo touches only its own two namespaces and its own Helm release.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.kube import Kube, KubeError
from demo.show import StepError, Story

ROOT: Final = Path(__file__).resolve().parents[1]
SCRIPTS: Final = ROOT / "cluster"
CHART: Final = ROOT / "charts" / "wsgi-operator"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsgi-operator" / "cluster"
BINARIES: Final = CACHE / "bin"

SHOP_NAMESPACE: Final = "wsgi-demo"
SYSTEM_NAMESPACE: Final = "wsgi-system"
RELEASE: Final = "wsgi-operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that the cluster's nodes have.

    Attributes:
        repository: everything in front of the tag.
        tag: the rest.
    """

    repository: str
    tag: str

    @property
    def reference(self) -> str:
        """As a pod names it."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the demo stands on.

    Attributes:
        kube: the cluster, in the shop's namespace.
        own: whether the cluster is the one of `make cluster-up`, not the user's.
        shop: image of the ordinary app.
    """

    kube: Kube
    own: bool
    shop: Image


def bring_cluster(story: Story) -> tuple[Kube, bool]:
    """The cluster to use, and whether it is ours.

    Raises:
        StepError: no cluster, with what to do.
    """
    given = os.environ.get("KUBECONFIG")
    if given:
        kube = _connect(given, f"KUBECONFIG is {given}: make that cluster answer, or unset it to have one of our own")
        story.say(f"KUBECONFIG is set: using your cluster, in the namespaces {SHOP_NAMESPACE} and {SYSTEM_NAMESPACE}")
        return kube, False
    if _own_kubeconfig() is None:
        story.command("make cluster-up")
        subprocess.run([SCRIPTS / "up"], stdout=sys.stderr, check=False)
    own = _own_kubeconfig()
    if own is None:
        raise StepError("the cluster did not come up; why, and what to do, stands above")
    kube = _connect(own, "make cluster-down, and try again")
    story.say("a cluster of our own is up: etcd, API server, controllers, scheduler, kubelet, containerd")
    return kube, True


def build_image(name: str, folder: Path, target: str | None = None) -> Image:
    """Build an image and bring it to the cluster's nodes; quick where nothing changed.

    Raises:
        StepError: it could not be built or brought there.
    """
    words = [str(SCRIPTS / "image"), name, "dev", str(folder), *([target] if target else [])]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise StepError(f"the image {name} is not there; why, and what to do, stands above")
    repository, _, tag = done.stdout.strip().splitlines()[-1].rpartition(":")
    return Image(repository=repository, tag=tag)


def empty_namespaces(kube: Kube) -> None:
    """Both namespaces, with Pod Security "restricted" enforced, and nothing left in them of a demo before.

    The shop's WSGIServer goes first and with the operator still there, so that nothing waits for a finalizer.
    """
    if _exists(kube, "crd", "wsgiservers.wsgi.dev") and _exists(kube, "namespace", SHOP_NAMESPACE):
        _let_go(kube)
    kube.run("delete", "namespace", SHOP_NAMESPACE, "--ignore-not-found", "--wait")
    # The images' tag is always the same: an operator of a demo before would go on running the code of that day.
    kube.helm_run("uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--ignore-not-found", "--wait")
    for namespace in (SHOP_NAMESPACE, SYSTEM_NAMESPACE):
        if not _exists(kube, "namespace", namespace):
            kube.run("create", "namespace", namespace)
        kube.run("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted", "--overwrite")


def install(kube: Kube, operator: Image, sidecar: Image) -> tuple[str, ...]:
    """Install the chart and wait until the operator is ready; the words a person would type.

    It serves the shop's namespace alone, so that it cannot meet another operator of the same cluster. A CRD that is
    there already is brought to this tree's state first, for Helm would leave it as it is.
    """
    if _exists(kube, "crd", "wsgiservers.wsgi.dev"):
        kube.run("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
    words = (
        "upgrade", "--install", RELEASE, str(CHART), "--namespace", SYSTEM_NAMESPACE, "--wait", "--timeout", "120s",
        "--set", f"image.repository={operator.repository},image.tag={operator.tag}",
        "--set", f"watch.namespaces={{{SHOP_NAMESPACE}}},reports.intervalSeconds=2",
        "--set", f"sidecar.image.repository={sidecar.repository},sidecar.image.tag={sidecar.tag}",
    )  # fmt: skip
    kube.helm_run(*words)
    return words


def _connect(kubeconfig: str, otherwise: str) -> Kube:
    """The shop's namespace on that cluster, with our own kubectl and helm where they were built, else PATH's."""
    kube = Kube(kubectl=(_tool("kubectl"),), helm=(_tool("helm"),), kubeconfig=kubeconfig, namespace=SHOP_NAMESPACE)
    try:
        kube.run("get", "--raw", "/readyz")
    except KubeError as error:
        raise StepError(f"no cluster answers. {error}. {otherwise}") from None
    return kube


def _own_kubeconfig() -> str | None:
    found = subprocess.run([SCRIPTS / "kubeconfig"], capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def _tool(name: str) -> str:
    own = BINARIES / name
    return str(own) if own.exists() else name


def _exists(kube: Kube, kind: str, name: str) -> bool:
    return bool(kube.run("get", kind, name, "--ignore-not-found", "-o", "name").strip())


def _let_go(kube: Kube) -> None:
    try:
        kube.run("delete", "wsgiserver", "--all", "--timeout=20s")
    except KubeError:
        # No operator is there to give the template back; the whole namespace goes next.
        for item in kube.items("wsgiserver"):
            kube.run(
                "patch",
                "wsgiserver",
                item["metadata"]["name"],
                "--type=merge",
                "-p",
                '{"metadata":{"finalizers":null}}',
            )
