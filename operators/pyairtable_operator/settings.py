"""What can be set about the control plane, read from the environment when the process starts.

Every field is `PYAIRTABLE_OPERATOR_` and its name in upper case. A value that does not fit stops the start.
"""

import pathlib
from collections.abc import Iterator
from typing import Literal

import pydantic
import pydantic_settings


class Settings(pydantic_settings.BaseSettings):
    """The settings of one control plane process."""

    model_config = pydantic_settings.SettingsConfigDict(
        env_prefix="PYAIRTABLE_OPERATOR_", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    mesh_file: pathlib.Path = pathlib.Path("mesh.yaml")
    """The document that describes the mesh; its form is in `pyairtable_operator.providers.document`."""
    host: str = "127.0.0.1"
    """Address that the port is bound on. Clients are believed without proof, so it is the loopback by default."""
    port: int = pydantic.Field(default=18_000, ge=0, le=65_535)
    """Port of ADS, status and health; 0 takes a free one."""
    max_streams: int = pydantic.Field(default=20_000, ge=1, le=1_000_000)
    """ADS streams at once; a client has one for each target that it calls."""
    max_names: int = pydantic.Field(default=1_000, ge=1, le=100_000)
    """Resource names of one type that one stream may ask for."""
    max_message_bytes: int = pydantic.Field(default=256 << 10, ge=4 << 10, le=64 << 20)
    """Largest request that is received."""
    keepalive_seconds: float = pydantic.Field(default=30.0, ge=1, le=3_600)
    """How often a silent client is asked whether it is there; it has a third of that to answer."""
    drain_seconds: float = pydantic.Field(default=2.0, ge=0, le=600)
    """How long status calls may take to finish at shutdown; ADS streams are ended at once."""
    reflection: bool = True
    """Serve gRPC reflection, v1 and v1alpha."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is written."""


def problems(error: pydantic.ValidationError) -> Iterator[str]:
    """Say which variables are wrong and why, without their values."""
    prefix = Settings.model_config.get("env_prefix", "")
    for found in error.errors(include_url=False, include_input=False):
        variable = prefix + "_".join(str(part) for part in found["loc"]).upper()
        yield f"{variable}: {found['msg']}"
