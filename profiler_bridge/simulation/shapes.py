# SPDX-License-Identifier: Apache-2.0

"""The shapes of requests: which spans they have, how long, of what size.

They are drawn after traces of a real cloud: as many spans, in the same
services, of about the same sizes. What stands in them is made up. Each line
is a span, below the one that it is indented under::

    SERVICE WHAT [BYTES of its start] MILLISECONDS [@MILLISECONDS]

Spans follow each other within their parent, unless an ``@`` says when one
begins after the start of the trace. ``17 statements`` are as many spans, of
whose starts each has so many bytes on average and which take so long each;
``4x`` has a span come so often, with all that is below it.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

#: The project of all that is simulated.
PROJECT = "simulated"

KEYSTONE = """
keystone GET /v3/users 300
  keystone 98 statements 596B 0.9
"""

SERVER_CREATE = """
keystone GET /v3 10
keystone POST /v3/auth/tokens 1159
  keystone 49 statements 813B 3.9
glance GET /v2/images/cirros 1415
  glance 1 statements 2300B 2
  keystone GET /v3/auth/tokens 1392
    keystone 90 statements 750B 6.3
glance GET /v2/images 38
  glance 1 statements 4500B 4.3
nova-api GET /v2.1/flavors/tiny 1039
  nova-api 1 statements 2361B 3.1
  keystone GET /v3/auth/tokens 1011
    keystone 90 statements 750B 4.9
nova-api GET /v2.1/flavors/detail 64
  nova-api 1 statements 2351B 18
neutron GET /v2.0/networks/net1 1014
  neutron 1 statements 2983B 5
  keystone GET /v3/auth/tokens 976
    keystone 90 statements 750B 4.6
neutron GET /v2.0/networks 194
  neutron 17 statements 936B 6.4
nova-api POST /v2.1/servers 1669
  nova-api 1 statements 2393B 7
  nova-api nova.compute.api.API.create 1936B 1640
    nova-api 11 statements 1542B 8
    2x glance GET /v2/images/{id} 28
      glance 1 statements 1420B 5
    5x nova-api nova.network.neutron.ClientWrapper.proxy 553B 6
    4x neutron GET /v2.0/networks/{id} 250
      neutron 15 statements 960B 9
    neutron GET /v2.0/quotas/{id} 29
      neutron 1 statements 594B 8
    conductor nova.conductor.manager.ComputeTaskManager.schedule_and_build_instances 2537B 888
      conductor 17 statements 869B 4.9
      conductor nova.scheduler.rpcapi.SchedulerAPI.select_destinations 1227B 564
        scheduler nova.scheduler.manager.SchedulerManager.select_destinations 1320B 539
          placement GET /allocation_candidates 240
          placement GET /allocations/{id} 31
          placement PUT /allocations/{id} 218
      conductor nova.compute.rpcapi.ComputeAPI.build_and_run_instance 4239B 26
        compute nova.compute.manager.ComputeManager.build_and_run_instance 4162B 6700 @7706
          6x conductor nova.conductor.manager.ConductorManager.object_class_action_versions 1010B 30
            conductor 2 statements 1500B 6
          placement GET /allocations/{id} 985
            keystone GET /v3/auth/tokens 914
              keystone 84 statements 729B 4.6
          10x conductor nova.conductor.manager.ConductorManager.object_action 1650B 55
            conductor 4 statements 1980B 5
          7x placement GET /resource_providers/{id}/inventories 20
          8x compute nova.network.neutron.ClientWrapper.proxy 554B 3
          3x neutron GET /v2.0/networks/{id} 150
            neutron 17 statements 936B 5
          neutron POST /v2.0/ports 1163
            neutron 117 statements 963B 5.6
          neutron PUT /v2.0/ports/{id} 2299
            neutron 157 statements 1080B 7.2
            nova-api POST /v2.1/os-server-external-events 87
              nova-api 1 statements 1516B 2.5
              nova-api nova.compute.api.API.external_instance_event 2046B 26
                nova-api nova.compute.rpcapi.ComputeAPI.external_instance_event 2070B 13
                  compute nova.compute.manager.ComputeManager.external_instance_event 2088B 1945 @13234
                    conductor nova.conductor.manager.ConductorManager.object_action 759B 4
                      conductor 1 statements 1049B 1.2
                    8x compute nova.network.neutron.ClientWrapper.proxy 554B 3
                    3x neutron GET /v2.0/networks/{id} 210
                      neutron 17 statements 936B 7
                    3x neutron GET /v2.0/ports 100
                      neutron 6 statements 1500B 7
                    neutron GET /v2.0/floatingips 9
          2x neutron GET /v2.0/ports 75
            neutron 9 statements 1400B 4
          neutron GET /v2.0/floatingips 3
          compute nova.scheduler.rpcapi.SchedulerAPI.update_instance_info 596B 5
            scheduler nova.scheduler.manager.SchedulerManager.update_instance_info 636B 1
          5x conductor nova.conductor.manager.ConductorManager.object_action 830B 9
            conductor 2 statements 900B 2
