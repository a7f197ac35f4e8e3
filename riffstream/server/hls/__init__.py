"""HTTP Live Streaming (RFC 8216): playlists and segments of every station, for browsers, phones and CDNs."""
