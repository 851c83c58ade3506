"""How a cluster's slots and roles are laid out before its first process starts."""

from __future__ import annotations

import pytest

from hourglassctl.local.bootstrap import SLOTS, nodes_conf, plan


def ports(size: int) -> list[tuple[int, int]]:
    return [(7000 + index, 17000 + index) for index in range(size)]


@pytest.mark.parametrize("masters", [1, 2, 3, 5, 7])
def test_the_masters_share_every_slot_evenly(masters: int) -> None:
    ranges = [member.slots for member in plan(ports(masters), masters=masters)]

    assert [slot for first, last in ranges for slot in range(first, last + 1)] == [*range(SLOTS)]
    sizes = [last - first for first, last in ranges]
    assert max(sizes) - min(sizes) <= 1


def test_every_master_gets_as_many_replicas() -> None:
    members = plan(ports(6), masters=2)

    followed = [member.master_id for member in members[2:]]
    assert followed == [members[0].node_id, members[1].node_id] * 2


def test_no_member_starts_as_a_master() -> None:
    members = plan(ports(4), masters=2)

    for member in members:
        (myself,) = [line for line in nodes_conf(members, member).splitlines() if "myself" in line]
        assert "myself,slave" in myself
