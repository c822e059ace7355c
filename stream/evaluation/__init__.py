"""Methods compared on real recordings: frames left out, and images that have to agree."""
