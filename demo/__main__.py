"""The demo on a real cluster: `make demo`.

In: nothing, or `KUBECONFIG`. Out: the story of a shop that freezes, is healed, is resized and let go; exit code 0 only
if every step happened. Rule: every figure, log line and Event that is printed was read from the cluster at that moment.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from demo import ground, shop
from demo.ground import Ground
from demo.kube import KubeError
from demo.show import StepError, Story, tell
from demo.traffic import Visitors

HERE: Final = Path(__file__).parent
ABOUT: Final = (
    "An ordinary Flask shop on gunicorn 23.0.0 freezes, and Kubernetes does not notice. Then the same shop, without a "
    "line changed in it, is adopted by wsgi-operator: the next freeze is seen, explained and healed in seconds. Its "
    "workers and timeout are changed without a failed request, and at last the Deployment is given back as its owner "
    "wrote it."
)


def demo() -> None:
    """All of it, as one straight line."""
    story = Story("wsgi-operator: a frozen worker healed, a Deployment resized, nothing left behind", ABOUT)
    with _failures_told():
        here = lay_ground(story)
        address = shop.open_shop(story, here)
        before = here.kube.template("shop")
        with Visitors(here.kube, address, here.shop.reference) as visitors:
            shop.show_rates(story, visitors, seconds=4)
            shop.freeze_unwatched(story, here.kube, visitors)
            shop.adopt(story, here.kube, visitors)
            shop.freeze_watched(story, here.kube, visitors)
            shop.resize(story, here.kube, visitors)
            shop.let_go(story, here.kube, visitors, before)
        last_words(story, here)


def lay_ground(story: Story) -> Ground:
    """Cluster, images, operator."""
    story.step(
        "A real cluster, and the operator installed with Helm", "The first time, everything is built from source."
    )
    kube, own = ground.bring_cluster(story)
    operator, sidecar = (
        ground.build_image(f"wsgi-{target}", ground.ROOT, target) for target in ("operator", "sidecar")
    )
    app = ground.build_image("shop", HERE / "app")
    story.say(f"images ready: {operator.reference}, {sidecar.reference}, {app.reference}")
    ground.empty_namespaces(kube)
    words = ground.install(kube, operator, sidecar)
    story.command("helm " + " ".join(word.replace(f"{ground.ROOT}/", "") for word in words[:8]) + " ...")
    story.say("the operator is ready, in a namespace where Pod Security `restricted` is enforced")
    return Ground(kube=kube, own=own, shop=app)


def last_words(story: Story, here: Ground) -> None:
    """How to look around, how to clean up."""
    kubectl = f"kubectl -n {here.kube.namespace}"
    clean = (
        ["make cluster-down"]
        if here.own
        else [
            f"kubectl delete namespace {ground.SHOP_NAMESPACE}",
            f"helm uninstall {ground.RELEASE} -n {ground.SYSTEM_NAMESPACE}",
            f"kubectl delete namespace {ground.SYSTEM_NAMESPACE}",
            "kubectl delete crd wsgiservers.wsgi.dev",
        ]
    )
    path = "" if not here.own else f"    export KUBECONFIG={here.kube.kubeconfig} PATH={ground.BINARIES}:$PATH"
    story.end(
        f"Every step happened, in {story.elapsed_s:.0f} s. The cluster, the operator and the shop are still there:",
        *filter(None, [path]),
        f"    {kubectl} apply -f demo/app/wsgiserver.yaml      # adopt the shop again",
        f"    {kubectl} get wsgi; {kubectl} describe wsgi shop",
        f"    {kubectl} get events --sort-by=.lastTimestamp",
        "Clean up:",
        *(f"    {line}" for line in clean),
    )


@contextmanager
def _failures_told() -> Iterator[None]:
    """A command that failed is a step that did not happen; its words are what the reader needs."""
    try:
        yield
    except (KubeError, TimeoutError) as error:
        raise StepError(str(error)) from None


if __name__ == "__main__":
    sys.exit(tell(demo))
