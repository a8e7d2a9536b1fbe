"""The engine's socket file; see heatperf.socketfile, which has moved down for the helper to use."""

from heatperf.socketfile import MAX_PATH, check_path, listen, peer_uid, prepare_folder, remove_own

__all__ = ["MAX_PATH", "check_path", "listen", "peer_uid", "prepare_folder", "remove_own"]
