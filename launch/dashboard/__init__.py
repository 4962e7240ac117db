"""The web page and the Prometheus metrics of jobs, served from this machine."""
