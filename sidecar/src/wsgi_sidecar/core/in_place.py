"""Changing a running server's settings: whether and how an order is taken up.

In: the order, the journal, one look, and by what means this server can be changed. Out: the next journal, and at most
one `Act`. Rule: written before it is told, and told once. An order is carried out once, whatever became of it; one that
cannot be carried out whole is refused whole, with the reason. What the next order says waits until this one is settled
(`verifying`), and any order waits until the server is up.
"""

from dataclasses import replace

from wsgi_contract.in_place import InPlaceOrder
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.journal import Journal
from wsgi_sidecar.core.ordering import Act, Change, Lever, Scene, done, in_force, serving
from wsgi_sidecar.core.verifying import followed


def advance(change: Change, scene: Scene) -> tuple[Change, Act | None]:
    """The next step; the caller carries the act out, and hands its journal back only if that worked."""
    journal = change.journal
    if scene.family is not None and scene.family.doubt is not None and journal is not None and not journal.settled:
        return change, None  # who was told, and who would be told next, may be two servers
    if journal is not None and not journal.settled:
        return followed(change, journal, scene)
    if scene.order is None or scene.family is None or scene.lever is None or _known(journal, scene):
        return change, None
    if not _is_up(scene.family, scene):
        return change, None
    return _begun(change, scene.order, scene.family, scene.lever, scene)


def _known(journal: Journal | None, scene: Scene) -> bool:
    """Whether this order was dealt with; what signals have changed goes with the master that got them."""
    if journal is None or scene.order is None or journal.order != scene.order.id:
        return False
    lost = journal.means == "signals" and journal.state == "Applied"
    return not (lost and scene.family is not None and journal.master != scene.family.master.id)


def _is_up(family: Family, scene: Scene) -> bool:
    """Whether all workers have loaded the application, or as many as are configured.

    Others may hang in their boot still: a change that was taken back leaves them, and from gunicorn 22 on nobody but
    the boot limit ends them.
    """
    living = serving(family)
    up = sum(worker.state != "booting" for worker in living)
    configured = next((setting.value for setting in scene.settings if setting.name == "workers"), None)
    return up > 0 and (up == len(living) or (isinstance(configured, int) and up >= configured))


def _begun(
    change: Change, order: InPlaceOrder, family: Family, lever: Lever, scene: Scene
) -> tuple[Change, Act | None]:
    journal = Journal(
        order=order.id,
        means=lever.means,
        ordered=order.settings,
        settings=lever.settings,
        good=lever.settings,
        state="Refused",
        reason="",
        since=scene.at,
        before=in_force(order.settings, scene),
        within_s=order.within_s,
        count=len(serving(family)),
        master=family.master.id,
        told_ticks=scene.ticks,
    )
    if (why := _why_not(order, lever, journal)) is not None:
        return done(change, journal.now("Refused", why, at=scene.at))
    if lever.means == "signals":
        begun = journal.now("Verifying", "the number of workers is changed by signals", at=scene.at, settled=False)
        return replace(change, journal=begun, steady_since=None, pushed_at=None), None
    if order.settings == lever.settings:
        told = journal.now("Applied", "these settings are in force already; the server was not told", at=scene.at)
        return done(change, told)
    reason = f"it is written and the server was told to read it; its workers get {order.within_s:g} s to be up"
    begun = journal.now("Verifying", reason, at=scene.at, settings=order.settings, settled=False)
    return replace(change, steady_since=None), Act(journal=begun, verb="reload")


def _why_not(order: InPlaceOrder, lever: Lever, journal: Journal) -> str | None:
    if lever.means == "none":
        return lever.obstacle or "this server cannot be changed in place"
    now = dict(journal.before)
    if lever.means == "signals":
        others = [name for name, value in order.settings.items() if name != "workers" and now.get(name) != value]
        if others:
            return f"only the number of workers can be changed here, not {', '.join(others)}: {lever.obstacle}"
        return None if order.settings.workers is not None else "it orders nothing that signals could change"
    few, workers = lever.least_workers, order.settings.workers
    if few is not None and workers is not None and workers < few[0]:
        return f"workers may not be {workers}: {few[1]}"
    pinned = [name for name, value in order.settings.items() if name in lever.fixed and now.get(name) != value]
    if pinned:
        return "; ".join(f"{name} is given by {lever.fixed[name]}, which is stronger than the file" for name in pinned)
    return None
