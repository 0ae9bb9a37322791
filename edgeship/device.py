"""One machine of the user's: what an entry of `devices.toml` says."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from edgeship.toml_file import Record

Transport = Literal["local", "ssh", "adb", "virtual"]


class Device(Record):
    """One machine of the user's: what kind it is, how to reach it, and what of its own it has."""

    name: str
    target: str
    transport: Transport
    address: str | None = Field(
        None, description="ssh: a host or an alias of the ssh config, with user@ if need be; adb: the serial"
    )
    port: PositiveInt | None = None
    user: str | None = None
    identity: str | None = Field(None, description="private key file; else those of the ssh config and the agent")
    folder: str | None = Field(None, description="where edgeship keeps its things on the board")
    python: str | None = Field(None, description="the board's Python, as a command there; else python3")
    benchmark_model: str | None = Field(None, description="the binary for this board: a file on this machine")
    benchmark_model_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    cache_mib: PositiveInt = Field(2048, description="what models and runtimes kept on the board may take")
    governor: str | None = Field(None, description="set for each run and put back afterwards")
    cpus: tuple[int, ...] = Field((), description="the cores a run is held to")
    lease: str | None = Field(None, description="one board, one lease: the machine id unless this names another")
    tags: tuple[str, ...] = ()
