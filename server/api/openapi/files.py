"""What OpenAPI says of files."""

from typing import Any

from saccade.server.files.store import PURPOSES

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
UPLOAD: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "purpose": {"enum": list(PURPOSES)},
                    "expires_after[anchor]": {"const": "created_at"},
                    "expires_after[seconds]": {"type": "integer", "minimum": 1},
                },
            }
        }
    },
}
FILE: dict[str, Any] = {
    "type": "object",
    "required": ["id", "object", "bytes", "created_at", "expires_at", "filename", "purpose"],
    "properties": {
        "id": _TEXT,
        "object": {"const": "file"},
        "bytes": _COUNT,
        "created_at": _COUNT,
        "expires_at": {"type": ["integer", "null"]},
        "filename": _TEXT,
        "purpose": {"enum": list(PURPOSES)},
        "status": {"const": "processed"},
    },
}
LIST: dict[str, Any] = {
    "type": "object",
    "required": ["object", "data", "has_more", "first_id", "last_id"],
    "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/File"}},
        "has_more": {"type": "boolean"},
        "first_id": {"type": ["string", "null"]},
        "last_id": {"type": ["string", "null"]},
    },
}
DELETED: dict[str, Any] = {
    "type": "object",
    "required": ["id", "object", "deleted"],
    "properties": {"id": _TEXT, "object": {"const": "file"}, "deleted": {"const": True}},
}
