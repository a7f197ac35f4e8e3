"""Pushes: connections of the server to servers of others (Icecast, RTMP), which get a station's audio."""
