"""`python -m pyairtable_operator`: the control plane as a process."""

import os
import sys

import uvloop

from pyairtable_mesh.runtime import log
from pyairtable_mesh.runtime.settings import SettingsError, load
from pyairtable_operator import polling
from pyairtable_operator.settings import Settings


def main() -> int:
    """Run, and return the exit status: 2 for wrong settings, 1 when it can't start; words go to standard error."""
    try:
        settings = load(Settings, os.environ, Settings.prefix)
    except SettingsError as error:
        sys.stderr.writelines(f"{problem}\n" for problem in error.problems)
        return 2
    polling.choose(os.environ)
    from pyairtable_operator import app  # noqa: PLC0415 - gRPC comes with it

    log.configure("operator", form=settings.log_format, level=settings.log_level)
    try:
        uvloop.run(app.run(settings))
    except app.StartError as error:
        sys.stderr.write(f"the control plane can't start: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
