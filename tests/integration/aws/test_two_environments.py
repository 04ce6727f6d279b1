# SPDX-License-Identifier: GPL-3.0-or-later
"""Two environments, and two stacks, in one account: none reads, changes or removes resources of another."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.foundation import foundation, picture
from tests.integration.aws.lab import Lab, failures


def pair(lab: Lab, **changes: str) -> tuple[Lab, Lab]:
    """Return the lab of development and that of production."""
    return lab, lab.other(**{"environment": "production", **changes})


def of(lab: Lab) -> list[str]:
    """Return the resources of an environment in the account, by their tags and names."""
    return [line for line in picture(lab.emulator) if lab.environment in line]


def test_each_is_built_beside_the_other_and_neither_sees_a_change(lab: Lab) -> None:
    development, production = pair(lab)
    described = foundation(lab.emulator)
    development.apply(described)
    before = of(development)

    production.apply(described)
    assert of(development) == before
    assert len(of(production)) == len(before)
    development.assert_unchanged(described)
    production.assert_unchanged(described)


def test_both_are_built_at_once(lab: Lab) -> None:
    described = foundation(lab.emulator)
    labs = pair(lab)
    # A lab is not safe for threads; the stacks that it creates are.
    stacks = [one.stack(described) for one in labs]
    with ThreadPoolExecutor(len(stacks)) as pool:
        reports = list(pool.map(lambda stack: stack.apply(stack.propose()), stacks))

    assert [failures(report) for report in reports] == ["", ""]
    for one in labs:
        one.assert_unchanged(described)


def test_one_is_changed_and_destroyed_and_the_other_stays_as_it_is(lab: Lab) -> None:
    development, production = pair(lab)
    described = foundation(lab.emulator)
    development.apply(described)
    production.apply(described)
    before = of(production)

    changed = {**described, "vpc.main": {**described["vpc.main"], "tags": {"Owner": "data"}}}
    development.apply(changed)
    assert of(production) == before
    production.assert_unchanged(described)

    development.destroy(changed)
    assert of(production) == before
    assert [line.partition(" ")[0] for line in of(development)] == ["alias", "key"]
    production.assert_unchanged(described)


def test_what_one_no_longer_describes_is_not_looked_for_in_the_other(lab: Lab) -> None:
    development, production = pair(lab)
    described = foundation(lab.emulator)
    development.apply(described)
    production.apply(described)
    before = of(production)
    less = without_crawler(described)

    ran = development.apply(less, prune=True, unprotect=tuple(described))
    assert {node.address for node in ran.plan.nodes if node.action == "delete"} == {"glue_crawler.bronze"}
    assert of(production) == before


def without_crawler(described: Mapping[str, Any]) -> dict[str, Any]:
    return {address: item for address, item in described.items() if address != "glue_crawler.bronze"}


@pytest.mark.parametrize("other", [{"environment": "production"}, {"environment": "development", "name": "mart"}])
@pytest.mark.parametrize("adopt", [False, True])
def test_a_name_that_the_other_has_is_refused_even_for_adoption(
    lab: Lab, other: dict[str, str], *, adopt: bool
) -> None:
    one = lab.other(name="lake", environment="development")
    two = lab.other(**other)
    described = {"log_group.shared": {"name": "/shared"}, "iam_role.shared": ROLE}
    one.apply(described)
    before = picture(lab.emulator)

    with pytest.raises(RefusedError) as caught:
        two.run(described, adopt=adopt)
    assert {fault.address for fault in caught.value.faults} == set(described)
    for fault in caught.value.faults:
        assert "belongs to stack 'lake' in 'development'" in str(fault)
        assert "use another name" in str(fault)
    assert picture(lab.emulator) == before


ROLE = {
    "name": "shared",
    "assume_role_policy": {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    },
}


def test_the_name_of_one_environment_may_begin_like_that_of_another(lab: Lab) -> None:
    """`lake/dev` is not `lake/dev2`, nor is `lake-a/dev` `lake/a-dev`: listings do not match prefixes."""
    labs = [
        lab.other(name=name, environment=environment)
        for name, environment in (("lake", "dev"), ("lake", "dev2"), ("lake-a", "dev"), ("lake", "a-dev"))
    ]
    for one in labs:
        one.apply(own(one))

    first, *rest = labs
    ran = first.destroy(own(first))
    assert {node.address for node in ran.plan.nodes} == set(own(first))
    for one in rest:
        one.assert_unchanged(own(one), prune=True)


def own(lab: Lab) -> dict[str, dict[str, Any]]:
    return {
        "vpc.main": {"cidr_block": "10.0.0.0/16"},
        "log_group.main": {"name": f"/{lab.name}/{lab.environment}"},
        "kms_key.main": {"alias": f"alias/{lab.name}/{lab.environment}"},
    }
