"""Studies: what is tuned, who trains it, how every trial ended. ``codes.tuning.study.run_study`` runs one."""
