"""The package beside this file is somebody else's: it is used, and not collected."""

collect_ignore = ["package"]
