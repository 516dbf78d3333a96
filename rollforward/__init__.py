"""Durable fan-out over Celery workers: kill anything, resume, and no finished instance runs twice."""
