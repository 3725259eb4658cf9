"""Telemetry of a process: traces, metrics, logs and reports of unexpected errors."""