nova-api GET /v2.1/servers/{id} 364
  nova-api 6 statements 1230B 10
  nova-api nova.compute.api.API.get_instance_host_status 2182B 9
  nova-api nova.network.neutron.ClientWrapper.proxy 553B 12
  neutron GET /v2.0/ports 60
    neutron 1 statements 6844B 6
3x nova-api GET /v2.1/servers/{id} 480 @12288
  nova-api 3 statements 787B 4
  nova-api nova.compute.api.API.get 657B 60
    nova-api 1 statements 1544B 8
  2x nova-api nova.network.neutron.ClientWrapper.proxy 558B 4
  neutron GET /v2.0/ports 140
    neutron 9 statements 1331B 7
  neutron GET /v2.0/security-groups 130
    neutron 8 statements 1399B 8
  nova-api nova.compute.api.API.get_instance_host_status 2234B 5
glance GET /v2/images/{id} 24 @18839
  glance 2 statements 1420B 2
"""  # noqa: E501 - a line is a span

_SERVICES = {
    "keystone": "keystone-public",
    "glance": "glance-api",
    "nova-api": "nova-osapi_compute",
    "conductor": "nova-conductor",
    "compute": "nova-compute",
    "scheduler": "nova-scheduler",
    "neutron": "neutron-server",
    "placement": "placement",
}
_LINE = re.compile(
    r"(?P<indent> *)(?:(?P<times>\d+)x )?(?P<service>[a-z-]+) (?P<what>.+?)"
    r"(?: (?P<bytes>\d+)B)? (?P<lasts>[\d.]+)(?: @(?P<at>\d+))?"
)
# Of a point's JSON, all but what the statement or the arguments add to it.
_POINT_BYTES = 350
# Two in five statements are a BEGIN or a COMMIT; of the rest some are long.
_LENGTHS = (1.0, 0.6, 0.0, 0.8, 0.0, 1.6, 0.9, 0.0, 1.3, 0.0)
_WORDS = re.findall(
    r"\w+",
    "id uuid name project_id user_id created_at updated_at deleted_at deleted"
    " extra status enabled description type resource_id host binding_profile"
    " vif_type vnic_type admin_state_up mac_address network_id subnet_id"
    " allocation_pools cidr ip_version gateway_ip enable_dhcp standard_attr_id"
    " revision_number availability_zone vm_state task_state power_state vcpus"
    " memory_mb root_gb ephemeral_gb launched_at terminated_at image_ref"
    " kernel_id ramdisk_id locked_by cell_name node progress domain_id"
    " default_project_id password_expires_at local_user_id issued_at",
)
# In place of which each request has ids of its own.
ID = "{id}"


@dataclass(frozen=True, slots=True)
class Span:
    """A span of a shape.

    :param parent: the number of the span that it is below; None of a root
    :param service: where it runs
    :param name: of its point, such as ``wsgi``
    :param started: microseconds after the start of the trace
    :param lasts: microseconds
    :param info: what its start tells; texts with :data:`ID` in them are to
        get an id
    """

    parent: int | None
    service: str
    name: str
    started: int
    lasts: int
    info: dict[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Shape:
    """What a request consists of.

    :param name: as a person would call the request
    :param spans: in the order of the text
    """

    name: str
    spans: tuple[Span, ...]

    @property
    def points(self) -> int:
        return 2 * len(self.spans)

    @property
    def lasts(self) -> int:
        """Microseconds from its first point to its last one."""
        return max(span.started + span.lasts for span in self.spans)

    @functools.cached_property
    def points_by_service(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for span in self.spans:
            counts[span.service] = counts.get(span.service, 0) + 2
        return counts


@dataclass
class _Line:
    service: str
    what: str
    size: int
    lasts: float
    at: float | None
    below: list[_Line] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many spans follow each other here."""
        match = re.fullmatch(r"(\d+) statements", self.what)
        return int(match[1]) if match else 1


