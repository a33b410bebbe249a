"""From the hook to the file and the gallery: a job's images are scored, selected, arranged and reported."""
