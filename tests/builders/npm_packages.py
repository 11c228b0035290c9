"""Small npm packages, as `npm pack` writes them."""

import io
import json
import tarfile

from emoji_packages import package_path


def write_package(folder, package, files):
    with tarfile.open(package_path(folder, package), "w:gz") as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
