"""The two ends of a socket, and the service that usually listens at the far one.

In: lines of /proc/net/{tcp,tcp6,udp,udp6}. Out: `Endpoint`. Rule: the service is told by its usual port (or the socket
file's usual name): a hint for the reader, never ground for a decision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

Protocol = Literal["tcp", "udp", "unix"]
State = Literal["established", "connecting", "listening", "half-closed", "other"]

# include/net/tcp_states.h; CLOSE_WAIT means that the far end has said goodbye.
_TCP_STATES: Final[Mapping[str, State]] = {
    "01": "established", "02": "connecting", "08": "half-closed", "0A": "listening",
}  # fmt: skip

SERVICES: Final[Mapping[int, str]] = {
    22: "SSH", 25: "SMTP", 53: "DNS", 80: "HTTP", 88: "Kerberos", 389: "LDAP", 443: "HTTPS", 465: "SMTP", 587: "SMTP",
    636: "LDAPS", 1433: "SQL Server", 1521: "Oracle", 1883: "MQTT", 2049: "NFS", 2181: "ZooKeeper", 2379: "etcd",
    3306: "MySQL", 4222: "NATS", 4317: "OTLP", 4318: "OTLP", 5432: "PostgreSQL", 5671: "AMQP", 5672: "AMQP",
    6379: "Redis", 6380: "Redis", 6432: "PgBouncer", 6443: "Kubernetes API", 8086: "InfluxDB", 8123: "ClickHouse",
    8125: "StatsD", 8200: "Vault", 8500: "Consul", 9042: "Cassandra", 9092: "Kafka", 9093: "Kafka",
    9200: "Elasticsearch", 11211: "memcached", 26257: "CockroachDB", 26379: "Redis Sentinel", 27017: "MongoDB",
    33060: "MySQL", 50051: "gRPC",
}  # fmt: skip
_SOCKET_FILES: Final = (
    (".s.PGSQL", "PostgreSQL"), ("mysql", "MySQL"), ("maria", "MySQL"), ("redis", "Redis"), ("memcached", "memcached"),
    ("mongodb", "MongoDB"), ("nscd", "name service cache"), ("docker", "Docker"), ("statsd", "StatsD"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One socket.

    Attributes:
        protocol: of it.
        state: of the connection; datagram sockets are `established` once they have a peer.
        local: address of this end, for example `10.0.0.7:8000`, `[::1]:8000`; empty for unnamed unix sockets.
        remote: address of the far end; None if there is none, or it could not be told.
        local_port: None for unix sockets.
        remote_port: None likewise, and without a far end.
    """

    protocol: Protocol
    state: State
    local: str
    remote: str | None
    local_port: int | None = None
    remote_port: int | None = None

    @property
    def service(self) -> str | None:
        """What usually listens at the far end; None where its port or file name says nothing."""
        if self.protocol == "unix":
            return next((name for part, name in _SOCKET_FILES if part in (self.remote or "")), None)
        return SERVICES.get(self.remote_port or 0)

    @property
    def peer(self) -> str | None:
        """The far end as a person reads it, for example `10.0.0.5:5432 (PostgreSQL)`."""
        return f"{self.remote} ({self.service})" if self.remote and self.service else self.remote


def parse_inet(line: str, protocol: Protocol) -> tuple[int, Endpoint] | None:
    """One line of /proc/net/{tcp,udp}[6] as (inode, endpoint); None for the header and for what is none.

    >>> row = "1: 0100007F:1F40 0500000A:1538 01 00000000:00000000 00:00000000 00000000 0 0 4711 1"
    >>> parse_inet(row, "tcp")[1].peer
    '10.0.0.5:5432 (PostgreSQL)'
    """
    fields = line.split()
    try:
        (local, local_port), (remote, remote_port) = _address(fields[1]), _address(fields[2])
        inode = int(fields[9])
    except (IndexError, ValueError):
        return None
    connected = remote_port != 0
    state = _TCP_STATES.get(fields[3], "other") if protocol == "tcp" else ("established" if connected else "other")
    return inode, Endpoint(
        protocol=protocol,
        state=state,
        local=local,
        remote=remote if connected else None,
        local_port=local_port,
        remote_port=remote_port if connected else None,
    )


def _address(text: str) -> tuple[str, int]:
    """`0100007F:1F40` as (`127.0.0.1:8000`, 8000); the kernel prints 32-bit words in the machine's (little) order."""
    words, _, port_hex = text.partition(":")
    raw = b"".join(bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, len(words), 8))
    port = int(port_hex, 16)
    if len(raw) == 4:
        return f"{IPv4Address(raw)}:{port}", port
    if len(raw) != 16:
        raise ValueError(text)
    host = IPv6Address(raw)
    return (f"{host.ipv4_mapped}:{port}" if host.ipv4_mapped else f"[{host}]:{port}"), port
