"""What a device is and how to reach it. This machine needs neither: edgefc.runtime measures it directly."""
