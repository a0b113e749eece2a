"""The xDS bootstrap (gRFC A27): how gRPC's own client finds the control plane. No sidecar, no agent, no file."""

import json
import os
from collections.abc import MutableMapping

BOOTSTRAP = "GRPC_XDS_BOOTSTRAP_CONFIG"


def configure(
    environment: MutableMapping[str, str], *, control_plane: str, service: str, namespace: str, instance: str
) -> None:
    """Put the bootstrap into the environment, before the first channel is made; one that is there already is kept.

    The node id is ``<namespace>/<service>/<instance>``: short names are looked up in that namespace.
    """
    if not control_plane or BOOTSTRAP in environment or "GRPC_XDS_BOOTSTRAP" in environment:
        return
    environment[BOOTSTRAP] = json.dumps(
        {
            "xds_servers": [
                {
                    "server_uri": control_plane,
                    "channel_creds": [{"type": "insecure"}],
                    "server_features": ["xds_v3"],
                }
            ],
            "node": {
                "id": f"{namespace}/{service}/{instance}",
                "cluster": service,
                "metadata": {"namespace": namespace, "service": service},
            },
        }
    )


def instance_name() -> str:
    """Tells the processes of a service apart: the pod's name, else host and process id."""
    return os.environ.get("PYAIRTABLE_INSTANCE") or f"{os.uname().nodename}-{os.getpid()}"
