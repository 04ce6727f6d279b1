# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack of AWS resources: from the task's description to a plan, and from a plan to its result."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..engine.errors import DescriptionError, Fault, OptionRemedy
from ..engine.execute import Report, execute
from ..engine.obstacles import obstacle_faults
from ..engine.plan import Plan, check_fresh, check_purpose
from ..engine.planning import Options, Proposal, propose
from ..engine.resource import Actual, Owner, Resource, Stack
from ..shared.nearest import suggestion
from ..shared.version import COLLECTION_VERSION
from .ec2 import SUBNETS
from .errors import CallError
from .kind import AwsKind, Left, owner_of, tag_map
from .offline import Draft, description_faults
from .partitions import service_principals
from .permissions import judge
from .prerequisites import prerequisite_faults
from .quotas import quota_faults
from .regions import RegionNames, attributed, misplaced
from .registry import KINDS, kind_class, make_kinds
from .retention import keep_keys, retained
from .rules import RULES
from .session import Session
from .spelling import key_id
from .tag_rules import IgnoredTags, stack_tags_fault
from .zones import ATTRIBUTE, ZoneUse, supported

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BOUNDARY = "permissions_boundary"
_RESOURCE_WORDS = ("kind", "name", "properties", "depends_on", "adopt", "protect")


@dataclass(frozen=True)
class StackDescription:
    """Description in a task. `secret_values`: values of `${secret.NAME}`. `account_id`: the only allowed account.

    tags: of every resource, in addition to `Environment` and `Project`. permissions_boundary: ARN of the policy that
    limits every identity of the stack. A resource can override both.
    lists_undescribed: read all kinds, to report resources with the stack's tags outside of the description.
    availability_zones: names for `${stack.availability_zones.N}`; empty: all zones that EKS supports.
    checks: properties of the account to compare with the requirements of the plan.
    """

    name: str
    environment: str
    resources: Sequence[Mapping[str, Any]]
    secret_values: Mapping[str, str] = field(default_factory=dict, repr=False)
    state: Literal["present", "absent"] = "present"
    prune: bool = False
    adopt: bool = False
    unprotect: tuple[str, ...] = ()
    delete_contents: tuple[str, ...] = ()
    lists_undescribed: bool = False
    account_id: str = ""
    availability_zones: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    ignored_tags: IgnoredTags = field(default_factory=IgnoredTags)
    permissions_boundary: str = ""
    checks: tuple[Literal["permissions", "quotas"], ...] = ()


