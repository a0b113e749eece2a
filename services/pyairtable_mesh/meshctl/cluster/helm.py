"""The ``helm`` program, version 3 or 4, through pyhelm3.

pyhelm3 is not needed by the other commands, and takes half a second to import: `releases.opened` imports this module
when it is called for.
"""

import asyncio
import pathlib
import re
import shutil
from collections.abc import Sequence
from typing import Any

import pyhelm3

from pyairtable_mesh.meshctl.cluster.place import Place
from pyairtable_mesh.meshctl.cluster.releases import SECONDS
from pyairtable_mesh.meshctl.problems import Problem

OLDEST = (3, 14)
"""The first with ``--reset-then-reuse-values``."""
END_SECONDS = 10.0
"""For Helm to note a release as failed when it is told to end."""
SOURCE = "https://helm.sh/docs/intro/install"
_TAKE_VALUES = frozenset({"upgrade", "template"})
_OPTIONS = {"uninstall": ("--cascade=foreground",)}
"""What pyhelm3 has no argument for. Without it pods are still there when Helm says that all is gone."""
_SERVER_SIDE = {"--dry-run": "--dry-run=server"}
"""Charts look into the cluster: rendered without one, ours would bring definitions that are another release's."""
_MAX_DETAILS = 12
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
_VALUE = re.compile(r"'[^'\n]*'(?= does not match)")
"""Helm 4 cites a value, which may be a password, when it breaks a pattern of the schema."""


class Helm(pyhelm3.Command):
    """pyhelm3's command, with its programs started without a shell and within a time.

    `values` are options such as ``--set k=v`` that Helm itself reads, so that they mean what they mean to Helm.
    """

    def __init__(self, place: Place, program: str, values: Sequence[str], seconds: float) -> None:
        super().__init__(executable=program, default_timeout=f"{seconds:.0f}s", kubecontext=place.context or None)
        self._program = program
        self._place = place
        self._values = tuple(values)
        self._seconds = seconds

    async def run(self, command: Sequence[Any], input: bytes | None = None) -> bytes:  # noqa: A002 - pyhelm3's name
        """Run Helm, as `pyhelm3.Command.run` does. Raises `pyhelm3.Error` or `Problem`."""
        words = [_SERVER_SIDE.get(str(word), str(word)) for word in command]
        words += self._values if words[0] in _TAKE_VALUES else _OPTIONS.get(words[0], ())
        words += ("--kube-context", self._place.context) if self._place.context else ()
        process = await asyncio.create_subprocess_exec(
            self._program,
            *words,
            stdin=asyncio.subprocess.DEVNULL if input is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(self._seconds + SECONDS):
                told, complaint = await process.communicate(input)
        except TimeoutError:
            raise Problem(
                f"helm {words[0]} does not end.", "look whether the cluster answers: kubectl version"
            ) from None
        finally:
            await _ended(process)
        if process.returncode:
            raise _error_class(complaint)(process.returncode, told, complaint)
        return told

    def with_values(self, values: Sequence[str]) -> "Helm":
        """The same with these options for values."""
        return Helm(self._place, self._program, values, self._seconds)

    async def release(self) -> dict[str, Any] | None:
        """What Helm knows of the release as it is now; None when there is none."""
        try:
            found: Any = await self.status(self._place.release, namespace=self._place.namespace)
        except pyhelm3.ReleaseNotFoundError:
            return None
        except pyhelm3.Error as error:
            raise failure("helm status", error) from None
        return dict(found)

    async def history_of_release(self) -> list[dict[str, Any]]:
        """Its revisions, the oldest first."""
        try:
            return list(await self.history(self._place.release, namespace=self._place.namespace))
        except pyhelm3.Error as error:
            raise failure("helm history", error) from None

    async def chart_of_release(self) -> dict[str, Any]:
        """What Chart.yaml of the release says."""
        try:
            found: Any = await self.get_chart_metadata(self._place.release, namespace=self._place.namespace)
        except pyhelm3.Error as error:
            raise failure("helm get", error) from None
        return dict(found)

    async def change(self, chart: str, version: str, **options: Any) -> dict[str, Any]:
        """Install or upgrade; the release as Helm tells it. Raises `Problem` with Helm's words."""
        place = self._place
        try:
            made: Any = await self.install_or_upgrade(
                place.release, chart, namespace=place.namespace, version=version or None, **options
            )
        except pyhelm3.Error as error:
            raise failure("helm upgrade --install", error) from None
        return dict(made)

    async def chart(self, chart: str, version: str) -> dict[str, Any]:
        """What Chart.yaml says."""
        try:
            return await self.show_chart(chart, version=version or None)
        except pyhelm3.Error as error:
            step = "name one that is there: --chart FOLDER, FILE.tgz or oci://REFERENCE"
            raise Problem(f"No chart can be read at {chart}.", step, details=_lines(error)) from None

    async def fetched(self, chart: str, version: str) -> pathlib.Path:
        """A folder of ours with a chart of a registry in it; the caller removes it."""
        try:
            return await self.pull(chart, version=version or None)
        except pyhelm3.Error as error:
            step = "name one that is there: --chart FOLDER or oci://REFERENCE"
            raise Problem(f"No chart can be fetched from {chart}.", step, details=_lines(error)) from None

    async def remove(self) -> None:
        """Uninstall, and wait until its objects are gone."""
        try:
            await self.uninstall(self._place.release, namespace=self._place.namespace, wait=True)
        except pyhelm3.Error as error:
            raise failure("helm uninstall", error) from None


def find(place: Place, seconds: float) -> Helm:
    """The Helm of PATH. Raises `Problem` when there is none, or one that is too old."""
    program = shutil.which("helm")
    if program is None:
        raise Problem("helm is not on PATH.", f"install Helm 3 or 4: {SOURCE}")
    return Helm(place, program, (), seconds)


async def version_of(helm: Helm) -> str:
    """Helm's version. Raises `Problem` when it tells none, or is too old."""
    try:
        said = (await helm.version()).strip()
    except pyhelm3.Error:
        said = ""
    found = _VERSION.match(said)  # one that was built without its release's flags has two numbers only
    if found is None:
        raise Problem("helm does not tell its version.", f"install Helm 3 or 4: {SOURCE}")
    if (int(found[1]), int(found[2])) < OLDEST:
        raise Problem(f"Helm {said} is too old.", f"install {'.'.join(map(str, OLDEST))} or newer: {SOURCE}")
    return said


def failure(what: str, error: pyhelm3.Error) -> Problem:
    """The error in Helm's words; values that were given are not among them."""
    return Problem(f"{what} fails.", "correct what it names, and try again", details=_lines(error))


def _error_class(complaint: bytes) -> type[pyhelm3.Error]:
    """Which of pyhelm3's errors Helm's words stand for, as far as it matters here."""
    return pyhelm3.ReleaseNotFoundError if b"release: not found" in complaint.lower() else pyhelm3.Error


def _lines(error: pyhelm3.Error) -> list[str]:
    words = _VALUE.sub("what is given", error.stderr.decode(errors="replace"))
    lines = [line for line in words.splitlines() if line.strip()]
    begun = next((at for at, line in enumerate(lines) if line.startswith("Error:")), 0)  # before it are warnings
    return lines[begun:][-_MAX_DETAILS:]


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End a Helm that still runs, with time to write that it was interrupted."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
