# SPDX-License-Identifier: Apache-2.0

"""Which buses are read, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from oslo_config import cfg

from profiler_bridge import config, exceptions
from profiler_bridge.bus.transport import get_buses, get_transport

SECRET = "QaXbZcKdJeqfxgzh"


def configuration(
    folder: Path, urls: Sequence[str], more: str = ""
) -> cfg.ConfigOpts:
    path = folder / "bridge.conf"
    path.write_text(
        "[bridge]\n"
        + "".join(f"transport_url = {url}\n" for url in urls)
        + more
    )
    return config.prepare([f"--config-file={path}"], *config.modules())


def names(folder: Path, *urls: str, more: str = "") -> list[str]:
    return [str(bus) for bus in get_buses(configuration(folder, urls, more))]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("rabbit://", "rabbit://localhost:5672/"),
        ("rabbit://u:p@h", "rabbit://h:5672/"),
        ("rabbit://u:p@h:1/%2F?ssl=true", "rabbit://h:1/"),
        ("rabbit://u:p@h:1/a%2Fb%20c", "rabbit://h:1/a%2Fb%20c"),
        ("rabbit://u:p@[::1]:2/v", "rabbit://[::1]:2/v"),
        ("rabbit://u:p@b:1,u:p@a:2/", "rabbit://a:2,b:1/"),
        ("kafka://a:9092/", "kafka://a:9092/"),
        ("kafka://u:p@", "kafka:///"),
        ("kombu+memory://u:p@/v", "kombu+memory:///v"),
        ("kombu+memory://u:p@:1,u:p@h:2/", "kombu+memory://:1,h:2/"),
        ("rabbit://u:p@:1/", "rabbit://localhost:1/"),
        ("fake://", "fake:///"),
    ],
)
def test_a_bus_is_called_by_its_place_alone(
    url: str, name: str, tmp_path: Path
) -> None:
    assert names(tmp_path, url) == [name]


def test_where_the_bridge_has_none_it_reads_the_one_of_oslo_messaging(
    tmp_path: Path,
) -> None:
    default = "[DEFAULT]\ntransport_url = rabbit://default/\n"
    notifications = (
        "[oslo_messaging_notifications]\ntransport_url = rabbit://other/\n"
    )
    assert names(tmp_path, more=default) == ["rabbit://default:5672/"]
    both = default + notifications
    assert names(tmp_path, more=both) == ["rabbit://other:5672/"]
    assert names(tmp_path, "rabbit://one", "rabbit://two", more=both) == [
        "rabbit://one:5672/",
        "rabbit://two:5672/",
    ]


def test_the_same_bus_twice_is_refused(tmp_path: Path) -> None:
    urls = [
        f"rabbit://a:{SECRET}@h/",
        "rabbit://other/",
        "rabbit://b:p@h:5672/%2F?ssl=true",
    ]
    with pytest.raises(exceptions.ConfigurationError) as caught:
        names(tmp_path, *urls)
    assert str(caught.value) == (
        "rabbit://h:5672/ is given more than once as transport_url in [bridge]"
    )


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"rabbit://u:/{SECRET}@h/", "write %2F for /"),
        (f"nonsense://u:{SECRET}@h/", "no driver for nonsense://"),
        (f"rabbit://u:{SECRET}@h/?heartbeat_rate={SECRET}", "behind its ?"),
    ],
)
def test_the_one_of_several_that_is_wrong_is_named_and_not_shown(
    url: str, problem: str, tmp_path: Path
) -> None:
    conf = configuration(tmp_path, ["rabbit://other", url])
    with pytest.raises(exceptions.ConfigurationError) as caught:
        get_transport(conf, get_buses(conf)[1])
    text = str(caught.value)
    assert text.startswith("transport_url 2 of 2 in [bridge] cannot be used: ")
    assert problem in text
    assert SECRET not in text


def test_passwords_are_in_no_representation(tmp_path: Path) -> None:
    [bus] = get_buses(configuration(tmp_path, [f"rabbit://u:{SECRET}@h/"]))
    assert SECRET in bus.url
    assert SECRET not in f"{bus} {bus!r}"


def test_options_after_the_url_are_for_its_bus_only(tmp_path: Path) -> None:
    conf = configuration(
        tmp_path, ["rabbit://one/", "rabbit://two/?amqp_durable_queues=true"]
    )
    durable = []
    for bus in get_buses(conf):
        transport = get_transport(conf, bus)
        options = transport.conf.oslo_messaging_rabbit
        durable.append(options.amqp_durable_queues)
        transport.cleanup()
    assert durable == [False, True]


def test_one_management_url_is_not_for_several_buses(tmp_path: Path) -> None:
    management = "management_url = http://h:15672\n"
    config.verify(configuration(tmp_path, ["rabbit://one"], management))
    with pytest.raises(exceptions.ConfigurationError, match="for one bus"):
        config.verify(
            configuration(tmp_path, ["rabbit://one", "rabbit://h"], management)
        )
