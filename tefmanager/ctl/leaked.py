"""``tefctl resources leaked``: references that are counted although no known holder has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
from twisted.internet.task import deferLater

from tefmanager.ctl import resource_keys, show
from tefmanager.ctl.console import Session
from tefmanager.ctl.foreign import is_usual
from tefmanager.ctl.tables import Rows
from tefmanager.etcd import tree
from tefmanager.etcd.http import HttpClient

PAUSE = 2.0
"""Seconds between two checks: what somebody is just taking or giving back is no leak."""


@dataclass(frozen=True, slots=True)
class Leak:
    """What is wrong with a resource.

    Attributes:
        count: its ``ref_count``, with the revision at which it was read.
        locks: how many lock keys it has.
        odd: the last parts of those that do not have the form ``<client>~<time>~<count>``.
    """

    resource: str
    count: int
    locks: int
    odd: tuple[str, ...]
    entry: resource_keys.Entry

    @property
    def without_key(self) -> int:
        """How many references are counted but have no lock key."""
        return max(0, self.count - self.locks)


def leaks(found: Mapping[str, resource_keys.Entry]) -> list[Leak]:
    """Return the resources with references that have no lock key, or an odd one, by name."""
    locks: dict[str, list[str]] = {}
    for path in found:
        if (at := tree.resource_key(path)) is not None and at.is_lock:
            locks.setdefault(at.name, []).append(at.lock_id)
    names = {at.name for path in found if (at := tree.resource_key(path)) is not None}
    all_of_them = [_leak(name, found, locks.get(name, ())) for name in sorted(names)]
    return [each for each in all_of_them if each.without_key or each.odd]


def _leak(name: str, found: Mapping[str, resource_keys.Entry], locks: Sequence[str]) -> Leak:
    entry = found.get(f"{name}/{tree.REF_COUNT}", resource_keys.Entry("0", 0))
    odd = tuple(sorted(lock for lock in locks if not is_usual(lock)))
    return Leak(name, tree.number(entry.value) or 0, len(locks), odd, entry)


async def _lasting(keys: resource_keys.Keys, names: Sequence[str]) -> list[Leak]:
    """Check twice, and return what was wrong both times."""
    from twisted.internet import reactor

    first = leaks(await keys.read())
    if first:
        clock: Any = reactor
        await deferLater(clock, PAUSE)
    again = set(leaks(await keys.read())) if first else set()
    return [each for each in first if each in again and (not names or each.resource in names)]


async def _mend(keys: resource_keys.Keys, leak: Leak, odd_keys: bool) -> bool:
    """Lower a count to the number of lock keys, and release odd keys; return False if it has changed."""
    if leak.without_key and not await keys.swap_count(leak.resource, leak.entry, leak.locks):
        return False
    return not odd_keys or all([await keys.release(leak.resource, lock) for lock in leak.odd])


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--odd-keys", is_flag=True, help="With --yes, also release lock keys of an unknown form.")
@click.option("--yes", is_flag=True, help="Correct the counts. Without this option, they are only listed.")
@click.pass_obj
def leaked(session: Session, names: tuple[str, ...], odd_keys: bool, yes: bool) -> None:
    """Show resources whose count does not match their lock keys.

    If a program dies, a resource's count may stay higher than the number of its lock keys. A lock key may
    also have a form that does not say who holds it and since when. With --yes, each count is lowered to
    the number of lock keys. First make sure that nobody uses these resources, because some programs may
    write no lock keys. A count that changes meanwhile is left alone. The command takes two seconds.

    \b
    Examples:
      tefctl resources leaked
      tefctl resources leaked licence --yes
      tefctl resources leaked licence --odd-keys --yes
    """
    config = session.config()

    async def work(http: HttpClient) -> list[tuple[Leak, bool]]:
        keys = await resource_keys.chosen(http, config)
        found = await _lasting(keys, names)
        return [(each, yes and await _mend(keys, each, odd_keys)) for each in found]

    done = resource_keys.run(config, session.patience, work)
    made = Rows("*resource", "#counted", "#lock keys", "#without key", "other keys", "mended")
    for each, mended in done:
        odd = ", ".join(each.odd)
        made.add(each.resource, each.count, each.locks, each.without_key, odd, "yes" if mended else "no")
    told = [
        {
            **{key: value for key, value in asdict(each).items() if key != "entry"},
            "without_key": each.without_key,
            "mended": mended,
        }
        for each, mended in done
    ]
    show.show(session, told, made if done else "every reference has its lock key")
    if done and not yes and not session.json:
        click.echo(f"{len(done)} found; --yes mends them")
