"""What stations need to know of Keystone besides tokens: TLS options and the public URL.

``auth_uri`` may block on a discovery request; call it in the pool "auth".
"""

from typing import Any

from keystoneauth1 import discover, session


def keystone_session(conf: Any) -> session.Session:
    """Return a session with the TLS options of [clients_keystone], or else [clients]."""
    own, shared = conf.clients_keystone, conf.clients

    def option(name: str) -> Any:
        value = getattr(own, name)
        return getattr(shared, name) if value is None else value

    verify = False if option("insecure") else option("ca_file") or True
    certificate, key = option("cert_file"), option("key_file")
    return session.Session(verify=verify, cert=(certificate, key) if certificate and key else certificate)


def auth_uri(conf: Any, v3: bool) -> str | None:
    """Return Keystone's URL for users: discovered below [clients_keystone] auth_uri, else www_authenticate_uri.

    :param v3: rewrite a v2.0 URL (only the second form can be one)
    """
    configured = conf.clients_keystone.auth_uri
    if configured:
        return discover.Discover(session=keystone_session(conf), url=configured).url_for("3.0")
    uri = conf.keystone_authtoken.www_authenticate_uri
    return uri.replace("v2.0", "v3") if uri and v3 else uri
