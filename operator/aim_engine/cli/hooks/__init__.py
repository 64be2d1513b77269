"""What the hook Jobs of the chart run: one file each. People have better commands for the same."""
