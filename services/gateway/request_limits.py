"""The largest request message of each rpc."""

# A message with many empty elements is expensive to parse, so each service accepts only as much as
# its largest useful request needs. See ``ServiceSpec.max_request_bytes``.
MAX_REQUEST_BYTES = {
    "Admin": {"": 2**20},
    "Cache": {
        "": 2**20,
        "LookupEntry": 4 * 2**20,
        "CreateEntry": 8 * 2**20,
        "Calibrate": 4 * 2**20,
    },
    "Chat": {"": 4 * 2**20},
    "Rag": {"": 2**20, "CalibrateRefusals": 4 * 2**20, "IngestDocuments": 8 * 2**20},
    "Search": {
        "": 2**20,
        "Search": 8 * 2**20,
        "UpsertDocuments": 8 * 2**20,
        "UpsertStream": 8 * 2**20,
        "UpdateFields": 8 * 2**20,
        "ImportCollection": 8 * 2**20,
    },
    # The gateway forwards these messages without parsing them.
    "Embedder": {"": 24 * 2**20},
    "Twin": {"": 2**20, "FindTwin": 24 * 2**20, "AddTwin": 24 * 2**20},
}
