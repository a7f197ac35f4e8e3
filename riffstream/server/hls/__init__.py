"""HTTP Live Streaming (RFC 8216): playlists and segments of each station for browsers, phones and CDNs."""
