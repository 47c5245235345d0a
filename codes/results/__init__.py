"""From a study to a decision: open it, select, score on held-out data, promote, replay."""
