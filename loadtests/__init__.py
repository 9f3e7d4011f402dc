"""Load tests with locust (`python -m loadtests.run`) and the request-path benchmark (`python -m loadtests.bench`)."""
