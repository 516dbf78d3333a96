"""What `celery -A workers.app worker` and `celery -A workers.app flower` find."""

from workers.application import build_worker_app
from workers.settings import Settings

app = build_worker_app(Settings())
