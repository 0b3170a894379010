"""The showcase: a simulated shop to try the platform with. This folder, the simulator and its products can be deleted."""
