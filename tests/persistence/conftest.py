"""Files as an attacker writes them: any content under a right checksum."""

import json

import pytest

from skcausalmeta.persistence._container import _DIGEST, file_digest


class Forge:
    """Takes files apart and puts them together with the checksum that they need."""

    @staticmethod
    def parts(path):
        """Description, table of tensors and numbers of a file."""
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        description = json.loads(header.pop("__metadata__")["skcausalmeta"])
        return description, header, content[8 + length :]

    @staticmethod
    def write(path, description, table=(), data=b"", odd=""):
        """A file of these parts, in which `odd` takes the place of the text "@"."""
        facts = {"sha256": "", **description}
        facts["sha256"] = "0" * 64
        text = json.dumps(facts, separators=(",", ":")).replace('"@"', odd)
        header = {"__metadata__": {"skcausalmeta": text}, **dict(table)}
        raw = json.dumps(header, separators=(",", ":")).replace('"@"', odd).encode()
        raw += b" " * (-len(raw) % 8)
        path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
        with path.open("rb") as file:
            digest = file_digest(file).encode()
        content = path.read_bytes()
        path.write_bytes(content[: _DIGEST.start] + digest + content[_DIGEST.stop :])
        return path

    @classmethod
    def change(cls, path, change):
        """The same file, with the nodes of its description changed in place."""
        description, *rest = cls.parts(path)
        change(description["nodes"])
        return cls.write(path, description, *rest)

    @staticmethod
    def node(nodes, **facts):
        """The first node with these entries."""
        return next(n for n in nodes if facts.items() <= n.items())

    @staticmethod
    def head(*nodes, **changes):
        """Description of a head, with a first node that it refers to."""
        state = {"ridge_reg": 1.0, "coef_": {"ref": 1}}
        root = {"kind": "object", "class": "heads.RidgeHead", "state": state}
        facts = {"format": 1, "versions": {"torch": "0"}, "custom": []}
        return {**facts, "root": {"ref": 0}, "nodes": [root, *nodes], **changes}


@pytest.fixture(scope="session")
def forge():
    return Forge()