class AwsStack:
    """One stack in one account and region. Raises the engine's errors and CallError.

    Until the description is known to be valid, only its account, zones and names are read.
    """

    def __init__(self, session: Session, description: StackDescription) -> None:
        self.session, self.description = session, description
        _check_task(description)
        self.resources = bounded(tagged(parse(description.resources), description), description.permissions_boundary)
        lists = description.prune or description.state == "absent" or description.lists_undescribed
        # Resources with the stack's tags may be of any kind.
        names = KINDS if lists else {resource.kind for resource in self.resources}
        self.kinds = make_kinds(session, names)
        for kind in self.kinds:
            kind.ignored_tags = description.ignored_tags
        self._doubts: list[str] = []
        session.hide(*map(str, description.secret_values.values()))

    def propose(self, saved: Plan | None = None) -> Proposal:
        """Read existing resources and return a plan. Raises StalePlanError where it differs from the saved plan."""
        if saved is not None:
            purpose = {"stack": self.description.name, "environment": self.description.environment}
            check_purpose(saved, {**purpose, "state": self.description.state})
        stack = self._stack()
        secrets = {name: stack.secret(value) for name, value in self.description.secret_values.items()}
        given = self.description
        options = Options(
            given.state,
            given.prune,
            given.adopt,
            frozenset(given.unprotect),
            frozenset(given.delete_contents),
            given.lists_undescribed,
        )
        parallelism = self.session.connection.parallelism
        proposal = propose(
            stack,
            self.kinds,
            self.resources,
            secrets,
            options,
            parallelism=parallelism,
            tolerated_errors=self._is_missing,
            revise=lambda world: attributed(world, self._spanning, stack.owner("", spans_regions=True)),
            review=self._review,
        )
        if saved is not None:
            check_fresh(saved, proposal.plan)
        return proposal

    def _review(self, proposal: Proposal) -> tuple[Proposal, Sequence[Fault]]:
        """Return a plan that keeps keys of retained resources, and all errors that AWS would raise during the run."""
        kinds = {kind.name: kind for kind in self.kinds}
        kept = keep_keys(proposal, retained(self.session, proposal, kinds))
        faults = [*obstacle_faults(kept, self.session.each), *prerequisite_faults(self.session, kept)]
        nodes = [node for node in kept.plan.nodes if node.action != "none"]
        if nodes and "quotas" in self.description.checks:
            faults += quota_faults(self.session, nodes)
        if nodes and "permissions" in self.description.checks:
            judged = judge(self.session, kinds, nodes)
            faults += judged.faults
            self._doubts = judged.doubts
        return kept, faults

    def apply(self, proposal: Proposal) -> Report:
        """Apply a plan and return the result of every resource."""
        return execute(proposal, parallelism=self.session.connection.parallelism)

    def _stack(self) -> Stack:
        faults = self._offline_faults()
        if faults:
            raise DescriptionError(faults)
        with ThreadPoolExecutor(1, "clients") as pool:
            # The models of the other services are loaded during the first call.
            pool.submit(self._load_clients)
            identity = self.session.identity()
            self._check_account(identity.account_id, identity.arn)
            attributes: dict[str, Any] = {
                "account_id": identity.account_id,
                "region": self.session.region,
                "partition": identity.partition,
                "dns_suffix": self.session.dns_suffix,
                "service_principals": service_principals(self.session.region, self.session.dns_suffix),
            }
            stack = Stack(self.description.name, self.description.environment, COLLECTION_VERSION, attributes)
            # Both are independent and run concurrently.
            questions: tuple[Callable[[], Any], ...] = (self._zones, lambda: self._names(stack).choose(self.resources))
            zones, self.resources = self.session.each(lambda question: question(), questions)
        return replace(stack, attributes={**attributes, **zones})

    def _offline_faults(self) -> list[Fault]:
        """Return all errors that can be found before the first call."""
        given = self.description
        faults = list(misplaced(self.resources, self._spanning))
        if given.state == "absent":
            # A destruction does not create resources.
            return [*faults, *(fault for rule in RULES for fault in rule(self.resources))]
        draft = Draft(
            given.name, given.environment, COLLECTION_VERSION, self.resources, self.kinds, given.secret_values
        )
        return [*faults, *description_faults(self.session, draft)]

    def _names(self, stack: Stack) -> RegionNames:
        return RegionNames(stack, {kind.name: kind for kind in self.kinds}, self.session.each)

    @property
    def _spanning(self) -> list[str]:
        """The kinds that span regions."""
        return [kind.name for kind in self.kinds if kind.schema.spans_regions]

    def _zones(self) -> dict[str, list[str]]:
        """Return the zones of the description's positions, where it has any. Existing subnets keep their zone."""
        use, given = ZoneUse.of(self.resources, self.session.region), self.description.availability_zones
        if not use:
            return {}
        existing = self._subnet_zones()
        known = {} if use.is_settled_by(existing, given) else self.session.zones()
        absent = self.description.state == "absent"
        faults = () if absent else tuple(use.faults(existing, given, known, self.session.region))
        if faults:
            raise DescriptionError(faults)
        chosen = use.choose(existing, given or supported(known))
        # A destruction does not place resources, so a zone may have disappeared.
        unplaced = [self.session.region] * (max(use.referenced, default=-1) + 1 - len(chosen)) if absent else []
        return {ATTRIBUTE: chosen + unplaced}

    def _subnet_zones(self) -> dict[str, str]:
        """Return the zones of the stack's subnets by address."""
        own = Owner(self.description.name, self.description.environment, "")
        try:
            subnets = SUBNETS.owned(self.session, own)
        except CallError as error:
            # The read of the subnets themselves reports it, with all other denied reads.
            if error.is_denied:
                return {}
            raise
        found = [(owner_of(tag_map(item.get("Tags"))), item) for item in subnets]
        mine = [(owner, item) for owner, item in found if owner is not None and owner.shares_stack_with(own)]
        return {owner.address: item["AvailabilityZone"] for owner, item in mine}

    def _load_clients(self) -> None:
        for service in dict.fromkeys(kind.service for kind in self.kinds):
            self.session.client(service)

    def _check_account(self, account_id: str, arn: str) -> None:
        wanted = self.description.account_id
        if wanted and wanted != account_id:
            message = f"the credentials are those of account {account_id} ({arn}), not of {wanted}"
            remedy = OptionRemedy("use other credentials, or correct account_id", "account_id")
            raise DescriptionError([Fault("", "account_id", message, remedy)])

    def _is_missing(self, name: str, error: BaseException) -> bool:
        """Return whether an unlistable kind is a notice only: no deletion is planned, or the service does not exist."""
        if isinstance(error, CallError) and not (self.description.prune or self.description.state == "absent"):
            return True
        service = next(kind.service for kind in self.kinds if kind.name == name)
        return isinstance(error, CallError) and error.is_nowhere and self.session.lacks(service)

    def notices(self, proposal: Proposal) -> list[str]:
        """Return notices for readers of the plan."""
        listed = self.description.prune or self.description.state == "absent"
        why = f"{self.session.region} does not have its service" if listed else "its resources cannot be listed"
        missing = [f"{name}: was not searched: {why} ({message})" for name, message in sorted(proposal.missing.items())]
        doubtful = ", ".join(self._doubts)
        doubts = [f"no policy allows all actions of the plan on every resource: {doubtful}"] if doubtful else []
        kept = proposal.kept.items() if self.description.state == "present" else ()
        notes = [f"{address}: {reason}" for address, reason in kept]
        return [*missing, *doubts, *notes, *_undescribed_notice(proposal)]

    def left(self, proposal: Proposal) -> list[dict[str, str]]:
        """Return the resources that a destruction leaves: scheduled deletions, final snapshots, and kept keys.

        `readable_until` is the date on which the resource or its key is deleted, the earlier one; empty: not scheduled.
        """
        kinds = {kind.name: kind for kind in self.kinds}
        owner = Owner(self.description.name, self.description.environment, "")
        existed = [(node, proposal.actuals[node.address]) for node in proposal.plan.nodes if node.id]
        answers = self.session.each(lambda item: kinds[item[0].kind].left_by(item[1], owner), existed)
        pairs = zip(existed, answers, strict=True)
        left = [(node, actual, item) for (node, actual), items in pairs for item in items]
        left += [
            (node, actual, Left(node.id, proposal.kept[node.address]))
            for node, actual in existed
            if node.address in proposal.kept
        ]
        dates = {
            key_id(word): item.deletion_date
            for node, actual, item in left
            if node.kind == "kms_key" and item.deletion_date
            for word in actual.words
        }
        return [
            {
                "address": node.address,
                **vars(item),
                "readable_until": min(filter(None, (item.deletion_date, dates.get(_key_of(actual)))), default=""),
            }
            for node, actual, item in left
        ]


