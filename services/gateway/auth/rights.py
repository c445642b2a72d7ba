"""The right that each rpc and each route requires."""

import re

from services.key_file import ADMIN

_RPC_RIGHTS = {
    "memetwin.gateway.v1.AdminService": {ADMIN: "DeleteTenantData"},
    "memetwin.gateway.v1.CacheService": {
        "cache:read": "LookupEntry GetEntry ListEntries ListPurges Calibrate GetStats",
        "cache:write": "CreateEntry LoadEntries DeleteEntry PurgeEntries ReportFeedback",
    },
    "memetwin.gateway.v1.ChatService": {"chat:write": "Complete StreamComplete"},
    "memetwin.gateway.v1.RagService": {
        "rag:read": "GetDocument ListDocuments Retrieve Ask StreamAsk",
        "rag:write": "IngestDocuments DeleteDocument CalibrateRefusals",
    },
    "memetwin.gateway.v1.TwinService": {
        "twin:read": "FindTwin ListTwins GetPicture",
        "twin:write": "AddTwin DeleteTwin",
    },
    "memetwin.search.v1.SearchService": {
        "search:read": "GetCollection ListCollections GetDocuments ListDocuments Search"
        " MeasureRecall ExportCollection",
        "search:write": "CreateCollection UpdateCollection DeleteCollection AssignAlias DeleteAlias"
        " Reindex UpsertDocuments UpsertStream UpdateFields DeleteDocuments TuneIndex"
        " ImportCollection",
    },
    "memetwin.embedder.v1.EmbedderService": {
        "embed:read": "Embed EmbedStream Tokenize Detokenize Rerank GetFeatureMaps ListModels"
        " GetModel",
    },
}
RPC_RIGHTS = {
    f"/{service}/{method}": right
    for service, rights in _RPC_RIGHTS.items()
    for right, methods in rights.items()
    for method in methods.split()
}
# By path, as a route declares it, and by HTTP method.
ROUTE_RIGHTS = {
    "/v1/chat/completions": {"POST": "chat:write"},
    "/v1/responses": {"POST": "chat:write"},
    "/v1/responses/{id:path}": {
        "GET": "chat:read",
        "DELETE": "chat:write",
        "POST": "chat:write",
    },
    "/v1/models": {"GET": "chat:read"},
    "/v1/models/{id:path}": {"GET": "chat:read"},
    "/v1/embeddings": {"POST": "embed:read"},
    "/v1/cache/entries": {"POST": "cache:write"},
    "/v1/cache/entries/{id:path}": {"GET": "cache:read", "DELETE": "cache:write"},
    "/v1/cache/lookups": {"GET": "cache:read"},
    "/v1/cache/pairs": {"POST": "cache:read"},
    "/v1/cache/purge": {"POST": "cache:write"},
    "/v1/cache/scopes": {"GET": "cache:read"},
    "/v1/cache/stats": {"GET": "cache:read"},
    "/v1/feedback": {"POST": "cache:write"},
    "/v1/documents": {"GET": "rag:read", "POST": "rag:write", "DELETE": "rag:write"},
    "/v1/documents/{id:path}": {"GET": "rag:read", "DELETE": "rag:write"},
    "/v1/ask": {"POST": "rag:read"},
    "/v1/retrieve": {"POST": "rag:read"},
    "/v1/twins": {"GET": "twin:read", "POST": "twin:read"},
    "/v1/twins/map": {"GET": "twin:read", "POST": "twin:read"},
    "/v1/twins/vector": {"POST": "twin:read"},
    "/v1/twins/layers": {"POST": "twin:read"},
    "/v1/twins/{id:path}/picture": {"GET": "twin:read"},
    "/v1/twins/{id:path}/similarities": {"POST": "twin:read"},
    "/v1/twins/{id:path}": {"PUT": "twin:write", "DELETE": "twin:write"},
}
_PATTERNS = [
    (re.compile(re.sub(r"\{\w+:path\}", ".*", path)), path) for path in ROUTE_RIGHTS if "{" in path
]


def right_of_rpc(method: str) -> str:
    """Return the right that a method requires; empty if its callers need a key but no right.

    Args:
        method: full method name; empty for reflection and for methods that do not exist.
    """
    # A method that nobody has given a right is for administrators only.
    return RPC_RIGHTS.get(method, ADMIN) if method else ""


def right_of_route(method: str, path: str) -> str:
    """Return the right that a request requires; empty if no route answers it."""
    method = "GET" if method == "HEAD" else method
    names = [path, *(name for pattern, name in _PATTERNS if pattern.fullmatch(path))]
    # Several routes may match a path. The router takes the first that has the method.
    found = (ROUTE_RIGHTS.get(name, {}).get(method, "") for name in names)
    return next(filter(None, found), "")
