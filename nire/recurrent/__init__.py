"""A content that is remembered from window to window, for sources that have events and no frames."""
