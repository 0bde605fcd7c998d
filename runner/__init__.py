"""What the scripts share: configs, run folders, stages, trackers, tables and plots."""
