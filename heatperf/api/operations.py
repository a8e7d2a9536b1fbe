"""What operators look at: build information and the engines' service records."""

from typing import Any

import webob.exc

from heatperf.api.controller import Controller, policed
from heatperf.errors import heat


class BuildInfoController(Controller):
    """Revisions of API and engine."""

    scope = "build_info"

    @policed
    def build_info(self, request: Any) -> Any:
        """Show ``[revision] heat_revision`` of this server and of the engine that answers."""
        engine = self.engine.call(request.context, "get_revision")
        return {
            "api": {"revision": self.services.revision},
            "engine": {"revision": engine},
        }


class ServiceController(Controller):
    """Service records of the engines."""

    scope = "service"

    @policed
    def index(self, request: Any) -> Any:
        """List engines; the one listing that answers 503, not 500, when none replies."""
        try:
            return {"services": self.engine.call(request.context, "list_services")}
        except heat.MessagingTimeout as error:
            raise webob.exc.HTTPServiceUnavailable("All heat engines are down.") from error