def _key_of(actual: Actual) -> str:
    return key_id(str(actual.properties.get("kms_key_id") or ""))


def _undescribed_notice(proposal: Proposal) -> Iterator[str]:
    """Yield a notice with the number and addresses of undescribed resources, and the way to delete them."""
    addresses = sorted({address.partition("#")[0] for address in proposal.undescribed})
    if addresses:
        count = len(proposal.undescribed)
        what = "1 resource is" if count == 1 else f"{count} resources are"
        remedy = "set prune (in an inventory lakehouse_aws_prune) to delete them"
        yield f"{what} not described any more: {', '.join(addresses)}; {remedy}"


def _check_task(description: StackDescription) -> None:
    """Raise DescriptionError for errors of stack-wide options."""
    words = {"name": description.name, "environment": description.environment}
    # A slash joins them in a tag, and they are parts of names.
    remedy = "use up to 64 letters, digits, ., - and _, a letter or digit first"
    faults = [
        Fault("", word, f"{said!r} is not valid", remedy) for word, said in words.items() if not _WORD.fullmatch(said)
    ]
    for option in ("unprotect", "delete_contents"):
        for item in getattr(description, option):
            kind = item.partition(".")[0]
            if kind not in KINDS:
                faults.append(Fault("", option, f"{item!r}: there is no kind {kind!r}", suggestion(kind, KINDS)))
    fault = stack_tags_fault(description.tags)
    faults += [Fault("", "tags", fault.message, fault.remedy)] if fault else []
    if faults:
        raise DescriptionError(faults)


def parse(described: Iterable[Mapping[str, Any]]) -> list[Resource]:
    """Return the resources of the task's description. Raises DescriptionError with all errors."""
    faults: list[Fault] = []
    resources: list[Resource] = []
    for index, item in enumerate(described):
        kind, name = str(item.get("kind") or ""), str(item.get("name") or "")
        address = f"{kind}.{name}" if kind and name else f"resources[{index}]"
        unknown = sorted(set(item) - set(_RESOURCE_WORDS))
        faults += [Fault(address, word, "unsupported key", suggestion(word, _RESOURCE_WORDS)) for word in unknown]
        faults += [Fault(address, word, "is required and not given") for word in ("kind", "name") if not item.get(word)]
        if kind and kind not in KINDS:
            faults.append(Fault(address, "", f"there is no kind {kind!r}", suggestion(kind, KINDS)))
        properties = item.get("properties") or {}
        if not isinstance(properties, Mapping):
            faults.append(Fault(address, "properties", "is not a map"))
            properties = {}
        needs = tuple(map(str, item.get("depends_on") or ()))
        resources.append(Resource(kind, name, properties, needs, item.get("adopt"), item.get("protect")))
    if faults:
        raise DescriptionError(faults)
    return resources


def tagged(resources: Iterable[Resource], description: StackDescription) -> list[Resource]:
    """Return the resources with the tags of the stack, where the description does not set them."""
    return [_tagged(resource, kind_class(resource.kind), description) for resource in resources]


def _tagged(resource: Resource, kind: type[AwsKind], description: StackDescription) -> Resource:
    properties = kind.with_tags(resource.properties, description.tags)
    tags = properties.get("tags") or {}
    if "tags" not in kind.schema.properties or not isinstance(tags, Mapping):
        return replace(resource, properties=properties)
    common = {"Environment": description.environment, "Project": description.name}
    if kind.name_tag:
        common["Name"] = f"{description.name}-{description.environment}-{resource.name}"
    return replace(resource, properties={**properties, "tags": {**common, **tags}})


def bounded(resources: Iterable[Resource], boundary: str) -> list[Resource]:
    """Return the resources with a permissions boundary on every identity whose description does not set one."""
    return [
        replace(item, properties={_BOUNDARY: boundary, **item.properties})
        if boundary and _BOUNDARY in kind_class(item.kind).schema.properties
        else item
        for item in resources
    ]
