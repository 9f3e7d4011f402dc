"""What control shows: status, metrics page, HTTP server, the records for the prediction log."""