def parse(name: str, text: str) -> Shape:
    """Read a shape.

    :param text: as the head of this module says
    :raises ValueError: a line of it is not so
    """
    top: list[_Line] = []
    # The lists that a line of each depth is added to: one for each copy of
    # the line above it.
    depths: list[list[list[_Line]]] = [[top]]
    for line in text.strip("\n").splitlines():
        match = _LINE.fullmatch(line)
        if not match:
            raise ValueError(f"{line!r} is no span")
        depth = len(match["indent"]) // 2
        depths = [*depths[: depth + 1], []]
        for siblings, _ in itertools.product(
            depths[depth], range(int(match["times"] or 1))
        ):
            own = _Line(
                match["service"],
                match["what"],
                int(match["bytes"] or 0),
                float(match["lasts"]),
                float(match["at"]) if match["at"] else None,
            )
            siblings.append(own)
            depths[-1].append(own.below)
    total = sum(own.lasts for own in top if own.at is None)
    spans: list[Span] = []
    _place(top, None, 0, total, spans)
    return Shape(name, tuple(spans))


def _place(
    lines: list[_Line],
    parent: int | None,
    started: float,
    lasts: float,
    spans: list[Span],
) -> None:
    """Place spans within their parent, with equal rests between them."""
    following = [line for line in lines if line.at is None]
    busy = sum(line.count * line.lasts for line in following)
    rests = sum(line.count for line in following) + 1
    rest = max(0.0, (lasts - busy) / rests)
    at = started + rest
    detached = 0.0
    for line in lines:
        # Those of one ``4x ... @`` follow each other too.
        begins = at if line.at is None else max(line.at, detached)
        for number in range(line.count):
            own = len(spans)
            spans.append(
                Span(
                    parent,
                    _SERVICES[line.service],
                    _point(line),
                    round(begins * 1000),
                    round(line.lasts * 1000),
                    _info(line, number),
                )
            )
            _place(line.below, own, begins, line.lasts, spans)
            begins += line.lasts + (rest if line.at is None else 0)
        if line.at is None:
            at = begins
        else:
            detached = begins


def _point(line: _Line) -> str:
    if line.what.startswith("nova.network.neutron"):
        return "neutron_api"
    if line.what.startswith("nova.compute.api"):
        return "compute_api"
    if line.what.startswith("nova."):
        return "rpc"
    if line.what.endswith("statements"):
        return "neutron.db" if line.service == "neutron" else "db"
    return "wsgi"


def _info(line: _Line, number: int) -> dict[str, Any]:
    match _point(line):
        case "wsgi":
            method, _, path = line.what.partition(" ")
            return {
                "request": {
                    "path": path,
                    "query": "",
                    "method": method,
                    "scheme": "http",
                }
            }
        case "db" | "neutron.db":
            return {"db": _statement(line, number)}
    arguments = ", ".join(
        f"'{word}': '{ID}'" if place % 9 == 0 else f"'{word}': {word}"
        for place, word in enumerate(_words(line.what, line.size - 400))
    )
    return {
        "function": {
            "name": line.what,
            "args": "(<object at 0x7f35d1c8a850>,)",
            "kwargs": f"{{{arguments}}}",
        }
    }


def _statement(line: _Line, number: int) -> dict[str, Any]:
    lengths = [_LENGTHS[place % len(_LENGTHS)] for place in range(line.count)]
    length = lengths[number]
    if not length:
        return {"statement": "BEGIN", "params": []}
    # What a BEGIN is shorter the others are longer.
    size = (line.size - _POINT_BYTES) * line.count * length / sum(lengths)
    table = _WORDS[number % len(_WORDS)].replace("_id", "") + "s"
    columns = [
        f"{table}.{word} AS {table}_{word}"
        for word in _words(table, round(size) - 150, 2 * len(table) + 6)
    ]
    params: dict[str, Any] = {"id_1": ID}
    if number % 20 == 3:
        params["until_1"] = WHEN
    return {
        "statement": f"SELECT {', '.join(columns) or '1'} \nFROM {table}"
        f" \nWHERE {table}.id = %(id_1)s AND {table}.deleted = 0",
        "params": params,
    }


#: In place of a moment, which the services' JSON marks with its type.
WHEN = "{when}"


def _words(seed: str, size: int, more: int = 10) -> Iterator[str]:
    """Words of so many characters, counting what is around each."""
    start = len(seed) * 7 % len(_WORDS)
    for place in itertools.count(start):
        word = _WORDS[place % len(_WORDS)]
        size -= 2 * len(word) + more
        if size < 0:
            return
        yield word


@functools.cache
def keystone() -> Shape:
    """A request to Keystone alone."""
    return parse("Keystone request", KEYSTONE)


@functools.cache
def server_create() -> Shape:
    """``openstack server create --wait``, to its end."""
    return parse("server create", SERVER_CREATE)
