"""How large the machine of a run is. A tag names the size; what it means belongs to the launcher and its configuration.

A run without the tag is small. A person who starts one in the UI may set it in the Launchpad.
"""

SIZE_TAG = "bandicoot/size"
SMALL = "small"
LARGE = {SIZE_TAG: "large"}
"""Tag of a job that trains, simulates, or reads many days at once."""
