"""What can be set about the control plane, read from the environment when the process starts.

Every field is `PYAIRTABLE_OPERATOR_` and its name in upper case. A value that does not fit stops the start.
"""

import pathlib
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one control plane process."""

    prefix: ClassVar[str] = "PYAIRTABLE_OPERATOR_"

    provider: Literal["file", "kubernetes"] = "file"
    """Where the mesh is read: in files, or at a cluster's API server (the extra ``kubernetes``)."""
    mesh_file: pathlib.Path = pathlib.Path("mesh.yaml")
    """The document that describes the mesh, or a folder whose ``*.yaml`` files together do; their form is in
    `pyairtable_operator.providers.document`."""
    namespace_selector: Annotated[str, Meta(pattern=r"^[^=]+=[^=]*$")] = "mesh.pyairtable.io/enabled=true"
    """In a cluster: the label, ``key=value``, of namespaces whose Services take part."""
    home_namespace: str = ""
    """In a cluster: a namespace that takes part without the label; none when empty."""
    trust_domain: str = "pyairtable.local"
    """In a cluster: SPIFFE trust domain of the identities behind endpoints, and audience of callers' tokens."""
    cluster_domain: str = "cluster.local"
    """In a cluster: the last part of canonical names."""
    lease_namespace: str = "default"
    """In a cluster: namespace of the Lease that decides which replica writes."""
    lease_name: str = "pyairtable-operator"
    """In a cluster: name of that Lease."""
    identity: str = ""
    """In a cluster: name of this replica, unlike every other's; the host's name, which is the pod's, when empty."""
    host: str = "127.0.0.1"
    """Address that the port is bound on. On the loopback, the default, clients are believed without proof; on others a
    cluster's API server is asked about them. With files nobody can be asked."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 18_000
    """Port of ADS, status and health; 0 takes a free one."""
    metrics_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """Port of the Prometheus endpoint ``/metrics``; without it there is none."""
    max_streams: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    """ADS streams at once; a client has one for each target that it calls."""
    max_names: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    """Resource names of one type that one stream may ask for."""
    max_message_bytes: Annotated[int, Meta(ge=4 << 10, le=64 << 20)] = 256 << 10
    """Largest request that is received."""
    keepalive_seconds: Annotated[float, Meta(ge=1, le=3_600)] = 30.0
    """How often a silent client is asked whether it is there; it has a third of that to answer."""
    drain_seconds: Annotated[float, Meta(ge=0, le=600)] = 2.0
    """How long status calls may take to finish at shutdown; ADS streams are ended at once."""
    reflection: bool = True
    """Serve gRPC reflection, v1 and v1alpha."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is written."""
