"""The double integral as re-exposure: gains from events, swept once a window, asked for any shutter."""
