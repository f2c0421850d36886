"""What a .deb on the controller says of itself, with no need for dpkg there."""

import io
import tarfile

from ansible.errors import AnsibleFilterError

MAGIC = b"!<arch>\n"


def members(file):
    """(name, content) of an ar archive as deb(5) describes it, those behind the data left out."""
    if file.read(len(MAGIC)) != MAGIC:
        raise AnsibleFilterError(f"{file.name} is no Debian package")
    while header := file.read(60):
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            return
        yield name, file.read(size)
        file.read(size % 2)


def package_version(path):
    """Its version; nothing if it is packed in a way that Python does not know, as by zstd."""
    with open(path, "rb") as file:
        for name, content in members(file):
            if not name.startswith("control.tar"):
                continue
            try:
                with tarfile.open(fileobj=io.BytesIO(content)) as control:
                    text = control.extractfile("./control").read().decode()
            except tarfile.ReadError:
                return ""
            return next(line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("Version: "))
    raise AnsibleFilterError(f"{path} has no control file")


class FilterModule:
    def filters(self):
        return {"portway_package_version": package_version}
