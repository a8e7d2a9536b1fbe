"""The Heat v1 REST API: routes (one table), router, one module per controller, views.

``build`` is what pipeline/deploy puts behind ``heat.api.openstack.v1:API``.
"""
