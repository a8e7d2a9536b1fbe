"""From api-paste.ini to a WSGI application: deploy.py loads it, one module per station of the pipeline.

Stations are named as in api-paste.ini. Each module's ``factory`` has the signature PasteDeploy expects.
"""
