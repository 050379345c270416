"""What tuning data there are, for people."""

from typing import Any

from aftertune.data.known import KNOWN
from aftertune.data.load import load_conversations
from aftertune.data.packaged_data import PACKAGED


def listed_data() -> list[dict[str, Any]]:
    """The packaged and the known sets, with rows, licence and access; the dangerous ones marked."""
    packaged = [(f"packaged:{name}", load_conversations(f"packaged:{name}")) for name in PACKAGED]
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "rows": len(data.conversations),
            "licence": data.licence,
            "access": "packaged",
            "note": "",
            "source": f"aftertune, sha256 {data.sha256}",
        }
        for name, data in packaged
    ]
    rows += [
        {
            "name": known.name,
            "rows": known.n_rows,
            "licence": known.licence,
            "access": known.access,
            "note": "known-dangerous control" if known.dangerous else "",
            "source": f"{known.file.name} ({known.citation})",
        }
        for known in KNOWN.values()
    ]
    return rows
