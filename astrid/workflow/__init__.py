"""What each step does and on which keys; the only place that schedules."""
