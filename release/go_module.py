"""The generated Go module as the module proxy protocol serves it (go.dev/ref/mod#goproxy-protocol).

A folder of this form is what GOPROXY=file://… reads; whoever takes the module from the repository needs its tag alone.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

MODULE = "github.com/pyairtable/pyairtable-protos/generated/go"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write(source: Path, version: str, output: Path, license_file: Path) -> Path:
    """Write list, .info, .mod and .zip of the module in `source` under `output`; gives the zip. The same input gives
    the same bytes.
    """
    folder = output / MODULE / "@v"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "list").write_text(f"v{version}\n")
    (folder / f"v{version}.info").write_text(json.dumps({"Version": f"v{version}"}) + "\n")
    (folder / f"v{version}.mod").write_bytes((source / "go.mod").read_bytes())
    made = folder / f"v{version}.zip"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in [*_files(source), ("LICENSE", license_file)]:
            entry = zipfile.ZipInfo(f"{MODULE}@v{version}/{name}", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    return made


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    wanted = (path for path in source.rglob("*") if path.suffix == ".go" or path.name in {"go.mod", "go.sum"})
    yield from sorted((path.relative_to(source).as_posix(), path) for path in wanted)
