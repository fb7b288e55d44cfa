"""From spike times and interval tables to counts in bins; simulated sessions; numpy alone."""
