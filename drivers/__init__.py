"""Where frames and events come from: cameras, recordings, and what both need."""
