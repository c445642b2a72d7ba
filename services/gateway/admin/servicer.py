"""AdminService over gRPC: translates messages and calls the service."""

from dataclasses import asdict
from typing import Any

from memetwin.gateway.v1 import admin_pb2, admin_pb2_grpc
from services.gateway.admin.service import AdminService


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """AdminService."""

    def __init__(self, admin: AdminService) -> None:
        self._admin = admin

    async def DeleteTenantData(
        self, request: admin_pb2.DeleteTenantDataRequest, context: Any
    ) -> admin_pb2.DeleteTenantDataResponse:
        """Delete a tenant's data."""
        user = request.user if request.HasField("user") else None
        deleted = await self._admin.delete_data(request.tenant, user, force=request.force)
        return admin_pb2.DeleteTenantDataResponse(**asdict(deleted))
