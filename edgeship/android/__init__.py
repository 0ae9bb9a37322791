"""Android boards: the adb program, and what such a board says of itself."""
