"""One job, several places to run it. This package starts jobs and watches them."""
